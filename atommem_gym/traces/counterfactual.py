"""The value of an operation: a recorded episode is replayed with that operation left out or changed (SPEC M14, R7).

The episode is replayed once; it is forked at the steps in question, and only the rest of each branch is
played. Nothing is estimated: each number is the reward of an episode.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import count
from typing import Any, Protocol, cast

from gymnasium.envs.registration import load_env_creator

from atommem_gym.actions import Operation
from atommem_gym.episode import Episode
from atommem_gym.step import Observation
from atommem_gym.traces.difference import Difference
from atommem_gym.traces.intervention import (
    Edit,
    PlayedStep,
    RecordedActions,
    all_operations,
    changed,
    recorded_operation,
)
from atommem_gym.traces.record import EpisodeTrace, Json, TraceError
from atommem_gym.traces.recorded_answers import NotRecordedError
from atommem_gym.traces.replay import Replayer

__all__ = ["Counterfactual", "Edit", "counterfactuals"]


class Player(Protocol):
    """An agent that plays a branch to its end, for example a scripted one (``atommem_gym.agents.Agent``)."""

    def reset(self, episode: Episode, seed: int) -> None:
        """Prepare for an episode."""
        ...

    def act(self, observation: Observation) -> str:
        """The action for an observation."""
        ...


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of an episode."""

    reward: float | None
    """The sum of its rewards; ``None`` if it depends on a scorer or reader that is not called, see ``unknown``."""
    steps: int
    """Number of steps."""
    answers: tuple[tuple[str, str, float], ...] = ()
    """For each question its id, its answer, and its score."""
    unknown: str = ""
    """Why the reward is unknown; empty if it is known."""


@dataclass(frozen=True, slots=True)
class Counterfactual:
    """One operation of an episode, and the ends of the episode with and without it."""

    step: int
    """The step, from 1."""
    operation: int
    """Its position in the action, from 1."""
    kind: str
    """The kind of the operation."""
    text: str | None
    """The text of the operation, or the query of a read."""
    id: int | None
    """The id in an update or delete."""
    entry_id: int | None
    """The entry that it created, updated or deleted."""
    outcome: str
    """``applied``, ``cut`` or ``rejected``."""
    change: Mapping[str, Json] | None
    """The new values of its fields; ``None`` if it was left out."""
    kept: Ending
    """The end with the operation as recorded."""
    other: Ending
    """The end without it, or with it changed."""

    @property
    def difference(self) -> float | None:
        """The reward with the operation minus the reward without it; ``None`` if one of them is unknown."""
        if self.kept.reward is None or self.other.reward is None:
            return None
        return self.kept.reward - self.other.reward


def counterfactuals(
    trace: EpisodeTrace,
    edits: Sequence[Edit] | None = None,
    *,
    replayer: Replayer | None = None,
    agent: Callable[[], Player] | None = None,
) -> Generator[Counterfactual, None, None]:
    """Replay an episode without some of its operations, one after another, and yield how it ends.

    A branch shares everything up to the operation's step, executes the action of that step without the operation
    (or with it changed), and continues with recorded actions or with an agent. Recorded updates and deletes refer to
    the same entries (:class:`~atommem_gym.traces.intervention.RecordedActions`); when the trace has no
    action left, the branch continues with empty ones. If an agent continues, it also plays a branch with the operation:
    ``kept`` is then the end of that branch. The agent sees the episode from its beginning.

    >>> from atommem_gym.traces.examples import example_trace
    >>> [(one.kind, one.difference) for one in counterfactuals(example_trace())][-2:]
    [('read', 0.0), ('answer', 0.0)]

    Args:
        trace: The record.
        edits: The operations to leave out or change; by default each is left out in turn.
        replayer: Makes the environment; by default a :class:`Replayer` without overrides.
        agent: Makes the agent that plays each branch; by default the recorded actions are played.

    Raises:
        TraceError: there is no such operation, or the replay differs from the trace.
        ConfigError: a change is invalid.
        DatasetUnavailableError, StoreError, EmbedderError: the environment cannot be made again.
    """
    chosen = all_operations(trace) if edits is None else list(edits)
    others: list[Operation | None] = []
    for edit in chosen:
        recorded = recorded_operation(trace, edit)
        others.append(None if edit.change is None else changed(recorded, edit.change))
    return _all_played(trace, list(zip(chosen, others, strict=True)), replayer, agent)


_Chosen = Sequence[tuple[Edit, Operation | None]]


def _all_played(
    trace: EpisodeTrace, chosen: _Chosen, replayer: Replayer | None, agent: Callable[[], Player] | None
) -> Generator[Counterfactual, None, None]:
    if replayer is None:
        with Replayer() as own:
            yield from _all_played(trace, chosen, own, agent)
        return
    with replayer.opened(trace) as (env, options):
        played = replayer.played(trace, env, options)
        _refuse(trace, next(played))
        base: Any = env.unwrapped
        (origin,) = base.fork(1)
        # Closed also if the caller stops iterating or is interrupted.
        with closing(origin):
            steps = _played_steps(trace, base, played)
            if replayer.wrong_ids:
                raise TraceError(
                    f"the record of item {trace.item!r} is of version 1, which named wrong entries under "
                    f"preset='released' ({replayer.wrong_ids[0].line}); record the episode again"
                )
            replayer.look_up(trace)
            yield from _Branches(trace, steps, origin, agent).all(chosen)


def _played_steps(trace: EpisodeTrace, env: Any, played: Iterator[Difference | None]) -> list[PlayedStep]:
    """Replay the whole trace."""
    steps = []
    for _ in trace.steps:
        state = env.episode.state
        addressable, next_id = state.addressable, state.memory.next_id
        _refuse(trace, next(played))
        steps.append(PlayedStep(addressable, next_id, {one.position: one for one in env.episode.outcomes}))
    return steps


def _refuse(trace: EpisodeTrace, difference: Difference | None) -> None:
    if difference is not None:
        raise TraceError(
            f"the record of item {trace.item!r} does not play as it was recorded, so nobody can tell what would have "
            f"been: {difference.line}; `atommem replay` shows it, --set names records that lie elsewhere, and "
            "--tolerance 1e-5 allows for a neural embedder of another machine"
        )


class _Seat:
    """The episode that an agent sees; it moves with the agent from the shared past into a branch."""

    def __init__(self, player: Player, origin: Any, seed: int) -> None:
        self._episode = origin.episode
        self.player = player
        player.reset(cast(Episode, self), seed)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._episode, name)

    def move(self, env: Any) -> Player:
        """Continue in this environment."""
        self._episode = env.episode
        return self.player


class _Branches:
    """Walks through a replayed episode and plays the branches to their ends.

    Args:
        trace: The record.
        played: The replayed steps.
        origin: The environment, just reset.
        agent: See :func:`counterfactuals`.
    """

    def __init__(
        self, trace: EpisodeTrace, played: Sequence[PlayedStep], origin: Any, agent: Callable[[], Player] | None
    ) -> None:
        self._trace = trace
        self._played = played
        self._origin = origin
        self._agent = agent

    def all(self, chosen: _Chosen) -> Iterator[Counterfactual]:
        """Play the branches in the order of their steps."""
        trace, origin = self._trace, self._origin
        due: dict[int, list[tuple[Edit, Operation | None]]] = {}
        for edit, other in sorted(chosen, key=lambda one: (one[0].step, one[0].operation)):
            due.setdefault(edit.step, []).append((edit, other))
        seats = {number: self._seats(1 + len(edits)) for number, edits in due.items()}
        observation = origin.episode.observation()
        for number in range(1, max(due, default=0) + 1):
            for waiting in seats.values():
                for seat in waiting:
                    seat.player.act(observation)
            if number in due:
                ready = seats.pop(number)
                kept = self._kept(number, ready)
                for edit, other in due[number]:
                    yield self._made(edit, kept, self._branch(number, edit.operation, other, ready))
            if due.keys() - set(range(number + 1)):
                observation, *_ = origin.step(trace.steps[number - 1].action)

    def _seats(self, many: int) -> list[_Seat]:
        if self._agent is None:
            return []
        return [_Seat(self._agent(), self._origin, self._trace.seed) for _ in range(many)]

    def _kept(self, number: int, ready: list[_Seat]) -> Ending:
        """The end with all operations of a step."""
        if self._agent is None:
            return Ending(self._trace.reward, len(self._trace.steps), _answers(self._trace.metrics))
        return self._branch(number, None, None, ready)

    def _branch(self, number: int, position: int | None, other: Operation | None, ready: list[_Seat]) -> Ending:
        """Play a branch that begins at a step."""
        trace = self._trace
        (fork,) = self._origin.fork(1)
        with closing(fork):
            player = ready.pop().move(fork) if ready else None
            recorded = RecordedActions(fork.episode, self._played, number, position, other)
            fork.episode.intervention = recorded
            # By name, as Gymnasium has it for wrappers: what is below envs cannot import them.
            shaped: Any = load_env_creator("atommem_gym.envs.wrappers:ShapedReward")
            env = shaped(fork, trace.env.shaping) if trace.env.shaping else fork
            rewards = [step.reward for step in trace.steps[: number - 1]]
            action = trace.steps[number - 1].action
            for following in count(number):
                try:
                    observation, reward, terminated, truncated, info = env.step(action)
                except NotRecordedError as error:
                    return Ending(None, following, unknown=str(error))
                rewards.append(float(reward))
                if terminated or truncated:
                    return Ending(math.fsum(rewards), following, _answers(info["episode_metrics"]))
                recorded.took(fork.episode.outcomes)
                if player is not None:
                    fork.episode.intervention = None
                    action = player.act(observation)
                else:
                    action = trace.steps[following].action if following < len(trace.steps) else ""
        raise AssertionError("an episode has an end")

    def _made(self, edit: Edit, kept: Ending, other: Ending) -> Counterfactual:
        named = recorded_operation(self._trace, edit)
        text = named.query if named.text is None else named.text
        return Counterfactual(
            edit.step,
            edit.operation,
            named.kind,
            text,
            named.id,
            named.entry_id,
            named.outcome,
            edit.change,
            kept,
            other,
        )


def _answers(metrics: Mapping[str, Json]) -> tuple[tuple[str, str, float], ...]:
    return tuple((one["id"], one["answer"], one["score"]) for one in metrics["answers"])
