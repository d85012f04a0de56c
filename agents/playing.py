"""One episode while it is played, whoever acts and whoever drives the environment; and the record of what came out."""

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
    """What became of one episode; JSON values only."""

    agent: str
    item: str
    index: int
    shuffle_seed: int
    seed: int
    reward: float
    """The sum of all steps' rewards, shaping included."""
    em: float | None
    """``None`` where no question counts, because none has an answer and the oracle reads (SPEC R5); so is ``f1``."""
    f1: float | None
    operations: dict[str, int]
    """Executed operations by kind."""
    rejected: int
    """Rejected and cut operations."""
    peak_entries: int
    final_entries: int
    evidence_recall: float | None
    """By the lenient heuristic (SPEC E12); ``None`` where no question names evidence, so is the exact one."""
    evidence_recall_exact: float | None
    steps: int
    truncated: bool
    env_ms: float
    """Milliseconds a step spent in the environment, reset left out; the agent's own time does not count."""
    agent_ms: float
    """Milliseconds a step spent in the agent."""
    answers: tuple[dict[str, Any], ...] = ()
    """``answer``, ``closed``, ``em`` and ``answerable`` of each question, where some may have no answer (SPEC R5)."""

    @classmethod
    def of(cls, item: str, metrics: Mapping[str, Any], seconds: Sequence[StepSeconds], **played: Any) -> EpisodeRecord:
        """The record of a finished episode.

        Args:
            item: What was played.
            metrics: Of its last step (``info["episode_metrics"]``).
            seconds: What every step took.
            **played: The fields that the environment does not know: who played, how, and what came of it.
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
        """The record of an episode of which there is a trace."""
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
    """An episode that is being played.

    It draws the agent's seed, takes the time, adds up the rewards, knows when the episode is over and tells a listener.
    Who acts, and whether that and the step are awaited, is the loop's:

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
    """What the record calls whoever plays."""
    index: int
    """The item."""
    shuffle_seed: int = 0
    """Its layout."""
    seed: int = 0
    """Seeds the agent, together with the item."""
    on_step: Callable[[Act, Seen, dict[str, Any]], None] | None = None
    """Called after the reset and after each step with act, observation and info; its time does not count."""
    over: bool = field(default=False, init=False)
    """Whether it has ended, so that :meth:`record` may be called."""
    truncated: bool = field(default=False, init=False)
    observation: Seen = field(init=False)
    """The one to act on."""
    info: dict[str, Any] = field(init=False)
    """What came with it."""
    _rewards: list[float] = field(default_factory=list, init=False)
    _seconds: list[StepSeconds] = field(default_factory=list, init=False)
    _now: dict[str, float] = field(default_factory=dict, init=False)

    @property
    def options(self) -> dict[str, Any]:
        """What a reset needs to begin it."""
        return {"index": self.index, "shuffle_seed": self.shuffle_seed}

    @property
    def steps(self) -> int:
        """Steps so far."""
        return len(self._rewards)

    @property
    def reward(self) -> float:
        """The sum of all rewards so far, rounded once, whatever the Python."""
        return math.fsum(self._rewards)

    @property
    def seconds(self) -> StepSeconds:
        """Time spent in agent and environment since the last step was noted."""
        return StepSeconds(**self._now)

    def agent_seed(self, part: str | None = None) -> int:
        """Seeds the agent; of a team the member that plays this part."""
        who = ("play", self.agent) if part is None else ("play a team", self.agent, part)
        return int(stable_rng(*who, self.seed, self.index, self.shuffle_seed).integers(2**31))

    @contextmanager
    def timed(self, whose: Literal["agent", "env"]) -> Iterator[None]:
        """The time in here is the agent's or the environment's."""
        began = time.perf_counter()
        yield
        self._now[whose] = self._now.get(whose, 0.0) + time.perf_counter() - began

    def show(self, act: Act, observation: Seen, info: dict[str, Any]) -> None:
        """Note what a reset returned; ``act`` is what the listener hears in place of one."""
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
        """Note what a step returned (of a member of a vector environment: not what an autoreset brought)."""
        self._seconds.append(self.seconds)
        self._now = {}
        self._rewards.append(float(reward))
        self.truncated = bool(truncated)
        self.over = bool(terminated or truncated)
        self.show(act, observation, info)

    def record(self) -> EpisodeRecord:
        """What came out of the episode, which has ended."""
        same = {name: getattr(self, name) for name in ("agent", "index", "shuffle_seed", "seed", "reward", "truncated")}
        return EpisodeRecord.of(self.info["item"], self.info["episode_metrics"], self._seconds, **same)
