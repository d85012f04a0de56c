"""Where the three data sets lie on the Hugging Face hub and in their official archives (SPEC D1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from atommem_gym.errors import DatasetUnavailableError
from atommem_gym.records.formats import hotpotqa, musique, twowiki
from atommem_gym.records.reading import RawRecord


@dataclass(frozen=True, slots=True)
class HubSource:
    """One data set on the hub, and the official files to use where the hub is out of reach."""

    repository: str
    config: str | None
    revision: str | None
    """The pinned commit; ``None`` where none could be established."""
    splits: Mapping[str, str]
    """Our split name to the hub's."""
    fields: tuple[str, ...]
    tried: bool
    """Whether this project has loaded it from the hub at this revision, and parsed every record."""
    home: str
    """The data set's official page."""
    files: Mapping[str, str]
    """Our split name to the official archive's file."""
    download: str
    """A command that fetches the official files; ``{file}`` stands for the file's name."""


# None is marked as tried: the hub could not be reached where this was written. Repositories, splits and fields are
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
}
"""The table of hub sources by data set."""


def read_hub(dataset: str, split: str) -> Iterator[RawRecord]:
    """The records of a split through the ``datasets`` library, which keeps its own download cache.

    Raises:
        DatasetUnavailableError: the split is not on the hub, ``datasets`` is not installed, or the hub is out of reach;
            the message says what was tried and which commands help.
    """
    source = HUB[dataset]
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
    """How to get the official file of a split and how to pass it; empty for records of one's own."""
    if dataset not in HUB:
        return ""
    source = HUB[dataset]
    file = source.files.get(split, f"a file of the split {split!r}")
    return (
        f"The official archive's file is {file} ({source.home}):\n"
        f"  {source.download.format(file=file)}\n"
        f'then pass its path: source="path/to/{file}"'
    )


def _unavailable(dataset: str, split: str, call: str, reason: str, *commands: str) -> DatasetUnavailableError:
    lines = [f"{dataset}/{split} could not be read from the hub.", f"Tried: {call}", f"Failed: {reason}"]
    lines += [f"Try: {command}" for command in commands]
    lines += [f"Or without the hub. {official_help(dataset, split)}", 'Or generated records: source="synthetic"']
    return DatasetUnavailableError("\n".join(lines))
