"""Plays a plan: many episodes in flight, each result written to disk at once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Set
from contextlib import AsyncExitStack
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from threading import current_thread, main_thread
from typing import Any, Protocol, TypeAlias

from atommem_gym.agents.players.language_model import LanguageModel
from atommem_gym.agents.players.openai_model import await_server
from atommem_gym.agents.players.player import Player, make_player
from atommem_gym.agents.rollout import rollout
from atommem_gym.envs.pool.pool import AtomMemPool
from atommem_gym.errors import AtomMemError, ConfigError, refused_for_good
from atommem_gym.evaluation.archive import Archive
from atommem_gym.evaluation.closed_book import ClosedBook
from atommem_gym.evaluation.folder import PROTOCOL, EvaluationError, Run, RunWriter, read_run
from atommem_gym.evaluation.groups import Group, make_cells, open_model, plan_models
from atommem_gym.evaluation.limits import LimitReachedError, Limits
from atommem_gym.evaluation.plan import AgentPlan, Plan
from atommem_gym.evaluation.protocols.protocol import FixedProtocol, load_protocol
from atommem_gym.evaluation.report import surroundings
from atommem_gym.evaluation.results import EpisodeKey, EpisodeResult, FailedEpisode
from atommem_gym.evaluation.work import STAGES
from atommem_gym.scoring.judge import JudgeScorer
from atommem_gym.scoring.protocol import ScoreRequest
from atommem_gym.traces import AgentTrace, EpisodeTrace, TraceRecorder
from atommem_gym.traces.record import StepTrace
from atommem_gym.trust import masked

logger = logging.getLogger(__name__)

Job: TypeAlias = tuple[Group, EpisodeKey]
"""An episode to play, with the group that has its environment."""


class Call(Protocol):
    """The tokens of one call of a language model; ``None`` if unknown."""

    @property
    def prompt_tokens(self) -> int | None: ...

    @property
    def completion_tokens(self) -> int | None: ...


class Listener(Protocol):
    """Follows an evaluation. Its methods are called on the event loop, so they must be quick."""

    def begin(self, plan: Plan, earlier: Run) -> None:
        """Called once before the first episode.

        Args:
            plan: What is played.
            earlier: What the folder holds already.
        """
        ...

    def finished(self, result: EpisodeResult) -> None:
        """Called when an episode has been played and is on disk."""
        ...

    def failed(self, failure: FailedEpisode) -> None:
        """Called when an episode could not be played to its end."""
        ...


class Silent:
    """A listener that does nothing."""

    def begin(self, plan: Plan, earlier: Run) -> None:
        """See :class:`Listener`."""

    def finished(self, result: EpisodeResult) -> None:
        """See :class:`Listener`."""

    def failed(self, failure: FailedEpisode) -> None:
        """See :class:`Listener`."""


class Runner:
    """Plays the episodes of a plan that are not finished.

    Args:
        plan: What to play.
        writer: The folder of the evaluation.
        listener: Follows the evaluation.
        limits: Limits of this start.

    Raises:
        ConfigError: an agent is unknown, or what it demands contradicts the settings.
    """

    def __init__(self, plan: Plan, writer: RunWriter, listener: Listener, limits: Limits | None = None) -> None:
        self.plan = plan
        self.limits = limits or Limits()
        self.writer = writer
        self.listener = listener
        self.made = make_cells(plan)
        self.seconds: defaultdict[str, float] = defaultdict(float)
        """Seconds by what took them, added up over all episodes."""
        self.played: Counter[str] = Counter()
        """Episodes, steps, tokens and failures of this start."""
        self._left: int | None = None
        """Episodes that were missing when this start began to play; ``None`` before."""
        self._tokens = 0
        """Tokens of all language models in this start: agents and frozen readers, failed episodes included."""
        self._untold = False
        self._groups = [Group(plan, env, docs, self.made) for env in plan.envs for docs in plan.docs_of(env)]
        self._failures_in_a_row = 0
        self._answered: set[str] = set()
        """Agents that have finished an episode; a later refusal of their server is not a fault of the settings."""
        self._players: dict[str, tuple[AgentPlan, Callable[[], Player]]] = {}

    async def run(self) -> None:
        """Play the missing episodes; finished ones are on disk, even if this is cancelled or raises.

        Raises:
            ConfigError: the plan does not fit its records, or an agent's options are wrong.
            EvaluationError: too many episodes failed in a row, or the folder cannot be written.
            LimitReachedError: the limit of tokens or time is reached.
        """
        started = self._started = time.perf_counter()
        self.writer.start({"at": _now(), **surroundings()})
        try:
            # The limit covers everything, also the wait for a server.
            await asyncio.wait_for(self._run(), self.limits.seconds)
        except asyncio.TimeoutError:
            self._check_time()
            raise
        finally:
            self.writer.end(
                {
                    "ended": _now(),
                    "seconds": round(time.perf_counter() - started, 3),
                    "left": self._left,
                    "played": dict(self.played),
                    "work": {name: round(seconds, 3) for name, seconds in self.seconds.items()},
                }
            )

    async def _run(self) -> None:
        async with AsyncExitStack() as stack:
            self._archive = stack.enter_context(Archive(self.writer))
            done = self.writer.earlier.done | self._archive.adopt_orphans(self.made.values())
            models = self._open_players(stack)
            jobs = await self._load(done)
            await self._await_servers(models, {key.agent for _, key in jobs})
            await self._read_closed_book()
            self._left = len(jobs)
            self.listener.begin(self.plan, read_run(self.writer.path))
            await self._play(jobs)

    def _check_time(self) -> None:
        if self.limits.seconds is not None and time.perf_counter() - self._started >= self.limits.seconds:
            raise LimitReachedError(f"the time limit of {self.limits.seconds:g} s is reached")

    def _check_limits(self) -> None:
        """Raise if a limit is reached; also called by work in threads, which cannot be cancelled."""
        self._check_time()
        self.limits.check_tokens(self._tokens)

    def _spend(self, calls: Iterable[Call]) -> None:
        """Add the tokens of these calls of language models to the count."""
        for call in calls:
            self._tokens += (call.prompt_tokens or 0) + (call.completion_tokens or 0)
            # No prompt is empty, so the server has not counted it.
            if not call.prompt_tokens and self.limits.tokens is not None and not self._untold:
                self._untold = True
                logger.warning(
                    "a server reports no token usage, so --token-limit cannot count it and may not end the run; "
                    "--time-limit does"
                )

    def _open_players(self, stack: AsyncExitStack) -> dict[str, LanguageModel]:
        """Open all players; returns their models, by the label of the agent."""
        opened: dict[str, LanguageModel] = {}
        models: dict[str, LanguageModel] = {}
        wanted = plan_models(self.plan)
        for agent in self.plan.agents:
            model = None
            if agent.label in wanted:
                identity = repr(wanted[agent.label])
                if identity not in opened:
                    # Loading a local model may block, because no episode is under way yet.
                    opened[identity] = open_model(wanted[agent.label])
                    stack.push_async_callback(opened[identity].aclose)
                model = models[agent.label] = opened[identity]
            self._players[agent.label] = (agent, make_player(agent.name, model, **agent.options))
        return models

    async def _await_servers(self, models: Mapping[str, LanguageModel], agents: Set[str]) -> None:
        """Wait for the servers of these agents' models, one after the other, and ask the judge for a first verdict.

        Only the server knows the model's name for the records. The judge would else be called after whole episodes.
        """
        plans = plan_models(self.plan)
        for label in agents & models.keys():
            # A model that several agents share answers at once the second time.
            await await_server(models[label], plans[label].options)
        if agents and any(made.keywords.get("reward") == "judge" for made in self.made.values()):
            with contextlib.closing(JudgeScorer()) as judge:
                await asyncio.to_thread(judge.score, [_EASY])

    async def _load(self, done: set[EpisodeKey]) -> list[Job]:
        """The missing episodes; a source that cannot be used raises here, before the first episode."""
        jobs = []
        protocol = self._protocol()
        for group in self._groups:
            jobs += [(group, key) for key in await group.load(done)]
            if protocol is not None:
                await asyncio.to_thread(group.check_protocol, protocol)
        return jobs

    async def _read_closed_book(self) -> None:
        """Have all frozen readers answer without memory; one that cannot be used raises here."""
        for group in self._groups:
            await asyncio.to_thread(group.read_closed_book, self.writer, self._check_limits, self._spend_read)

    def _spend_read(self, row: ClosedBook) -> None:
        if row.calls:
            self._spend([row])

    def _protocol(self) -> FixedProtocol | None:
        """The protocol that the plan follows, from the folder's copy, which the first start writes.

        Raises:
            ConfigError: there is no protocol of this name and hash, or the plan does not follow it.
        """
        title = self.plan.protocol
        if not title:
            return None
        file = self.writer.path / PROTOCOL
        # For a protocol given as a file, evaluate() has written the copy already.
        protocol = load_protocol(str(file) if file.is_file() else title.partition("#")[0])
        if protocol.title != title:
            raise ConfigError(
                f"the plan follows the protocol {title!r}, and {file} holds {protocol.title!r}; put the plan's "
                "protocol there, or name another folder"
            )
        protocol.check_plan(self.plan)
        if not file.is_file():
            file.write_text(protocol.to_text(), encoding="utf-8")
        return protocol

    async def _play(self, jobs: list[Job]) -> None:
        waiting = iter(jobs)
        workers = [asyncio.create_task(self._work(waiting)) for _ in range(min(self.plan.in_flight, len(jobs)))]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            for group in self._groups:
                self._count(await group.close())

    async def _work(self, waiting: Iterator[Job]) -> None:
        """Play one episode after the other until none is left; all workers share the iterator."""
        for group, key in waiting:
            await self._episode(group, key)
            group.remaining -= 1
            if not group.remaining:
                self._count(await group.close())
            if any(one.remaining for one in self._groups):
                self.limits.check_tokens(self._tokens)

    async def _episode(self, group: Group, key: EpisodeKey) -> None:
        agent, make = self._players[key.agent]
        made = self.made[key.cell]
        player = make()
        # Rows and traces are identified by labels; the player's own name stands in its settings.
        settings = {"player": player.name, **player.settings}
        recorder = TraceRecorder(made.env_id, made.keywords, AgentTrace(agent.label, settings), key.seed)
        try:
            pool = await self._pool(group, key)
            async with pool.env() as env:
                trace = await rollout(
                    env, player, key.index, shuffle_seed=key.shuffle_seed, seed=key.seed, recorder=recorder
                )
        except (ConfigError, EvaluationError):
            # Wrong settings would fail every episode in the same way, and so would a server that nobody started.
            raise
        except (
            Exception,
            SystemExit,
        ) as error:  # an exception fails its episode, not the whole run
            if refused_for_good(error) and key.agent not in self._answered:
                raise EvaluationError(f"{key.agent}: {error}") from error
            self._spend(_calls(recorder.so_far))
            self._fail(key, recorder.steps, error)
        else:
            self._spend(_calls(trace.steps))
            self._answered.add(key.agent)
            try:
                await self._finish(key, trace)
            except AtomMemError:
                # The folder cannot be written, so no other episode could be finished either.
                raise
            except Exception as error:  # the episode has values that cannot be written
                self._fail(key, recorder.steps, error)

    async def _pool(self, group: Group, key: EpisodeKey) -> AtomMemPool:
        try:
            return await group.pool(key.cell)
        except ConfigError:
            raise
        except AtomMemError as error:
            # Once an episode is finished, an embedder or a store that cannot be reached may come back.
            if self._answered:
                raise
            raise EvaluationError(f"no episode can begin: {error}") from error

    async def _finish(self, key: EpisodeKey, trace: EpisodeTrace) -> None:
        started = time.perf_counter()
        result = await self._archive.add(trace, key.cell)
        self._failures_in_a_row = 0
        self.seconds["recording"] += time.perf_counter() - started
        self.seconds["agents"] += sum(result.agent_ms) / 1000
        self.seconds["environments"] += sum(result.env_ms) / 1000
        self.played["episodes"] += 1
        self.played["steps"] += result.steps
        self.played["prompt_tokens"] += result.prompt_tokens or 0
        self.played["completion_tokens"] += result.completion_tokens or 0
        self.listener.finished(result)

    def _fail(self, key: EpisodeKey, steps: int, error: BaseException) -> None:
        lines = traceback.format_exception(type(error), error, error.__traceback__)
        failure = FailedEpisode(
            **asdict(key),
            steps=steps,
            error=type(error).__name__,
            message=masked(str(error)),
            at=_now(),
            traceback=masked("".join(lines))[-_LONGEST_TRACEBACK:],
            bug=not isinstance(error, AtomMemError),
        )
        self.writer.fail(failure)
        self.played["failed"] += 1
        self.listener.failed(failure)
        self._failures_in_a_row += 1
        if self._failures_in_a_row >= self.plan.give_up_after:
            raise EvaluationError(
                f"{self._failures_in_a_row} episodes failed one after the other, the last with "
                f"{failure.error}: {failure.message}\nput that right and go on with: "
                f"atommem eval --resume -o {self.writer.path}"
            ) from error

    def _count(self, pools: list[AtomMemPool]) -> None:
        for pool in pools:
            stats = pool.stats
            for stage in STAGES:
                self.seconds[stage] += getattr(stats, stage).seconds


def evaluate(
    plan: Plan,
    folder: Path,
    listener: Listener | None = None,
    *,
    resume: bool = False,
    protocol: FixedProtocol | None = None,
    limits: Limits | None = None,
) -> Run:
    """Play the episodes of a plan that the folder does not hold yet, and read the whole folder.

    If this start made the folder and ends with an error before anything was played, the folder is removed again.

    Args:
        plan: What to play.
        folder: Folder of the evaluation; made if it is not there.
        listener: Follows the evaluation.
        resume: Whether the folder may hold results already.
        protocol: The protocol that the plan follows, if it does not come with the package.
        limits: Limits of this start.

    Returns:
        All that the folder holds, earlier results included.

    Raises:
        ConfigError: the folder has results of another plan, or ``resume`` is not set; the plan does not fit its
            records or its protocol; or an agent's options are wrong.
        EvaluationError: too many episodes failed in a row, or the folder cannot be written.
        LimitReachedError: the limit of tokens or time is reached.
        KeyboardInterrupt: Ctrl-C was pressed; finished episodes are in the folder.
    """
    with RunWriter(folder, plan, resume=resume) as writer:
        if protocol is not None and not (folder / PROTOCOL).is_file():
            (folder / PROTOCOL).write_text(protocol.to_text(), encoding="utf-8")
        try:
            runner = Runner(plan, writer, listener or Silent(), limits)
            asyncio.run(_interruptible(runner.run()))
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None
        except LimitReachedError:
            raise
        except AtomMemError:
            # Records or a model are missing: `view` and `compare` must not take the folder for an evaluation.
            writer.discard()
            raise
    return read_run(folder)


async def _interruptible(work: Coroutine[Any, Any, None]) -> None:
    """Let Ctrl-C cancel the work, as ``asyncio.run`` itself does from Python 3.11 on."""
    if sys.version_info < (3, 11) and sys.platform != "win32" and current_thread() is main_thread():
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, task.cancel)
    await work


def _calls(steps: Iterable[StepTrace]) -> Iterator[Call]:
    """All calls of language models in these steps, frozen readers included."""
    for step in steps:
        yield from step.completions
        for reading in step.reader:
            yield from reading.completions


_LONGEST_TRACEBACK = 20_000
_EASY = ScoreRequest("Which city is the capital of France?", "Paris", ("Paris",))
"""What a judge is asked first, to see whether it answers at all."""


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
