"""One episode while it is played, whoever acts and whoever drives the environment; and the record of what came out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, SupportsFloat, TypeVar

from atommem_gym.records.layout import stable_rng
from atommem_gym.traces import EpisodeTrace, StepSeconds

Act = TypeVar("Act")
Seen = TypeVar("Seen")


@dataclass(frozen=True, slots=True)
class EpisodeRecord:
    """What became of one episode; JSON values only."""

    agent: str
    item: str
    index: int
    shuffle_seed: int
    seed: int
    reward: float
    """The sum of all steps' rewards, shaping included."""
    em: float
    f1: float
    operations: dict[str, int]
    """Executed operations by kind."""
    rejected: int
    """Rejected and cut operations."""
    peak_entries: int
    final_entries: int
    evidence_recall: float
    """By the lenient heuristic (SPEC E12)."""
    evidence_recall_exact: float
    steps: int
    truncated: bool
    env_ms: float
    """Milliseconds a step spent in the environment, reset left out; the agent's own time does not count."""
    agent_ms: float
    """Milliseconds a step spent in the agent."""

    @classmethod
    def of(cls, item: str, metrics: Mapping[str, Any], **played: Any) -> EpisodeRecord:
        """The record of a finished episode.

        Args:
            item: What was played.
            metrics: Of its last step (``info["episode_metrics"]``).
            **played: The fields that the environment does not know: who played, how, and what it took.
        """
        measured = ("em", "f1", "rejected", "peak_entries", "final_entries", "evidence_recall", "evidence_recall_exact")
        return cls(
            item=item,
            operations=dict(metrics["operations"]),
            **{name: metrics[name] for name in measured},
            **played,
        )

    @classmethod
    def from_trace(cls, trace: EpisodeTrace) -> EpisodeRecord:
        """The record of an episode of which there is a trace."""
        steps = len(trace.steps)
        return cls.of(
            trace.item,
            trace.metrics,
            agent=trace.agent.name,
            index=trace.index,
            shuffle_seed=trace.shuffle_seed,
            seed=trace.seed,
            reward=trace.reward,
            steps=steps,
            truncated=bool(trace.steps) and trace.steps[-1].truncated,
            env_ms=1000 * sum(step.seconds.env for step in trace.steps) / max(1, steps),
            agent_ms=1000 * sum(step.seconds.agent for step in trace.steps) / max(1, steps),
        )


class Playing(Generic[Act, Seen]):
    """An episode that is being played.

    It draws the agent's seed, takes the time, adds up the rewards, knows when the episode is over and tells a listener.
    Who acts, and whether that and the step are awaited, is the loop's:

        playing = Playing("silent", index=3)
        playing.begin("", *env.reset(options=playing.options))
        while not playing.over:
            with playing.acting():
                action = agent.act(playing.observation)
            with playing.stepping():
                result = env.step(action)
            playing.step(action, *result)
        playing.record()

    Args:
        agent: What the record calls whoever plays.
        index: The item.
        shuffle_seed: Its layout.
        seed: Seeds the agent, together with the item.
        on_step: Called after the reset and after each step with act, observation and info; its time does not count.
    """

    def __init__(
        self,
        agent: str,
        index: int,
        shuffle_seed: int = 0,
        seed: int = 0,
        on_step: Callable[[Act, Seen, dict[str, Any]], None] | None = None,
    ) -> None:
        self.agent = agent
        self.index = index
        self.shuffle_seed = shuffle_seed
        self.seed = seed
        self.over = False
        """Whether it has ended, so that :meth:`record` may be called."""
        self.truncated = False
        self.steps = 0
        self._on_step = on_step
        self._rewards: list[float] = []
        self._agent = self._env = 0.0
        self._before = StepSeconds()

    @property
    def options(self) -> dict[str, Any]:
        """What a reset needs to begin it."""
        return {"index": self.index, "shuffle_seed": self.shuffle_seed}

    @property
    def reward(self) -> float:
        """The sum of all rewards so far, rounded once, whatever the Python."""
        return math.fsum(self._rewards)

    @property
    def seconds(self) -> StepSeconds:
        """Time spent in agent and environment since the last step was noted."""
        return StepSeconds(agent=self._agent - self._before.agent, env=self._env - self._before.env)

    def agent_seed(self, part: str | None = None) -> int:
        """Seeds the agent; of a team the member that plays this part."""
        who = ("play", self.agent) if part is None else ("play a team", self.agent, part)
        return int(stable_rng(*who, self.seed, self.index, self.shuffle_seed).integers(2**31))

    def begin(self, act: Act, observation: Seen, info: dict[str, Any]) -> None:
        """Note what the reset returned; ``act`` is what the listener hears in place of one."""
        self._show(act, observation, info)

    @contextmanager
    def acting(self) -> Iterator[None]:
        """The time in here is the agent's."""
        began = time.perf_counter()
        yield
        self._agent += time.perf_counter() - began

    @contextmanager
    def stepping(self) -> Iterator[None]:
        """The time in here is the environment's."""
        began = time.perf_counter()
        yield
        self._env += time.perf_counter() - began

    def step(
        self,
        act: Act,
        observation: Seen,
        reward: SupportsFloat,
        terminated: bool,
        truncated: bool,
        info: dict[str, Any],
    ) -> None:
        """Note what a step returned (of a member of a vector environment: not what an autoreset brought)."""
        self._before = StepSeconds(agent=self._agent, env=self._env)
        self._rewards.append(float(reward))
        self.steps += 1
        self.truncated = bool(truncated)
        self.over = bool(terminated or truncated)
        self._show(act, observation, info)

    def record(self) -> EpisodeRecord:
        """What came out of the episode, which has ended."""
        return EpisodeRecord.of(
            self.info["item"],
            self.info["episode_metrics"],
            agent=self.agent,
            index=self.index,
            shuffle_seed=self.shuffle_seed,
            seed=self.seed,
            reward=self.reward,
            steps=self.steps,
            truncated=self.truncated,
            env_ms=1000 * self._env / self.steps,
            agent_ms=1000 * self._agent / self.steps,
        )

    def _show(self, act: Act, observation: Seen, info: dict[str, Any]) -> None:
        self.observation = observation
        self.info = info
        if self._on_step is not None:
            self._on_step(act, observation, info)
