"""Observations as one vector of numbers, so that a simple network can be the policy."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs

from atommem_gym.envs.branching import shallow
from atommem_gym.envs.macro.macro_actions import MacroActions
from atommem_gym.envs.macro.macro_state import MacroState, Measures
from atommem_gym.envs.macro.relevance import Array
from atommem_gym.envs.wrappers.base import check_observations, plain_base
from atommem_gym.errors import ConfigError, check_integer
from atommem_gym.records.layout import stable_rng
from atommem_gym.step import Observation, Phase

Vector = npt.NDArray[np.float32]

SCALARS = (
    "answering",
    "progress",
    "steps_left",
    "reads_left",
    "entries",
    "tokens",
    "waiting",
    "shown",
    "best_score",
    "unasked",
    "least_relevance",
    "mean_relevance",
    "most_relevance",
    "best_offered",
    "gain",
)
"""The numbers in ``layout["scalars"]``, see :class:`EmbeddingObservation`."""
FEATURES = (
    "offered",
    "to_question",
    "in_question",
    "relevance",
    "margin",
    "rank",
    "among_offered",
    "to_stored",
    "named_by_stored",
    "names_stored",
    "to_result",
    "named_by_result",
    "to_mergeable",
    "mergeable",
    "tokens",
)
"""The numbers in ``layout["documents"]`` for each slot, see :class:`EmbeddingObservation`."""


class EmbeddingObservation(gym.Wrapper[Any, Any, Observation, Any], RecordConstructorArgs):
    """An observation as one vector, a ``Box``, over
    :class:`~atommem_gym.envs.macro.macro_actions.MacroActions`.

    Observation space, float32 in [-1, 1], in this order (``layout`` has the slices; shares are of the limit):
        - ``scalars``: ``answering`` (0 or 1), ``progress`` (share of chunks read), ``steps_left`` and ``reads_left``
          (shares), ``entries`` (share of ``max_entries``; 0 if there is no limit), ``tokens`` (share of
          ``max_entries * max_entry_tokens`` in use), ``waiting`` (pieces that wait; 1 means twice the slots or more),
          ``shown`` (share of ``top_k``), ``best_score`` (of the memories shown), ``unasked`` (1 if a result can
          serve as a query), the least, mean and greatest relevance of the entries, that of the best piece offered, and
          its ``gain`` over the least relevant entry (these five halved);
        - ``documents``, ``slots`` times ``FEATURES`` (all 0 for a free slot): ``offered`` (1), ``to_question`` (cosine
          similarity to the nearest question), ``in_question`` (how much of the title a question names), ``relevance``
          (chain relevance, halved), ``margin`` (relevance minus that of the least relevant entry), ``rank`` (share of
          entries that are less relevant), ``among_offered`` (share of the other pieces offered that are), ``to_stored``
          (similarity to the nearest stored piece), ``named_by_stored`` (how much of its title one names, times that
          one's relevance), ``names_stored`` (the same in reverse), ``to_result`` and ``named_by_result`` (the same for
          the best memory shown), ``to_mergeable`` (similarity to the entry that a merge would choose), ``mergeable``
          (1 if there is one), ``tokens`` (share of ``max_entry_tokens``);
        - ``embeddings``, ``(2 + slots) * vectors``: unit vectors from the environment's embedder (of the part that it
          reads of a text) of the question, the best memory shown and each piece offered (zeros if there is
          none), under one fixed random projection to ``vectors`` dimensions that keeps inner products on average
          (Johnson & Lindenstrauss 1984).

    Args:
        env: An environment with ``MacroActions`` in its chain of wrappers.
        vectors: Dimensions of each embedding; 0 for no embeddings, ``None`` for the embedder's dimension.

    Raises:
        ConfigError: there is no ``MacroActions`` below, or ``vectors`` is invalid.

    Example:
        >>> import gymnasium as gym, atommem_gym
        >>> env = gym.make("AtomMem-Synthetic-v0", num_docs=20, chunk_tokens=300, max_entries=6, store="numpy")
        >>> env = EmbeddingObservation(MacroActions(env, slots=4), vectors=16)
        >>> env.observation_space.shape, env.layout["documents"]
        ((171,), slice(15, 75, None))
        >>> observation, info = env.reset(seed=0)
        >>> env.named(observation)["documents"]["offered"].tolist()
        [1.0, 1.0, 1.0, 1.0]
        >>> env.close()
    """

    def __init__(self, env: gym.Env[Observation, Any], vectors: int | None = 32) -> None:
        RecordConstructorArgs.__init__(self, vectors=vectors)
        base = plain_base(self, env)
        self._macro = _macro_actions(env)
        check_observations(self, env, base)
        super().__init__(env)
        dim = self._macro.macro_state.dim
        self.vectors = dim if vectors is None else check_integer("vectors", vectors, 0, or_else=", or None for all")
        self._projection = None
        if vectors:
            draw = stable_rng("embedding observation", dim, vectors).standard_normal((dim, vectors))
            self._projection = draw / np.sqrt(vectors)
        slots = self._macro.slots
        documents = len(SCALARS) + slots * len(FEATURES)
        size = documents + (2 + slots) * self.vectors
        self.layout = {
            "scalars": slice(0, len(SCALARS)),
            "documents": slice(len(SCALARS), documents),
            "embeddings": slice(documents, size),
        }
        """The slices of the parts of an observation."""
        self.observation_space = spaces.Box(-1.0, 1.0, (size,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Vector, dict[str, Any]]:
        """Begin an episode."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self.observation(observation), info

    def step(self, action: Any) -> tuple[Vector, float, bool, bool, dict[str, Any]]:
        """Execute the choices, see ``MacroActions.step``."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return self.observation(observation), float(reward), terminated, truncated, info

    def fork(self, n: int) -> list[EmbeddingObservation]:
        """Make ``n`` running copies, see ``MacroActions.fork``; ``MacroActions`` must be the next wrapper below.

        Raises:
            ConfigError, ResetNeeded: see ``MacroActions.fork``; or another wrapper is in between.
        """
        if self.env is not self._macro:
            raise ConfigError(f"{self.env} stands between EmbeddingObservation and MacroActions; fork without it")
        forks = []
        for macro in self._macro.fork(n):
            fork = shallow(self)
            fork.env = fork._macro = macro
            forks.append(fork)
        return forks

    def current(self) -> Vector:
        """The current observation, also of a fork, which was never reset."""
        return self.observation(self._macro.current)

    def named(self, observation: Vector) -> dict[str, dict[str, npt.NDArray[np.float32]]]:
        """Scalars (numbers) and document features (``[slots]`` each) of an observation by name, for inspection."""
        documents = observation[self.layout["documents"]].reshape(self._macro.slots, len(FEATURES))
        scalars = observation[self.layout["scalars"]]
        return {
            "scalars": dict(zip(SCALARS, scalars, strict=True)),
            "documents": dict(zip(FEATURES, documents.T, strict=True)),
        }

    def observation(self, observation: Observation) -> Vector:
        """The vector of an observation of the environment below."""
        state = self._macro.macro_state
        measures = state.measures()
        entries = np.array([value for _, value in measures.by_entry()])
        parts = [
            self._scalars(observation, state, measures, entries),
            self._documents(state, measures, entries).ravel(),
        ]
        if self.vectors:
            parts.append(self._embeddings(state).ravel())
        return np.clip(np.concatenate(parts), -1.0, 1.0).astype(np.float32)

    def _scalars(self, observation: Observation, state: MacroState, measures: Measures, entries: Array) -> Array:
        config = state.config
        read, chunks = observation["progress"].tolist()
        memories = observation["memories"]
        budget = config.max_entries or 0
        tokens = sum(entry.tokens for entry in state.stored.values())
        least, average, most = (entries.min(), entries.mean(), entries.max()) if len(entries) else (0.0, 0.0, 0.0)
        best = measures.offered.max(initial=0.0)
        return np.array(
            [
                observation["phase"] == Phase.ANSWERING,
                read / chunks,
                observation["steps_left"] / self._macro.max_steps,
                observation["reads_left"] / max(1, config.max_reads_per_question),
                len(state.stored) / budget if budget else 0.0,
                tokens / (budget * config.max_entry_tokens) if budget else 0.0,
                state.waiting / (2 * state.slots),
                len(memories) / config.top_k,
                memories[0]["score"] if memories else 0.0,
                bool(state.found.unasked),
                least / 2,
                average / 2,
                most / 2,
                best / 2,
                (best - least) / 2,
            ],
            np.float64,
        )

    def _documents(self, state: MacroState, measures: Measures, entries: Array) -> Array:
        """``[slots, len(FEATURES)]``"""
        block = np.zeros((state.slots, len(FEATURES)))
        offered = state.offered
        if not offered:
            return block
        s, o = len(measures.owners), len(offered)
        relevance = measures.offered
        targets = [self._macro.merge_target(place) for place in range(o)]
        owners = np.array([owner.id for owner in measures.owners])
        columns = {
            "offered": np.ones(o),
            "to_question": measures.to_question[s:],
            "in_question": measures.in_question[s:],
            "relevance": relevance / 2,
            "margin": relevance - entries.min() if s else relevance,
            "rank": (entries[None, :] < relevance[:, None]).mean(1) if s else np.ones(o),
            "among_offered": (relevance[None, :] < relevance[:, None]).sum(1) / max(1, o - 1),
            "to_stored": measures.to_stored.max(1) if s else np.zeros(o),
            "named_by_stored": (measures.named_by_stored * measures.stored).max(1) if s else np.zeros(o),
            "names_stored": (measures.names_stored * measures.stored).max(1) if s else np.zeros(o),
            "to_result": measures.to_result,
            "named_by_result": measures.named_by_result,
            "to_mergeable": [
                0.0 if target is None else row[owners == target.id].max()
                for target, row in zip(targets, measures.to_stored, strict=True)
            ],
            "mergeable": [target is not None for target in targets],
            "tokens": [piece.tokens / state.config.max_entry_tokens for piece in offered],
        }
        block[:o] = np.stack([np.asarray(columns[name], np.float64) for name in FEATURES], axis=1)
        return block

    def _embeddings(self, state: MacroState) -> Array:
        """``[2 + slots, vectors]``"""
        rows = np.zeros((2 + state.slots, state.dim))
        if len(state.question_vectors):
            rows[0] = state.question_vectors.mean(0)
        if len(state.result_vector):
            rows[1] = state.result_vector[0]
        for place, piece in enumerate(state.offered):
            rows[2 + place] = piece.vector
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        units: Array = np.divide(rows, norms, out=np.zeros(rows.shape), where=norms > 0)
        return units if self._projection is None else units @ self._projection


def _macro_actions(env: gym.Env[Any, Any]) -> MacroActions:
    layer: Any = env
    while isinstance(layer, gym.Wrapper):
        if isinstance(layer, MacroActions):
            return layer
        layer = layer.env
    raise ConfigError(f"{env} has no MacroActions; write EmbeddingObservation(MacroActions(env))")
