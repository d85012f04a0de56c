"""Writes finished episodes off the event loop: first the trace, then the row that marks the episode as finished."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

from atommem_gym.evaluation.folder import EvaluationError, RunWriter
from atommem_gym.evaluation.groups import Made, identity
from atommem_gym.evaluation.plan import Cell
from atommem_gym.evaluation.results import EpisodeKey, EpisodeResult
from atommem_gym.traces import EpisodeTrace, TraceError, TraceWriter, count_traces, read_traces


class Archive:
    """Writes episodes one after the other in its own thread; a context manager.

    An episode is some half a megabyte of text to encode and perhaps compress, while others are under way. An episode
    that has been started is written completely, with its row, even if the caller is cancelled.
    """

    def __init__(self, writer: RunWriter) -> None:
        """Open the file of traces, if the plan has one.

        Raises:
            TraceError: the file cannot be written.
        """
        self._writer = writer
        self._traces = None if writer.traces is None else TraceWriter(writer.traces)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="atommem-archive")

    async def add(self, trace: EpisodeTrace, cell: Cell) -> EpisodeResult:
        """Write an episode; it is on disk when this returns.

        Raises:
            EvaluationError: a file cannot be written.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._add, trace, cell)

    def adopt_orphans(self, made: Iterable[Made]) -> set[EpisodeKey]:
        """Write the rows of traces whose writer was killed between trace and row; returns their episodes.

        Args:
            made: All cells of the plan.

        Raises:
            EvaluationError: a trace is not of the plan.
        """
        path, done = self._writer.traces, self._writer.earlier.done
        if path is None or count_traces(path) == len(done):
            return set()
        cells = {(one.identity, one.cell.agent): one.cell for one in made}
        adopted: set[EpisodeKey] = set()
        for trace in read_traces(path):
            cell = cells.get((identity(trace.env.id, trace.env.keywords), trace.agent.name))
            if cell is None:
                raise EvaluationError(
                    f"{path} has a trace of {trace.agent.name!r} in {trace.env.id} that is not in the plan; name "
                    "another folder"
                )
            result = EpisodeResult.from_trace(trace, cell)
            if result.key not in done | adopted:
                self._writer.add(result)
                adopted.add(result.key)
        return adopted

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._thread.shutdown(wait=True)
        if self._traces is not None:
            self._traces.close()

    def _add(self, trace: EpisodeTrace, cell: Cell) -> EpisodeResult:
        result = EpisodeResult.from_trace(trace, cell)
        if self._traces is not None:
            try:
                self._traces.write(trace)
            except TraceError as error:
                raise EvaluationError(
                    f"{error}\nfree some space and go on with: atommem eval --resume -o {self._writer.path}"
                ) from error
        self._writer.add(result)
        return result
