"""Asks a frozen reader the questions of an evaluation closed-book, without any memory (SPEC E13).

Every question is asked once, and the answers stand in the run's folder. Memory gain is the EM of an episode minus the
closed-book EM, so that what the reader knows by itself does not count for the memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any, TypeAlias

from atommem_gym.config import EnvConfig
from atommem_gym.errors import AtomMemError
from atommem_gym.evaluation.results import EpisodeResult, QuestionResult, of_values
from atommem_gym.readers.loading import load_reader
from atommem_gym.readers.options import ORACLE
from atommem_gym.readers.protocol import Reading, ReadRequest
from atommem_gym.readers.server import ServerReader
from atommem_gym.records.record import Item, Record
from atommem_gym.scoring import ScoreRequest, exact_match, f1, measured

VERSION = 1
"""Version of the rows; any change of a field or of its meaning raises it."""
BATCH = 64
"""Questions that are asked together, and then written."""

QuestionKey: TypeAlias = tuple[str, int, str]
"""Label of the environment, document count, and id of the question."""


@dataclass(frozen=True, slots=True)
class ClosedBook:
    """The reader's closed-book answer to one question."""

    env: str
    """Label of the environment."""
    docs: int
    """Document count of the plan."""
    id: str
    """Id of the question."""
    question: str
    """Text of the question."""
    reader: str
    """Name of the reader."""
    answer: str
    """The reader's answer."""
    em: float
    """Exact match of the answer, 0 or 1."""
    f1: float
    """Token F1 of the answer."""
    answerable: bool
    """Whether the question has an answer."""
    counted: bool
    """Whether the question counts: with the oracle as reader, one without an answer does not (SPEC R5)."""
    calls: int
    """Calls of the reader's model."""
    prompt_tokens: int | None
    """Tokens of its prompts; ``None`` if unknown."""
    completion_tokens: int | None
    """Tokens of its replies; ``None`` if unknown."""
    seconds: float
    """Seconds of its calls."""

    @property
    def key(self) -> QuestionKey:
        """Identifies the question in the plan."""
        return (self.env, self.docs, self.id)

    @property
    def known(self) -> bool:
        """Whether the answer is right, so that the closed-book filter leaves the question out."""
        return self.em >= 1.0

    def to_values(self) -> dict[str, Any]:
        """The row as JSON values; :meth:`from_values` is the inverse."""
        return {"version": VERSION, **asdict(self), "known": self.known}

    @classmethod
    def from_values(cls, values: Mapping[str, Any], where: str = "the row") -> ClosedBook:
        """Make a row of JSON values.

        Args:
            values: As :meth:`to_values` returns them.
            where: Names the row in messages.

        Raises:
            AtomMemError: the values are of another version or damaged.
        """
        parts = {name: value for name, value in values.items() if name not in ("version", "known")}
        version = values.get("version")
        if type(version) is not int or version != VERSION:
            raise AtomMemError(
                f"{where} is of version {version!r:.40} and this package reads {VERSION}; remove the file to "
                "ask the reader again"
            )
        return of_values(cls, parts, where, "remove the line to ask the reader again")


def ask_closed_book(
    env: str,
    docs: int,
    config: EnvConfig,
    items: Iterable[Item],
    done: Mapping[QuestionKey, ClosedBook],
    keep: Callable[[ClosedBook], None],
    check: Callable[[], None],
) -> None:
    """Ask an environment's reader the questions of some items closed-book, unless it has been asked before.

    Args:
        env: Label of the environment.
        docs: Its document count.
        config: The environment's keyword arguments; if the policy answers by itself, nothing is asked.
        items: The items that are played.
        done: Answers of earlier calls.
        keep: Called with each answer as soon as its batch is answered.
        check: Called before each batch; it raises to stop.

    Raises:
        ReaderError, ConfigError: the reader cannot be asked; earlier answers have been kept.
    """
    if config.policy_answers:
        return
    questions: dict[str, tuple[Record, bool]] = {}
    for item in items:
        may_abstain = config.abstention or not all(question.answerable for question in item.questions)
        questions |= {one.id: (one, may_abstain) for one in item.questions if (env, docs, one.id) not in done}
    if not questions:
        return
    reader = load_reader(config.reader, config.reader_options, abstention=config.abstention)
    assert reader is not None
    try:
        pairs = list(questions.values())
        for batch in (pairs[start : start + BATCH] for start in range(0, len(pairs), BATCH)):
            check()
            readings = reader.read([ReadRequest(question) for question, _ in batch])
            for (question, may_abstain), reading in zip(batch, readings, strict=True):
                keep(_row(env, docs, config, question, may_abstain, reader.name, reading))
    finally:
        if isinstance(reader, ServerReader):
            reader.close()


def gain(result: EpisodeResult, asked: Mapping[QuestionKey, ClosedBook]) -> float | None:
    """Memory gain of an episode: its EM minus the closed-book EM of its reader; ``None`` if one is unknown."""
    before = closed_book_em(result, asked)
    return None if before is None or result.em is None else result.em - before


def closed_book_em(result: EpisodeResult, asked: Mapping[QuestionKey, ClosedBook]) -> float | None:
    """Closed-book EM of an episode's reader; ``None`` if it was not asked every question, or if none counts."""
    rows = [asked.get((result.env, result.docs, question.id)) for question in result.questions]
    known = [row.em for row in rows if row is not None and row.counted]
    return fmean(known) if known and all(rows) else None


def unknown_questions(result: EpisodeResult, asked: Mapping[QuestionKey, ClosedBook]) -> Sequence[QuestionResult]:
    """The questions of an episode that the closed-book filter keeps: they count and the reader does not know them."""
    rows = [(asked.get((result.env, result.docs, question.id)), question) for question in result.questions]
    return [question for row, question in rows if row is not None and row.counted and not row.known]


def _row(
    env: str, docs: int, config: EnvConfig, question: Record, may_abstain: bool, reader: str, reading: Reading
) -> ClosedBook:
    answerable = question.answerable if may_abstain else None
    request = ScoreRequest(question.question, reading.answer, question.answers, answerable)
    calls = reading.calls
    return ClosedBook(
        env=env,
        docs=docs,
        id=question.id,
        question=question.question,
        reader=reader,
        answer=reading.answer,
        em=measured(exact_match, request),
        f1=measured(f1, request),
        answerable=question.answerable,
        counted=question.answerable or config.reader != ORACLE,
        calls=len(calls),
        prompt_tokens=_sum([call.prompt_tokens for call in calls]),
        completion_tokens=_sum([call.completion_tokens for call in calls]),
        seconds=round(sum(call.seconds for call in calls), 6),
    )


def _sum(numbers: Sequence[int | None]) -> int | None:
    return None if any(number is None for number in numbers) else sum(number or 0 for number in numbers)
