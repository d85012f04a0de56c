"""What every loop that plays an episode shares: seed, clock and rewards while it runs, and a record of the result."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, SupportsFloat, TypeVar

from atommem_gym.records.layout import stable_rng
from atommem_gym.traces import EpisodeTrace, StepSeconds

Act = TypeVar("Act")
Seen = TypeVar("Seen")


@dataclass(frozen=True, slots=True)
class EpisodeRecord:
    """Score, costs and timing of one episode; JSON values only."""

    agent: str
    """Name of the agent or player."""
    item: str
    """Id of the item."""
    index: int
    """Index of the item."""
    shuffle_seed: int
    """Seed of the item's layout."""
    seed: int
    """Seeds the agent, together with the item and its layout."""
    reward: float
    """The sum of all steps' rewards, shaping included."""
    em: float | None
    """Exact match, mean over the questions that count; ``None`` if none counts, because none has an answer and the
    oracle reads (SPEC R5)."""
    f1: float | None
    """Token F1, mean over the same questions; ``None`` as ``em``."""
    operations: dict[str, int]
    """Executed operations by kind."""
    rejected: int
    """Rejected and cut operations."""
    peak_entries: int
    """Entries in memory, at their most."""
    final_entries: int
    """Entries in memory at the end."""
    evidence_recall: float | None
    """By the lenient heuristic (SPEC E12); ``None`` if no question names evidence."""
    evidence_recall_exact: float | None
    """By exact containment; ``None`` as ``evidence_recall``."""
    steps: int
    """Environment steps."""
    truncated: bool
    """Whether the episode ended at its step limit."""
    env_ms: float
    """Mean milliseconds per step in the environment, without the reset and without the agent's own time."""
    agent_ms: float
    """Mean milliseconds per step in the agent."""
    answers: tuple[dict[str, Any], ...] = ()
    """``answer``, ``closed``, ``em`` and ``answerable`` per question of a task with unanswerable ones (SPEC R5)."""

    @classmethod
    def of(cls, item: str, metrics: Mapping[str, Any], seconds: Sequence[StepSeconds], **played: Any) -> EpisodeRecord:
        """The record of a finished episode.

        Args:
            item: Id of the item.
            metrics: ``info["episode_metrics"]`` of the last step.
            seconds: Time of each step.
            **played: The fields that the metrics lack: agent, index, seeds, reward, truncated.
        """
        steps = len(seconds)
        return cls(
            item=item,
            steps=steps,
            env_ms=1000 * sum(one.env for one in seconds) / steps,
            agent_ms=1000 * sum(one.agent for one in seconds) / steps,
            answers=_for_abstention(metrics),
            **{name: metrics[name] for name in _MEASURED},
            **played,
        )

    @classmethod
    def from_trace(cls, trace: EpisodeTrace) -> EpisodeRecord:
        """The record of a traced episode."""
        same = {name: getattr(trace, name) for name in ("index", "shuffle_seed", "seed", "reward")}
        over, seconds = trace.steps[-1], [step.seconds for step in trace.steps]
        return cls.of(trace.item, trace.metrics, seconds, agent=trace.agent.name, truncated=over.truncated, **same)


_MEASURED = (
    *("em", "f1", "operations", "rejected", "peak_entries", "final_entries"),
    *("evidence_recall", "evidence_recall_exact"),
)


def _for_abstention(metrics: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    if "abstention_recall" not in metrics:
        return ()
    return tuple(
        {**{name: answer[name] for name in ("answer", "closed", "em")}, "answerable": answer.get("answerable", True)}
        for answer in metrics["answers"]
    )


@dataclass(slots=True, eq=False)
class Playing(Generic[Act, Seen]):
    """An episode while it is played.

    It derives the agent's seed, takes the time, adds up the rewards, knows when the episode is over and calls a
    listener. The loop asks the agent and steps the environment, and awaits either if need be:

        playing = Playing("silent", index=3)
        playing.show("", *env.reset(options=playing.options))
        while not playing.over:
            with playing.timed("agent"):
                action = agent.act(playing.observation)
            with playing.timed("env"):
                result = env.step(action)
            playing.step(action, *result)
        playing.record()
    """

    agent: str
    """Name of the agent, for the record."""
    index: int
    """Index of the item."""
    shuffle_seed: int = 0
    """Seed of the item's layout."""
    seed: int = 0
    """Seeds the agent, together with the item and its layout."""
    on_step: Callable[[Act, Seen, dict[str, Any]], None] | None = None
    """Called after the reset and after each step with action, observation and info; its time does not count."""
    over: bool = field(default=False, init=False)
    """Whether the episode has ended, so that :meth:`record` may be called."""
    truncated: bool = field(default=False, init=False)
    """Whether it ended at its step limit."""
    observation: Seen = field(init=False)
    """The observation to act on."""
    info: dict[str, Any] = field(init=False)
    """The info of the last reset or step."""
    _rewards: list[float] = field(default_factory=list, init=False)
    """The reward of each step."""
    _seconds: list[StepSeconds] = field(default_factory=list, init=False)
    """The time of each step."""
    _now: dict[str, float] = field(default_factory=dict, init=False)
    """The time since the last step, by whose it is."""

    @property
    def options(self) -> dict[str, Any]:
        """The ``options`` with which ``reset`` begins this episode."""
        return {"index": self.index, "shuffle_seed": self.shuffle_seed}

    @property
    def steps(self) -> int:
        """Number of steps so far."""
        return len(self._rewards)

    @property
    def reward(self) -> float:
        """The sum of all rewards so far, rounded once: the same float on every version of Python."""
        return math.fsum(self._rewards)

    @property
    def seconds(self) -> StepSeconds:
        """Time spent in agent and environment since the last :meth:`step`."""
        return StepSeconds(**self._now)

    def agent_seed(self, part: str | None = None) -> int:
        """The seed for the agent's ``reset``; in a team, for the member that plays ``part``."""
        who = ("play", self.agent) if part is None else ("play a team", self.agent, part)
        return int(stable_rng(*who, self.seed, self.index, self.shuffle_seed).integers(2**31))

    @contextmanager
    def timed(self, whose: Literal["agent", "env"]) -> Iterator[None]:
        """Count the time of a ``with`` block as the agent's or the environment's."""
        began = time.perf_counter()
        yield
        self._now[whose] = self._now.get(whose, 0.0) + time.perf_counter() - began

    def show(self, act: Act, observation: Seen, info: dict[str, Any]) -> None:
        """Note what a reset returned; the listener gets ``act`` in place of an action."""
        self.observation, self.info = observation, info
        if self.on_step is not None:
            self.on_step(act, observation, info)

    def step(
        self,
        act: Act,
        observation: Seen,
        reward: SupportsFloat,
        terminated: bool,
        truncated: bool,
        info: dict[str, Any],
    ) -> None:
        """Note what a step returned. For a member of a vector environment: before an autoreset replaced it."""
        self._seconds.append(self.seconds)
        self._now = {}
        self._rewards.append(float(reward))
        self.truncated = bool(truncated)
        self.over = bool(terminated or truncated)
        self.show(act, observation, info)

    def record(self) -> EpisodeRecord:
        """The record of the episode, once it has ended."""
        same = {name: getattr(self, name) for name in ("agent", "index", "shuffle_seed", "seed", "reward", "truncated")}
        return EpisodeRecord.of(self.info["item"], self.info["episode_metrics"], self._seconds, **same)
