"""Writes traces as a Minari dataset: all episodes with their rewards, for offline reinforcement learning."""

from __future__ import annotations

import contextlib
import copy
import json
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

import atommem_gym
from atommem_gym.config import EnvConfig
from atommem_gym.errors import ConfigError, reason_of
from atommem_gym.plugins.loading import module_of, plugins_in
from atommem_gym.registration import task_of
from atommem_gym.traces.files import read_traces
from atommem_gym.traces.record import EpisodeTrace, TraceError
from atommem_gym.trust import is_module_said, is_said, unsaid

DATASET = "atommem/traces-v0"
"""The id of the dataset, below the folder to which ``MINARI_DATASETS_PATH`` must point."""
TEXTS = ("question", "chunk", "scratchpad", "query", "memories", "feedback")
"""The texts of an observation; ``memories`` is written as JSON, since Minari has no spaces of variable length."""
_NUMBERS = ("phase", "progress", "reads_left", "steps_left")
_LARGEST = 2**31 - 1
# HDF5 cannot hold a NUL in a text, nor can UTF-8 hold a lone surrogate.
_UNWRITABLE = re.compile("[\0\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class MinariExported:
    """The result of :func:`export_minari`."""

    episodes: int
    """Number of episodes."""
    steps: int
    """Number of steps."""
    environment: bool
    """Whether ``dataset.recover_environment()`` makes the environment; only if all episodes share one."""
    withheld: tuple[tuple[str, Any], ...]
    """Keyword arguments that prevent it: only the traces name what they open, call or import."""
    path: Path
    """The folder of the dataset."""


def export_minari(sources: Sequence[Path], folder: Path) -> MinariExported:
    """Write all episodes of trace files as a Minari dataset; the dataset of an earlier export is replaced.

    The dataset names its environment only if that needs no trust in the traces, since recovering it later asks no
    questions any more.

    The traces are read twice, once for the spaces and once to write, so memory stays bounded.

    Args:
        sources: Trace files.
        folder: The folder of Minari datasets (``MINARI_DATASETS_PATH``); it is made if needed.

    Raises:
        ConfigError: the package ``minari`` is missing.
        TraceError: a file cannot be read or written, or there is no episode.
    """
    try:
        # Minari imports these only when it writes.
        import h5py  # noqa: F401
        import minari
        import PIL.Image  # noqa: F401
        from minari.dataset.minari_storage import MinariStorage
    except ImportError as error:
        raise ConfigError(f"--format minari needs Minari ({error}): pip install 'atommem-gym[minari]'") from error
    action, observation = _Texts(), {name: _Texts() for name in TEXTS}
    environments: Counter[str] = Counter()
    agents: set[str] = set()
    first: EpisodeTrace | None = None
    for trace in _read(sources):
        first = first or trace
        environments[json.dumps([trace.env.id, trace.env.keywords, trace.env.shaping], sort_keys=True)] += 1
        agents.add(trace.agent.name)
        for step in trace.steps:
            action.add(_text(step.action))
        for seen in _observations(trace):
            for name, texts in observation.items():
                texts.add(_observed(seen, name))
    if first is None:
        raise TraceError(f"there is no episode in {', '.join(map(str, sources))}; name files of traces")
    withheld = tuple(_withheld(first)) if len(environments) == 1 and not first.env.shaping else ()
    spec = _spec(first) if len(environments) == 1 and not withheld else None
    path, partial = folder / DATASET, folder / f"{DATASET}.partial"
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        storage = MinariStorage.new(
            partial.absolute() / "data",  # Minari takes a relative path twice
            observation_space=spaces.Dict(
                {
                    "phase": spaces.Discrete(2),
                    "progress": spaces.Box(0, _LARGEST, (2,), np.int64),
                    "reads_left": spaces.Discrete(_LARGEST),
                    "steps_left": spaces.Discrete(_LARGEST),
                    **{name: texts.space() for name, texts in observation.items()},
                }
            ),
            action_space=action.space(),
            env_spec=spec,
        )
        about = {
            "dataset_id": DATASET,
            "minari_version": minari.__version__,
            "algorithm_name": ", ".join(sorted(agents)),
            "description": "Episodes of " + "; ".join(sorted(environments)),
            "requirements": [f"atommem-gym=={atommem_gym.__version__}"],
        }
        storage.update_metadata(about)
        storage.update_episodes(map(_buffer, _read(sources)))
        exported = MinariExported(
            int(storage.total_episodes), int(storage.total_steps), spec is not None, withheld, path
        )
        _put_in_place(partial, path)
        # Minari lists only datasets in folders that have this file.
        with contextlib.suppress(FileExistsError), (path.parent / "namespace_metadata.json").open("x") as namespace:
            namespace.write("{}\n")
    except OSError as error:
        raise TraceError(f"{folder} cannot be written ({reason_of(error)}); name another folder") from error
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(partial)
    return exported


def _put_in_place(new: Path, path: Path) -> None:
    """Replace a folder by a new one; the old one stays until the new one is in place."""
    old = path.with_name(f"{path.name}.replaced")
    shutil.rmtree(old, ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):
        path.replace(old)
    try:
        new.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            old.replace(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


class _Texts:
    """The characters and the greatest length of the texts in one place, for its space."""

    def __init__(self) -> None:
        self._characters: set[str] = set()
        self._longest = 1

    def add(self, text: str) -> None:
        self._characters.update(text)
        self._longest = max(self._longest, len(text))

    def space(self) -> spaces.Text:
        # A space needs at least one character.
        return spaces.Text(self._longest, min_length=0, charset="".join(sorted(self._characters)) or " ")


def _buffer(trace: EpisodeTrace) -> Any:
    """An episode in Minari's form, with one observation more than actions."""
    from minari.data_collector import EpisodeBuffer

    observations = _observations(trace)
    return EpisodeBuffer(
        options={"index": trace.index, "shuffle_seed": trace.shuffle_seed},
        observations={
            **{name: np.asarray([seen[name] for seen in observations], np.int64) for name in _NUMBERS},
            **{name: [_observed(seen, name) for seen in observations] for name in TEXTS},
        },
        actions=[_text(step.action) for step in trace.steps],
        rewards=[float(step.reward) for step in trace.steps],
        terminations=[step.terminated for step in trace.steps],
        truncations=[step.truncated for step in trace.steps],
    )


def _observations(trace: EpisodeTrace) -> list[dict[str, Any]]:
    return [*(step.observation for step in trace.steps), trace.final_observation]


def _observed(observation: dict[str, Any], name: str) -> str:
    value = observation[name]
    return _text(json.dumps(value, ensure_ascii=False) if name == "memories" else value)


def _text(text: str) -> str:
    return _UNWRITABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def _spec(trace: EpisodeTrace) -> Any:
    """The Gymnasium spec of the environment; ``None`` for custom items or a reward with shaping."""
    # Only this package's ids: other environments of Gymnasium may import what their keyword arguments name.
    if trace.env.shaping or task_of(trace.env.id) is None:
        return None
    spec = copy.deepcopy(gym.spec(trace.env.id))
    spec.kwargs.update(trace.env.keywords)
    return spec


def _withheld(trace: EpisodeTrace) -> Iterator[tuple[str, Any]]:
    """The keyword arguments that import, open or call something that only the trace names."""
    task, keywords = task_of(trace.env.id), dict(trace.env.keywords)
    if task is not None and task.dataset is not None:
        keywords.setdefault("source", EnvConfig().source)
    for name, value in plugins_in(keywords).items():
        if not is_module_said(module_of(value)):
            yield name, value
    yield from unsaid(keywords)
    source = keywords.get("source", "synthetic")
    if source not in ("synthetic", "registered") and not is_said(str(source)):
        yield "source", source
    for name in ("embedder_options", "reader_options"):
        options = keywords.get(name)
        variable = options.get("api_key_env", "OPENAI_API_KEY") if isinstance(options, dict) else "OPENAI_API_KEY"
        if variable != "OPENAI_API_KEY" and not is_said(str(variable)):
            yield f"{name}.api_key_env", variable


def _read(sources: Iterable[Path]) -> Iterator[EpisodeTrace]:
    return chain.from_iterable(map(read_traces, sources))
