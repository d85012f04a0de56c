"""Where finished episodes go: the trace, then the row that says that the episode is done, off the event loop."""

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
    """Writes episodes one after the other in a thread of its own; a context manager.

    An episode is half a megabyte of text to encode and perhaps to compress, and others are under way. What was begun is
    written to its end, row and all, also if whoever waits for it is cancelled.
    """

    def __init__(self, writer: RunWriter) -> None:
        """Open the file of traces, if the plan wants one.

        Raises:
            TraceError: it cannot be written.
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
        """Give their rows to traces whose writer was killed between trace and row; returns their episodes.

        Raises:
            EvaluationError: there is a trace of something else.
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
