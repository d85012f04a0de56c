"""The folder of an evaluation: written episode by episode, resumable after a kill, read again by reports."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from atommem_gym.errors import AtomMemError, ConfigError
from atommem_gym.evaluation.closed_book import ClosedBook, QuestionKey
from atommem_gym.evaluation.plan import Plan, read_plan, write_plan
from atommem_gym.evaluation.results import EpisodeKey, EpisodeResult, FailedEpisode
from atommem_gym.files.json_lines import JsonLines, read_lines

PLAN = "plan.yaml"
RESULTS = "results.jsonl"
"""One row per episode: what tables and plots are made of."""
FAILURES = "failures.jsonl"
"""One row for each time that an episode could not be played to its end."""
SESSIONS = "sessions.jsonl"
"""One row per start and one per end: when, with which versions, how long, how much."""
PROTOCOL = "protocol.json"
"""The fixed protocol that was played, with its items and their hashes; only where there is one."""
CLOSED_BOOK = "closed_book.jsonl"
"""One row per question, as the frozen reader answers it with nothing shown; only where there is a reader."""
TRACES = "traces"
"""Without its suffix, which the plan names."""


class EvaluationError(AtomMemError, RuntimeError):
    """The folder of an evaluation cannot be used; the message says why and what to do."""


def row_file(path: Path) -> JsonLines:
    """A file of rows, opened for appending by this process alone.

    Raises:
        EvaluationError: the file cannot be written, or another process writes it.
    """
    return JsonLines(path, EvaluationError, "go on with --resume, or name another folder")


def read_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Place and values of every whole row of a file; none if there is no such file.

    Raises:
        EvaluationError: a row is not a JSON object.
    """
    if not path.is_file():
        return
    for number, line in read_lines(path):
        where = f"{path}, line {number}"
        try:
            values = json.loads(line)
        except ValueError as error:
            raise EvaluationError(f"{where} is not JSON: {error}; remove the line to play its episode again") from error
        if not isinstance(values, dict):
            raise EvaluationError(f"{where} is not a JSON object; remove the line to play its episode again")
        yield where, values


@dataclass(frozen=True, slots=True)
class Run:
    """What is in the folder of an evaluation."""

    path: Path
    plan: Plan
    results: tuple[EpisodeResult, ...]
    failures: tuple[FailedEpisode, ...]
    """Of episodes that have not been finished since, the latest of each."""
    sessions: tuple[Mapping[str, Any], ...]
    """One a start, with what its end added if it had one."""
    closed_book: Mapping[QuestionKey, ClosedBook] = field(default_factory=dict)
    """What the frozen reader answered with nothing shown; empty where the policy answers."""

    @property
    def done(self) -> set[EpisodeKey]:
        """Which episodes are finished."""
        return {result.key for result in self.results}


def check_no_links(path: Path) -> None:
    """Refuse a folder that holds a link: it may come from a stranger, and have any file read or written.

    Raises:
        EvaluationError: there is one.
    """
    for entry in path.rglob("*"):
        if entry.is_symlink():
            raise EvaluationError(f"{entry} is a link, which no folder of an evaluation has; put the file in its place")


def read_run(path: Path) -> Run:
    """Read what an evaluation has written so far; it may still be running.

    Args:
        path: The evaluation's folder, which ``-o`` named.

    Raises:
        EvaluationError: it holds no evaluation, or a file of it is damaged.
        ConfigError: its plan is wrong.
    """
    if path.is_file():
        raise EvaluationError(f"{path} is a file, and the folder of an evaluation is wanted; name its folder")
    if not (path / PLAN).is_file():
        raise EvaluationError(f"{path} holds no evaluation (there is no {PLAN}); `atommem eval … -o {path}` makes one")
    check_no_links(path)
    results: dict[EpisodeKey, EpisodeResult] = {}
    for where, values in read_rows(path / RESULTS):
        result = EpisodeResult.from_values(values, where)
        results.setdefault(result.key, result)
    failures: dict[EpisodeKey, FailedEpisode] = {}
    for where, values in read_rows(path / FAILURES):
        try:
            failure = FailedEpisode(**values)
        except TypeError as error:
            raise EvaluationError(f"{where} is damaged: {error}; remove the line") from error
        if failure.key not in results:
            failures[failure.key] = failure
    sessions = _sessions(values for _, values in read_rows(path / SESSIONS))
    asked = [ClosedBook.from_values(values, where) for where, values in read_rows(path / CLOSED_BOOK)]
    return Run(
        path,
        read_plan(path / PLAN),
        tuple(results.values()),
        tuple(failures.values()),
        sessions,
        {row.key: row for row in asked},
    )


def _sessions(rows: Iterator[dict[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    sessions: list[dict[str, Any]] = []
    for row in rows:
        if row.get("event") == "start" or not sessions:
            sessions.append({})
        sessions[-1] |= {name: value for name, value in row.items() if name != "event"}
    return tuple(sessions)


class RunWriter:
    """The folder of a running evaluation; a context manager.

    Args:
        path: The folder; it is made if it is not there.
        plan: What is played.
        resume: Go on with what the folder holds.

    Raises:
        ConfigError: the folder has results, and this is not a resume of the same plan; the message says what differs.
        EvaluationError: the folder cannot be written, or another process writes it.
    """

    def __init__(self, path: Path, plan: Plan, *, resume: bool = False) -> None:
        self.path = path
        self.plan = plan
        self._made = not path.exists()
        self._begins = not (path / PLAN).exists()
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EvaluationError(f"the folder {path} cannot be made ({error.strerror}); name another one") from error
        check_no_links(path)
        self._results = row_file(path / RESULTS)
        self._files = [self._results]
        self._closed_book: JsonLines | None = None
        try:
            self._check_plan(resume)
            write_plan(plan, path / PLAN)
            self._failures = self._open(FAILURES)
            self._sessions = self._open(SESSIONS)
            self.earlier = read_run(path)
        except BaseException:
            self.close()
            raise

    @property
    def traces(self) -> Path | None:
        """The file of traces, if the plan wants one."""
        return None if self.plan.traces == "none" else self.path / f"{TRACES}.{self.plan.traces}"

    def add(self, result: EpisodeResult) -> None:
        """Write the row of a finished episode; its trace must be written before."""
        self._results.append(result.to_values())

    def fail(self, failure: FailedEpisode) -> None:
        """Write down that an episode could not be played to its end."""
        self._failures.append(asdict(failure))

    def keep_closed_book(self, row: ClosedBook) -> None:
        """Write down what the frozen reader answered with nothing shown."""
        if self._closed_book is None:
            self._closed_book = self._open(CLOSED_BOOK)
        self._closed_book.append(row.to_values())

    def start(self, facts: Mapping[str, Any]) -> None:
        """Write down who plays from now on."""
        self._sessions.append({"event": "start", **facts})

    def end(self, facts: Mapping[str, Any]) -> None:
        """Write down what was played."""
        self._sessions.append({"event": "end", **facts})

    def discard(self) -> None:
        """Remove what this writer began, if nothing was played: a folder without an episode is no evaluation.

        A folder that had a plan before stays as it is, and so does one with rows that cost something.
        """
        self.close()
        costly = (RESULTS, FAILURES, CLOSED_BOOK)
        if not self._begins or any(path.is_file() and path.stat().st_size for path in map(self.path.joinpath, costly)):
            return
        if self.traces is not None and self.traces.is_file() and self.traces.stat().st_size:
            return
        for name in (PLAN, SESSIONS, PROTOCOL, *costly, *(() if self.traces is None else (self.traces.name,))):
            (self.path / name).unlink(missing_ok=True)
        if self._made and not any(self.path.iterdir()):
            self.path.rmdir()

    def close(self) -> None:
        """Close all files; closing twice is not an error."""
        for file in self._files:
            file.close()

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _open(self, name: str) -> JsonLines:
        file = row_file(self.path / name)
        self._files.append(file)
        return file

    def _check_plan(self, resume: bool) -> None:
        if not (self.path / RESULTS).stat().st_size:
            return
        if not (self.path / PLAN).is_file():
            raise ConfigError(f"{self.path} has results but no {PLAN}; name another folder")
        earlier = read_plan(self.path / PLAN)
        differences = earlier.differences(self.plan)
        if differences:
            lines = "\n".join(f"  {line}" for line in differences)
            raise ConfigError(
                f"{self.path} has results of another plan; name another folder, or go on with its own plan: "
                f"atommem eval --resume -o {self.path}\nwhat differs (there and now):\n{lines}"
            )
        if not resume:
            raise ConfigError(
                f"{self.path} has results already; go on with them by --resume, make their report again by "
                "--report-only, or name another folder"
            )
