"""``atommem data verl`` and ``skyrl``: which items to train on and to validate with, as Parquet files of a trainer."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeAlias

import gymnasium as gym
import pyarrow as pa
import tyro
from rich.text import Text

import atommem_gym
from atommem_gym.agents.learn.training_numbers import SessionSteps
from atommem_gym.agents.play import draw_items
from atommem_gym.commands.consoles import output
from atommem_gym.commands.run import Repeated, check_set, parse_settings
from atommem_gym.config import EnvConfig
from atommem_gym.embedders.loading import check_model_name
from atommem_gym.errors import AtomMemError, ConfigError, counted, reason_of
from atommem_gym.plugins.loading import check_plugin, plugins_in
from atommem_gym.prompts.render import check_template_file
from atommem_gym.records import verl_rows
from atommem_gym.records.files import files_of_split, split_name
from atommem_gym.records.record import Item, Items
from atommem_gym.records.verl_rows import ItemReference, references, write_rows
from atommem_gym.registration import configure, load_items, resolve_env_id, task_of
from atommem_gym.scoring import load_scorer
from atommem_gym.task import Task
from atommem_gym.terminal import printable
from atommem_gym.trust import is_built_in_template

_LOOKED_AT = 64
"""Items whose streams are cut to see how long sessions are."""
_Asked: TypeAlias = tuple[str, tuple[str, ...]]
"""A question with its answers: the same words may be asked of different documents."""


@dataclass(frozen=True)
class Layout:
    """The columns of a trainer's files."""

    trainer: str
    """Names the file that says what the others were made of."""
    schema: pa.Schema
    """The columns with their types."""
    row: Callable[[ItemReference, Item, str], dict[str, Any]]
    """Makes a row from the reference of an item, the item and the name of its task."""


@dataclass
class DataVerl:
    """Write train.parquet and validation.parquet for veRL.

    A row refers to an item. When the item is played, a hash shows whether it is still the same.

    Example: atommem data verl HotpotQA -o data --set source=/data/hotpotqa --train 4096 --validation 256
    """

    env_id: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ENV_ID")]
    """AtomMem-HotpotQA-v0 or, for short, HotpotQA; `atommem envs` lists all."""
    out: Annotated[Path, tyro.conf.arg(name="output", aliases=("-o",), metavar="DIR")]
    """The folder for both files, and for verl.json, which says what they were made of."""
    train: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """Items to train on; 0 for all. An item that comes again has another layout."""
    validation: Annotated[int, tyro.conf.arg(metavar="N")] = 128
    """Items to validate with, always in the same layout; 0 for all."""
    settings: Annotated[Repeated, tyro.conf.UseAppendAction, tyro.conf.arg(name="set", metavar="KEY=VALUE…")] = ()
    """Keyword arguments of the environment, such as num_docs=400 embedder=minilm."""
    validation_settings: Annotated[
        Repeated, tyro.conf.UseAppendAction, tyro.conf.arg(name="validation-set", metavar="KEY=VALUE…")
    ] = ()
    """Keyword arguments for validation alone, such as source=dev.json. Its split is validation unless given."""
    seed: Annotated[int, tyro.conf.arg(metavar="S")] = 0
    """Draws the items."""

    layout: ClassVar[Layout] = Layout("verl", verl_rows.SCHEMA, verl_rows.row)

    def run(self) -> int:
        """Write the files and print where they are; the exit status."""
        env_id = resolve_env_id(self.env_id)
        keywords = parse_settings(list(chain.from_iterable(self.settings)))
        changes = parse_settings(list(chain.from_iterable(self.validation_settings)), "--validation-set")
        parts = {
            "train": (keywords, self.train),
            "validation": ({**keywords, "split": "validation", **changes}, self.validation),
        }
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            configs = {part: self._config(part, env_id, *given) for part, given in parts.items()}
            _check_sources(configs["train"], configs["validation"])
            # Both are loaded before the first row is made: that takes minutes.
            items = {part: self._items(part, env_id, config, parts[part][1]) for part, config in configs.items()}
            rows: dict[str, list[dict[str, Any]]] = {}
            questions: dict[str, set[_Asked]] = {}
            steps: dict[str, SessionSteps] = {}
            for part, (part_keywords, count) in parts.items():
                indices = self._indices(items[part], count)
                rows[part], questions[part] = self._rows(part, env_id, _absolute(part_keywords), items[part], indices)
                steps[part] = SessionSteps.of(items[part], configs[part], indices[:: -(-len(indices) // _LOOKED_AT)])
            _check_apart(questions["train"], questions["validation"])
            written = {part: write_rows(self.out / f"{part}.parquet", rows[part], self.layout.schema) for part in parts}
            self._describe(env_id, parts, written, steps)
        except OSError as error:
            raise AtomMemError(f"--output {self.out} cannot be written: {reason_of(error)}") from error
        for part, count in written.items():
            known = steps[part]
            said = (
                f"wrote {self.out / part}.parquet: {counted(count, 'item')}; {known.chunks:.1f} chunks and "
                f"{known.least:.1f} to {known.most:.1f} steps per session, each step a row for the trainer"
            )
            output().print(Text(printable(said)), soft_wrap=True)
        return 0

    def _config(self, part: str, env_id: str, keywords: Mapping[str, Any], count: int) -> EnvConfig:
        if count < 0:
            raise ConfigError(f"--{part} {count} must be 0 (all items) or more")
        unknown = [key for key in keywords if key not in {one.name for one in fields(EnvConfig)}]
        if unknown:
            check_set(env_id, unknown)
        return _configured(env_id, _absolute(keywords))

    def _items(self, part: str, env_id: str, config: EnvConfig, count: int) -> Items:
        items = load_items(_task(env_id).name, config)
        if count > items.num_items:
            raise ConfigError(
                f"--{part} {count} is more than the {counted(items.num_items, 'item')} of {items.name}; use 0 for all"
            )
        return items

    def _indices(self, items: Items, count: int) -> list[int]:
        return sorted(index for index, _ in draw_items(items.num_items, count or items.num_items, self.seed))

    def _rows(
        self, part: str, env_id: str, keywords: Mapping[str, Any], items: Items, indices: Sequence[int]
    ) -> tuple[list[dict[str, Any]], set[_Asked]]:
        """The rows of one file, and their questions."""
        rows: list[dict[str, Any]] = []
        questions: set[_Asked] = set()
        for reference, item in references(env_id, keywords, items, indices, part=part):
            rows.append(self.layout.row(reference, item, _task(env_id).name))
            questions.update((question.question, question.answers) for question in item.questions)
        return rows, questions

    def _describe(
        self, env_id: str, parts: Mapping[str, Any], written: Mapping[str, int], steps: Mapping[str, SessionSteps]
    ) -> None:
        """Write down what the files were made of."""
        about = {
            "env_id": env_id,
            "seed": self.seed,
            "parts": {
                part: {"keywords": parts[part][0], "items": count, "steps": steps[part].as_json()}
                for part, count in written.items()
            },
            "versions": {
                "atommem_gym": atommem_gym.__version__,
                "pyarrow": importlib.metadata.version("pyarrow"),
                "python": platform.python_version(),
            },
        }
        path = self.out / f"{self.layout.trainer}.json"
        path.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


@dataclass
class DataSkyRL(DataVerl):
    """Write train.parquet and validation.parquet for SkyRL.

    A row refers to an item. When the item is played, a hash shows whether it is still the same.

    Example: atommem data skyrl HotpotQA -o data --set source=/data/hotpotqa --train 4096 --validation 256
    """

    out: Annotated[Path, tyro.conf.arg(name="output", aliases=("-o",), metavar="DIR")]
    """The folder for both files, and for skyrl.json, which says what they were made of."""

    layout: ClassVar[Layout] = Layout("skyrl", verl_rows.SKYRL_SCHEMA, verl_rows.skyrl_row)


def _task(env_id: str) -> Task:
    task = task_of(env_id)
    if task is None:
        raise ConfigError(f"{env_id} has no items of its own; `atommem envs` lists the environments that have")
    return task


def _configured(env_id: str, keywords: Mapping[str, Any]) -> EnvConfig:
    """The configuration of a part, the environment's defaults included.

    Raises:
        ConfigError: a keyword is wrong, also one that only the trainer will use, such as the name of an embedder.
    """
    defaults = {name: value for name, value in gym.spec(env_id).kwargs.items() if name != "task"}
    config = configure(_task(env_id).name, {**defaults, **keywords})
    check_model_name(config.embedder)
    if config.template is not None:
        check_template_file(config.template)
    if isinstance(config.reward, str) and config.reward != "judge":  # whose key the trainer's machine may have alone
        load_scorer(config.reward)
    for keyword, value in plugins_in({name: getattr(config, name) for name in EnvConfig.__slots__}).items():
        check_plugin(keyword, value)
    return config


def _check_sources(train: EnvConfig, validation: EnvConfig) -> None:
    """Splits stay separate (SPEC D3): two draws from the same records share documents, if not questions."""
    if "synthetic" in (train.source, validation.source):
        return
    shared = _records_of(train) & _records_of(validation)
    if shared:
        raise ConfigError(
            f"train and validation are both drawn from {min(shared)}, so they would share documents: cut it in two and "
            "name the other half with --validation-set source=…, or another split with split=…"
        )


def _records_of(config: EnvConfig) -> set[str]:
    """The files that hold the records, or the split's name where there are none."""
    path = Path(config.source).expanduser()
    if path.exists():
        return {str(file.resolve()) for file in files_of_split(path, split_name(config.split))}
    return {f"{config.source}, split {config.split}"}


def _absolute(keywords: Mapping[str, Any]) -> dict[str, Any]:
    """The keyword arguments, with local files as absolute paths: workers have another working directory."""
    paths = {name: keywords[name] for name in ("source", "template") if isinstance(keywords.get(name), str)}
    if is_built_in_template(paths.get("template")):
        del paths["template"]
    local = {name: str(Path(path).resolve()) for name, path in paths.items() if Path(path).exists()}
    return {**keywords, **local}


def _check_apart(train: set[_Asked], validation: set[_Asked]) -> None:
    shared = train & validation
    if shared:
        raise ConfigError(
            f"train and validation share {counted(len(shared), 'question')}, such as {min(shared)[0]!r}: validation "
            "would flatter; name another file or split with --validation-set source=… split=…"
        )
