"""Writes operations as action text: in the environment's dialect, within its length, never malformed."""

from __future__ import annotations

import contextlib
import re
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

from atommem_gym.actions import DIALECTS, Answer, Create, Delete, Operation, Read, Scratchpad, Update, format_action
from atommem_gym.config import EnvConfig
from atommem_gym.errors import ConfigError
from atommem_gym.policies.documents import harmless
from atommem_gym.scoring import UNKNOWN
from atommem_gym.step import Observation, Phase

SILENCE = "Nothing to store."
"""The action of a reading step without operations: free text, which the environment ignores (SPEC A2). It makes the
decision not to store visible, and a model can learn it."""
MOVE_ON = "Nothing to keep in this chunk."
"""The entry that an agent writes if ``advance="on_write"`` demands a write and it has nothing to store."""
MAX_BOXED = 250
"""Characters of a boxed answer, at most; the released scorer reads the last 300 of a response (RELEASED D16)."""
_UNBOXABLE = str.maketrans("", "", "{}\\")


class ActionWriter:
    """Writes the actions of one episode in its dialect.

    Creates that would make an action longer than ``max_action_chars`` wait for the next actions. Operations that the
    environment does not have (``operations=``, ``scratchpad=False``, ``storage=False``) are left out.
    """

    def __init__(self, config: EnvConfig) -> None:
        self._config = config
        self._waiting: deque[Operation] = deque()

    @property
    def waiting(self) -> bool:
        """Whether creates are waiting; an agent writes them before it reads or answers."""
        return bool(self._waiting)

    def write(self, operations: Sequence[Operation], observation: Observation) -> str:
        """The action text for these operations.

        Updates, deletes and the scratchpad come first, because they depend on this observation. Then come creates, then
        reads and answers, so that these see what was stored. A reading step without operations gets ``SILENCE``.
        """
        config = self._config
        known = [op for op in operations if op.kind in config.kinds]
        now = [op for op in known if isinstance(op, (Update, Delete, Scratchpad))]
        self._waiting += [op for op in known if isinstance(op, Create)]
        last = [op for op in known if isinstance(op, (Read, Answer))]
        must_write = observation["phase"] == Phase.READING and config.advance == "on_write"
        if must_write and not self._waiting and not any(isinstance(op, Update) for op in now):
            if "create" in config.kinds:
                self._waiting.append(Create(MOVE_ON))
            else:
                # There may be no entry 1: a well-formed update advances the chunk even if it is rejected (SPEC E2).
                now.append(Update(1, MOVE_ON))
        lines: list[str] = []
        room = self._append(lines, now, config.max_action_chars)
        while self._waiting:
            left = self._append(lines, [self._waiting[0]], room)
            if left == room and room < config.max_action_chars:
                return "\n".join(lines)
            room = left
            self._waiting.popleft()
        self._append(lines, last, room)
        if not lines and observation["phase"] == Phase.READING and len(SILENCE) <= config.max_action_chars:
            return SILENCE
        return "\n".join(lines)

    def _append(self, lines: list[str], operations: Sequence[Operation], room: int) -> int:
        """Append the lines of the operations that fit, and return the room that is left."""
        for op in operations:
            line = write_action([op], self._config.dialect)
            if len(line) + 1 <= room:
                lines.append(line)
                room -= len(line) + 1
        return room


def write_action(operations: Sequence[Operation], dialect: str) -> str:
    r"""Write operations as ``format_action`` does, for texts that have not been checked.

    A custom dialect may not be able to write every text. Such a text is written as a single line, or if that fails as
    well, as its words alone.

    >>> write_action([Create("Ada died."), Read("Ada")], "crud")
    '<create>Ada died.</create>\n<read>Ada</read>'

    Args:
        operations: The operations, in the order of execution.
        dialect: A built-in dialect, or ``"package.module:name"``.

    Returns:
        The action text, one operation per line.

    Raises:
        ConfigError: a custom dialect cannot write a line of words.
        ValueError: a built-in dialect cannot write the text; it can write every :func:`harmless` text.
    """
    return "\n".join(_line(op, dialect) for op in operations)


def _line(op: Operation, dialect: str) -> str:
    try:
        return format_action([op], dialect)
    except ValueError as error:
        if dialect in DIALECTS:
            raise
        refused = error
    for simpler in (" ".join, lambda parts: " ".join(_WORDS.findall(" ".join(parts))) or UNKNOWN):
        with contextlib.suppress(ValueError):
            return format_action([_with_text(op, simpler)], dialect)
    raise ConfigError(
        f"dialect={dialect!r} cannot write {op} ({refused}), nor its words alone; a dialect must be able to write "
        "every text that is one line of words: atommem_gym.testing.check_dialect proves a dialect"
    )


def _with_text(op: Operation, simpler: Callable[[list[str]], str]) -> Operation:
    if isinstance(op, Delete):
        return op
    if isinstance(op, Read):
        return Read(simpler(op.query.split()))
    return replace(op, text=simpler(op.text.split()))


_WORDS = re.compile(r"\w+")


def answer(text: str, dialect: str) -> Answer:
    """An answer that the dialect can write: without angle brackets, for ``released`` also short and without braces."""
    text = harmless(text)
    if dialect == "released":
        text = text.translate(_UNBOXABLE)[:MAX_BOXED].strip()
    return Answer(text or UNKNOWN)
