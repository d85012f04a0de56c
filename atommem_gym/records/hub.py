"""The places of the data sets on the Hugging Face hub and in their official archives (SPEC D1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from atommem_gym.errors import DatasetUnavailableError
from atommem_gym.records.formats import factconsolidation, hotpotqa, locomo, longmemeval, musique, twowiki
from atommem_gym.records.reading import RawRecord
from atommem_gym.trust import on_command_line


@dataclass(frozen=True, slots=True)
class HubSource:
    """One data set on the hub, and the official files to use if the hub cannot be reached."""

    repository: str | None
    """The repository; ``None`` if its authors published it elsewhere."""
    config: str | None
    """The configuration that ``datasets.load_dataset`` takes; ``None`` if there is none."""
    revision: str | None
    """The pinned commit; ``None`` if none could be established."""
    splits: Mapping[str, str]
    """Our split name to the hub's."""
    fields: tuple[str, ...]
    """The fields of a raw record that are read."""
    tried: bool
    """Whether this project has loaded it from the hub at this revision and parsed every record."""
    home: str
    """The data set's official page."""
    files: Mapping[str, str]
    """Our split name to the file in the official archive."""
    download: str
    """A command that fetches the official files; ``{file}`` stands for the file's name."""


# None is marked as tried, since the hub could not be reached. Repositories, splits and fields are
# those that public code reads; each revision is quoted, with its repository, by several independent public projects.
HUB: Mapping[str, HubSource] = {
    hotpotqa.NAME: HubSource(
        repository="hotpotqa/hotpot_qa",
        config="distractor",
        revision="1908d6afbbead072334abe2965f91bd2709910ab",
        splits={"train": "train", "validation": "validation"},
        fields=("id", "question", "answer", "type", "level", "supporting_facts", "context"),
        tried=False,
        home="https://hotpotqa.github.io",
        files={"train": "hotpot_train_v1.1.json", "validation": "hotpot_dev_distractor_v1.json"},
        download="curl -L -O http://curtis.ml.cmu.edu/datasets/hotpot/{file}",
    ),
    twowiki.NAME: HubSource(
        repository="framolfese/2WikiMultihopQA",
        config=None,
        revision="fe713bfbd1afbca1a65246741a75890405d56a3a",
        splits={"train": "train", "validation": "validation"},
        fields=("id", "question", "answer", "type", "evidences", "supporting_facts", "context"),
        tried=False,
        home="https://github.com/Alab-NII/2wikimultihop",
        files={"train": "train.json", "validation": "dev.json"},
        download="curl -L -o data_ids_april7.zip 'https://www.dropbox.com/s/ms2m13252h6xubs/data_ids_april7.zip?dl=1' "
        "&& unzip data_ids_april7.zip",
    ),
    musique.NAME: HubSource(
        repository="dgslibisey/MuSiQue",
        config=None,
        revision="c8f4f8c9465fb69d31a8eae894c3fd509c4ca321",
        splits={"train": "train", "validation": "validation"},
        fields=musique.FIELDS,
        tried=False,
        home="https://github.com/StonyBrookNLP/musique",
        files={"train": "musique_ans_v1.0_train.jsonl", "validation": "musique_ans_v1.0_dev.jsonl"},
        download="pip install gdown && gdown 1tGdADlNjWFaHLeZZGShh2IRcpO6Lv24h -O musique_v1.0.zip "
        "&& unzip musique_v1.0.zip",
    ),
    locomo.NAME: HubSource(
        repository=None,
        config=None,
        revision=None,
        splits={},
        fields=("sample_id", "conversation", "qa"),
        tried=False,
        home="https://github.com/snap-research/locomo",
        files={"train": "locomo10.json"},
        download="curl -L -O https://raw.githubusercontent.com/snap-research/locomo/main/data/{file}",
    ),
    # For the two below no revision could be established, so none is pinned.
    factconsolidation.NAME: HubSource(
        repository="ai-hyz/MemoryAgentBench",
        config=None,
        revision=None,
        splits={"train": "Conflict_Resolution"},
        fields=("context", "questions", "answers", "metadata"),
        tried=False,
        home="https://github.com/HUST-AI-HYZ/MemoryAgentBench",
        files={"train": "the Parquet file of the split Conflict_Resolution"},
        download="pip install -U huggingface_hub && "
        "hf download ai-hyz/MemoryAgentBench --repo-type dataset --local-dir .",
    ),
    longmemeval.NAME: HubSource(
        repository="xiaowu0162/longmemeval-cleaned",
        config=None,
        revision=None,
        splits={},
        fields=("question_id", "question_type", "question", "answer", "question_date", "haystack_sessions"),
        tried=False,
        home="https://github.com/xiaowu0162/LongMemEval",
        files={"train": "longmemeval_s_cleaned.json"},
        download="curl -L -O https://huggingface.co/datasets/xiaowu0162/longmemeval-cleaned/resolve/main/{file}",
    ),
}
"""The table of hub sources by data set."""


def read_hub(dataset: str, split: str) -> Iterator[RawRecord]:
    """Read the records of a split with the ``datasets`` library, which has its own download cache.

    Raises:
        DatasetUnavailableError: the split is not on the hub, ``datasets`` is not installed, or the hub is unreachable;
            the message says what was tried and which commands help.
    """
    source = HUB[dataset]
    if not source.splits:
        raise DatasetUnavailableError(
            f"{dataset} is not read from the hub: it is published as files there or elsewhere. "
            f"{official_help(dataset, split)}"
        )
    if split not in source.splits:
        raise DatasetUnavailableError(
            f"the hub has no split {split!r} of {dataset} with answers: use one of {', '.join(source.splits)}"
        )
    call = f"datasets.load_dataset({source.repository!r}, {source.config!r}, split={source.splits[split]!r}, "
    call += f"revision={source.revision!r})"
    try:
        import datasets
    except ImportError as error:
        reason = f"the package `datasets` is not installed ({error})"
        raise _unavailable(dataset, split, call, reason, 'pip install "atommem-gym[hub]"') from error
    try:
        table = datasets.load_dataset(
            source.repository, source.config, split=source.splits[split], revision=source.revision
        )
    except Exception as error:  # the library lets errors of its HTTP client, its cache and its builders through
        reason = f"{type(error).__name__}: {error}"
        raise _unavailable(dataset, split, call, reason) from error
    path = Path(f"hub:{source.repository}") / source.splits[split]
    for number, row in enumerate(table, start=1):
        yield RawRecord(path, f"record {number}", row)


def official_help(dataset: str, split: str) -> str:
    """The part of a message that says how to get the official file of a split; empty for custom records."""
    if dataset not in HUB:
        return ""
    source = HUB[dataset]
    # Data sets of contexts have one file, which is the split that is asked for.
    file = source.files.get(split) or (
        f"a file of the split {split!r}" if len(source.files) > 1 else next(iter(source.files.values()))
    )
    how = "--set source=PATH (atommem eval: --source ENV=PATH)" if on_command_line() else f'source="path/to/{file}"'
    return (
        f"The official archive's file is {file} ({source.home}):\n"
        f"  {source.download.format(file=file)}\n"
        f"then pass its path: {how}"
    )


def _unavailable(dataset: str, split: str, call: str, reason: str, *commands: str) -> DatasetUnavailableError:
    lines = [f"{dataset}/{split} could not be read from the hub.", f"Tried: {call}", f"Failed: {reason}"]
    lines += [f"Try: {command}" for command in commands]
    lines += [f"Or without the hub. {official_help(dataset, split)}"]
    if dataset not in (factconsolidation.NAME, locomo.NAME, longmemeval.NAME):
        how = "--set source=synthetic" if on_command_line() else 'source="synthetic"'
        lines += [f"Or generated records: {how}"]
    return DatasetUnavailableError("\n".join(lines))
