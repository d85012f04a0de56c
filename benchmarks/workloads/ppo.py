"""Plays policies over macro-actions and scripted agents on the same items and budget, for ``ppo.py``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

import gymnasium as gym
import numpy as np
import numpy.typing as npt

import atommem_gym  # noqa: F401  (registers the environments)
from atommem_gym.agents import make_agent
from atommem_gym.agents.play import atommem_env, draw_items, play_episode
from atommem_gym.envs import EvidenceReward
from atommem_gym.envs.macro.embedding_observation import EmbeddingObservation
from atommem_gym.envs.macro.macro_actions import KEEP, MERGE, NO_READ, READ_QUESTION, READ_RESULT, SKIP, MacroActions
from atommem_gym.policies.documents import harmless
from atommem_gym.records.layout import stable_rng

ENV_ID = "AtomMem-Synthetic-v0"
TASK: dict[str, Any] = {
    "num_docs": 40,
    "chunk_tokens": 128,
    "max_entries": 12,
    "max_entry_tokens": 128,
    "top_k": 12,
    "store": "numpy",
}
"""The task, for learner and scripted agents alike: 40 documents, a memory of 12 entries of at most 128 tokens."""
SLOTS = 3
DRAWS = {"validation": 0, "test": 3}
"""Seeds of the items drawn from each split; other draws of ``test`` were looked at when the task was another one."""
KINDS = ("create", "update", "delete", "read")
"""The operations that are counted."""

Act: TypeAlias = Callable[[npt.NDArray[np.float32], EmbeddingObservation], Any]
"""From an observation, and the environment for those that look at it by name, to an action."""


@dataclass(frozen=True, slots=True)
class Played:
    """What became of one test episode."""

    index: int
    em: float
    recall: float
    """Share of the evidence that came into sight while answering (SPEC E12, exact)."""
    kept: int
    """Documents of the stream that stand in memory at the end, whole."""
    gold_kept: int
    gold: int
    entries: int
    reads: int
    operations: dict[str, int]
    """Executed operations by kind."""


def text_env(split: str, **changes: Any) -> gym.Env[Any, Any]:
    """The environment as scripted agents play it."""
    return gym.make(ENV_ID, disable_env_checker=True, split=split, **{**TASK, **changes})


def macro_env(split: str, *, shaping: float = 0.0, vectors: int | None = 0, **changes: Any) -> EmbeddingObservation:
    """The same environment for a network.

    Args:
        split: Of the synthetic world.
        shaping: Weight of ``EvidenceReward``, for training only.
        vectors: See ``EmbeddingObservation``.
        **changes: Keywords that differ from ``TASK``.
    """
    env = text_env(split, **changes)
    if shaping:
        env = EvidenceReward(env, weight=shaping)
    return EmbeddingObservation(MacroActions(env, slots=SLOTS), vectors=vectors)


def play_scripted(agent: str, split: str, episodes: int, **changes: Any) -> list[Played]:
    """Episodes of a scripted agent."""
    with closing(text_env(split, **changes)) as env:
        player = make_agent(agent)
        played = []
        for index, shuffle_seed in draw_items(atommem_env(env).num_items, episodes, DRAWS[split]):
            play_episode(env, player, index, shuffle_seed=shuffle_seed)
            played.append(_played(env, index))
        return played


def play_macro(act: Act, split: str, episodes: int, **changes: Any) -> list[Played]:
    """Episodes of a policy over macro-actions, on the items that :func:`play_scripted` plays."""
    with closing(macro_env(split, **changes)) as env:
        played = []
        for index, shuffle_seed in draw_items(atommem_env(env).num_items, episodes, DRAWS[split]):
            observation, _ = env.reset(options={"index": index, "shuffle_seed": shuffle_seed})
            over = False
            while not over:
                observation, _, over, _, _ = env.step(act(observation, env))
            played.append(_played(env, index))
        return played


def random_choices(seed: int) -> Act:
    """Uniform choices, the floor of the action space."""
    rng = stable_rng("random macro-actions", seed)

    def act(_: npt.NDArray[np.float32], env: EmbeddingObservation) -> Any:
        return rng.integers(env.action_space.nvec)  # type: ignore[attr-defined]

    return act


def greedy_choices(observation: npt.NDArray[np.float32], env: EmbeddingObservation) -> list[int]:
    """A rule by hand over the same features: always the most relevant documents that fit.

    Keeps while there is room, then merges what is more relevant than the least relevant entry, and drops that entry
    for a more relevant document that has no room. Reads as :func:`_reads`.
    """
    scalars, documents = (env.named(observation)[part] for part in ("scalars", "documents"))
    free = _free(scalars)
    better = documents["margin"] > 0
    drop = not free and bool((better & (documents["mergeable"] == 0) & (documents["offered"] == 1)).any())
    free += drop
    choices = []
    for place in range(SLOTS):
        if not documents["offered"][place]:
            choices.append(SKIP)
        elif free and (better[place] or not drop):
            choices.append(KEEP)
            free -= 1
        else:
            choices.append(MERGE if better[place] and documents["mergeable"][place] else SKIP)
    return [*choices, int(drop), _reads(scalars)]


def packing_choices(observation: npt.NDArray[np.float32], env: EmbeddingObservation) -> list[int]:
    """Stores whatever comes, looking at nothing: keeps while there is room, then merges while entries have some.

    What it scores is what merging alone gains, without any choice of documents. Reads as :func:`_reads`.
    """
    scalars = env.named(observation)["scalars"]
    free = _free(scalars)
    return [*(KEEP if place < free else MERGE for place in range(SLOTS)), 0, _reads(scalars)]


def _free(scalars: Mapping[str, Any]) -> int:
    return round(TASK["max_entries"] * (1 - float(scalars["entries"])))


def _reads(scalars: Mapping[str, Any]) -> int:
    """While answering the question, then what was found, until no read is left."""
    if scalars["answering"] == 0:
        return NO_READ
    return READ_QUESTION if scalars["reads_left"] == 1 else READ_RESULT


def _played(env: gym.Env[Any, Any], index: int) -> Played:
    episode = atommem_env(env).episode
    entries = [entry.text for entry in episode.state.memory.entries.values()]
    state = episode.state
    gold = {document for question in episode.item.questions for document in question.gold_documents}
    kept = [d for d in episode.item.documents if any(harmless(d.text) in text for text in entries)]
    needed = sum(len(question.evidence) for question in episode.item.questions)
    return Played(
        index=index,
        em=float(np.mean([closing.score for closing in state.closings])),
        recall=round(len(state.found_exactly) / needed, 4),
        kept=len(kept),
        gold_kept=sum(document in gold for document in kept),
        gold=len(gold),
        entries=len(entries),
        reads=state.applied["read"],
        operations={kind: state.applied[kind] for kind in KINDS},
    )


def columns(played: Sequence[Played]) -> dict[str, Any]:
    """Episodes as one list a field, which JSON holds in a fifth of the space."""
    return {field.name: [getattr(one, field.name) for one in played] for field in fields(Played)} | {
        "operations": {kind: [one.operations[kind] for one in played] for kind in KINDS}
    }


def from_columns(table: dict[str, Any]) -> list[Played]:
    """The inverse of :func:`columns`."""
    operations = [dict(zip(KINDS, counts, strict=True)) for counts in zip(*table["operations"].values(), strict=True)]
    names = [field.name for field in fields(Played)]
    rows = zip(*({**table, "operations": operations}[name] for name in names), strict=True)
    return [Played(*row) for row in rows]


def mean(values: Iterable[float]) -> float:
    """The arithmetic mean."""
    return float(np.mean(list(values)))
