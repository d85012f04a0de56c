"""The folder of an evaluation: written episode by episode, so that a killed run can be resumed; read by reports."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from atommem_gym.errors import AtomMemError, ConfigError, reason_of
from atommem_gym.evaluation.closed_book import ClosedBook, QuestionKey
from atommem_gym.evaluation.plan import Plan, read_plan, write_plan
from atommem_gym.evaluation.results import EpisodeKey, EpisodeResult, FailedEpisode, of_values
from atommem_gym.files.json_lines import JsonLines, read_lines
from atommem_gym.files.strict_json import strict_json

PLAN = "plan.yaml"
"""The plan."""
RESULTS = "results.jsonl"
"""One row per finished episode, with all that tables and plots need."""
FAILURES = "failures.jsonl"
"""One row per failure of an episode."""
SESSIONS = "sessions.jsonl"
"""One row per start and one per end: time, versions, seconds, and what was played."""
PROTOCOL = "protocol.json"
"""The fixed protocol, with its items and their hashes; only if the plan follows one."""
CLOSED_BOOK = "closed_book.jsonl"
"""One row per closed-book answer of the frozen reader; only if there is a reader."""
TRACES = "traces"
"""Whole episodes; the name without its suffix, which is ``Plan.traces``."""


class EvaluationError(AtomMemError, RuntimeError):
    """The folder of an evaluation cannot be used; the message says why and what to do."""


def row_file(path: Path) -> JsonLines:
    """Open a file of rows for appending, by this process alone.

    Raises:
        EvaluationError: the file cannot be written, or another process writes it.
    """
    return JsonLines(path, EvaluationError, "go on with --resume, or name another folder")


def read_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The place and values of every complete row of a file; nothing if there is no such file.

    Raises:
        EvaluationError: a row is not a JSON object, or holds what no report can write.
    """
    if not path.is_file():
        return
    for number, line in read_lines(path):
        where = f"{path}, line {number}"
        try:
            values = strict_json(line)
        except ValueError as error:
            raise EvaluationError(f"{where} is not JSON: {error}; remove the line to play its episode again") from error
        if not isinstance(values, dict):
            raise EvaluationError(f"{where} is not a JSON object; remove the line to play its episode again")
        try:
            _check_plain(values)
        except (ValueError, RecursionError) as error:
            raise EvaluationError(f"{where} is damaged: {error}; remove the line to play its episode again") from error
        yield where, values


def _check_plain(value: Any) -> None:
    """Refuse integers that no table or plot can hold, and texts that no file can."""
    if isinstance(value, int) and abs(value) >= 1 << 63:
        raise ValueError("an integer has more than 64 bits")
    if isinstance(value, str):
        value.encode()
    for part in (
        (*value.keys(), *value.values()) if isinstance(value, dict) else value if isinstance(value, list) else ()
    ):
        _check_plain(part)


@dataclass(frozen=True, slots=True)
class Run:
    """An evaluation as its folder holds it."""

    path: Path
    """The folder."""
    plan: Plan
    """What was to be played."""
    results: tuple[EpisodeResult, ...]
    """The finished episodes."""
    failures: tuple[FailedEpisode, ...]
    """The latest failure of each episode that has not been finished since."""
    sessions: tuple[Mapping[str, Any], ...]
    """Facts of each start: time, versions and processor, and of its end, if it came to one: seconds and work."""
    closed_book: Mapping[QuestionKey, ClosedBook] = field(default_factory=dict)
    """The frozen reader's closed-book answers; empty if the policy answers."""

    @property
    def done(self) -> set[EpisodeKey]:
        """The finished episodes."""
        return {result.key for result in self.results}


def check_no_links(path: Path) -> None:
    """Check that a folder holds no symbolic link, through which any file of the user could be read or written.

    Raises:
        EvaluationError: there is a link.
    """
    for entry in path.rglob("*"):
        if entry.is_symlink():
            raise EvaluationError(f"{entry} is a link, which no folder of an evaluation has; put the file in its place")


def read_run(path: Path) -> Run:
    """Read what an evaluation has written so far; it may still be running.

    Args:
        path: The evaluation's folder, which ``-o`` named.

    Raises:
        EvaluationError: the folder holds no evaluation, or a file in it is damaged.
        ConfigError: its plan is wrong.
        AtomMemError: a row is damaged or of another version.
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
        failure = of_values(FailedEpisode, values, where, "remove the line")
        if failure.key not in results:
            failures[failure.key] = failure
    sessions = _sessions(read_rows(path / SESSIONS))
    asked = [ClosedBook.from_values(values, where) for where, values in read_rows(path / CLOSED_BOOK)]
    return Run(
        path,
        read_plan(path / PLAN),
        tuple(results.values()),
        tuple(failures.values()),
        sessions,
        {row.key: row for row in asked},
    )


def _sessions(rows: Iterator[tuple[str, dict[str, Any]]]) -> tuple[Mapping[str, Any], ...]:
    sessions: list[dict[str, Any]] = []
    for where, row in rows:
        parts = [row.get(name, {}) for name in ("played", "work")]
        numbers = [row.get("seconds", 0), *(one for part in parts if isinstance(part, dict) for one in part.values())]
        if not all(isinstance(part, dict) for part in parts) or not all(map(_is_figure, numbers)):
            raise EvaluationError(f"{where} is damaged: seconds, played and work must hold numbers; remove the line")
        if row.get("event") == "start" or not sessions:
            sessions.append({})
        sessions[-1] |= {name: value for name, value in row.items() if name != "event"}
    return tuple(sessions)


def _is_figure(value: Any) -> bool:
    return type(value) in (int, float) and bool(abs(value) <= 2**53)


class RunWriter:
    """The folder of a running evaluation; a context manager.

    Args:
        path: The folder; made if it is not there.
        plan: What is played.
        resume: Whether the folder may hold results already.

    Raises:
        ConfigError: the folder has results of another plan, or ``resume`` is not set.
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
            raise EvaluationError(f"the folder {path} cannot be made ({reason_of(error)}); name another one") from error
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
        """The file of traces; ``None`` if the plan has ``traces="none"``."""
        return None if self.plan.traces == "none" else self.path / f"{TRACES}.{self.plan.traces}"

    def add(self, result: EpisodeResult) -> None:
        """Write the row of a finished episode, whose trace must have been written before."""
        self._results.append(result.to_values())

    def fail(self, failure: FailedEpisode) -> None:
        """Write the row of a failed episode."""
        self._failures.append(asdict(failure))

    def keep_closed_book(self, row: ClosedBook) -> None:
        """Write the row of a closed-book answer."""
        if self._closed_book is None:
            self._closed_book = self._open(CLOSED_BOOK)
        self._closed_book.append(row.to_values())

    def start(self, facts: Mapping[str, Any]) -> None:
        """Write the facts of a start, such as versions."""
        self._sessions.append({"event": "start", **facts})

    def end(self, facts: Mapping[str, Any]) -> None:
        """Write the facts of an end, such as seconds and what was played."""
        self._sessions.append({"event": "end", **facts})

    def discard(self) -> None:
        """Remove the files that this writer began, if nothing was played.

        A folder that had a plan before is unchanged, and so is one with results, failures or closed-book answers.
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
        """Close all files; a second call does nothing."""
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
