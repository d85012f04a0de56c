"""The control flow of the paper's released code, where it differs from the default (``preset="released"``).

Only consecutive reads count, an update deletes and adds, a malformed operation ends the action, and an action may close
several questions. Empty texts are executed: an empty update deletes, an empty scratchpad clears it, and an empty query
keeps the last one and counts as a read. See ``docs/released.md``.
"""

from __future__ import annotations

from collections.abc import Sequence

from atommem_gym.actions import Answer, Create, Delete, Invalid, Operation, Read, Scratchpad, Update
from atommem_gym.episode import Episode
from atommem_gym.memory.memory import Outcome
from atommem_gym.step import Closing, Phase, Shown, Step


class ReleasedEpisode(Episode):
    """An episode with the control flow of the released code, but with isolated memory and aligned answers."""

    _empty_texts = True

    def _apply(self, step: Step, position: int, op: Operation | Invalid) -> None:
        if step.outcomes and any(report.reason in ("bad_id", "aborted") for report in step.outcomes[-1].reports):
            # As in the released code, the rest of the action is lost and the chunk does not advance.
            step.reject(position, op, "aborted", "a malformed operation before it ended the action")
            step.wrote = False
            return
        if self._is_empty(op):
            op = Invalid("answer", "empty", "answer needs a text")
        super()._apply(step, position, op)
        empty_create = isinstance(op, Invalid) and (op.kind, op.reason) == ("create", "empty")
        if isinstance(op, (Create, Update, Delete, Scratchpad)) or empty_create:
            step.reads = 0
        if isinstance(op, Invalid) and op.reason == "bad_id":
            step.wrote = False

    def _update(self, step: Step, position: int, op: Update) -> None:
        """Delete the shown entry by content, then add the new text under a new id."""
        text = self._addressed_text(step, position, op)
        if text is None:
            return
        twin = step.draft.find(text)
        before = None if twin is None else step.draft.entry(twin)
        forgotten = self._forget(step, text)
        if op.text:
            step.note(position, op, step.draft.create(op.text, before)._replace(replaced=forgotten))
        elif forgotten is not None:
            step.note(position, op, Outcome(True, forgotten))
        else:
            step.reject(position, op, "unknown_id", f"entry {op.id} was deleted before")

    def _delete(self, step: Step, position: int, op: Delete) -> None:
        text = self._addressed_text(step, position, op)
        if text is None:
            return
        twin = self._forget(step, text)
        if twin is None:
            step.reject(position, op, "unknown_id", f"entry {op.id} was deleted before")
        else:
            step.note(position, op, Outcome(True, twin))

    def _addressed_text(self, step: Step, position: int, op: Update | Delete) -> str | None:
        """The text of the addressed entry when it was shown; if there is none, report that and return ``None``."""
        entry_id = self._resolve(step, position, op)
        if entry_id is None:
            return None
        entry = self.state.memory.entries.get(entry_id) or step.draft.entry(entry_id)
        if entry is None:
            step.reject(position, op, "unknown_id", f"there is no entry {op.id}")
            return None
        return entry.text

    def _forget(self, step: Step, text: str) -> int | None:
        """Delete the first live entry with this text and return its id; ``None`` if there is none."""
        twin = step.draft.find(text)
        return twin if twin is not None and step.draft.delete(twin).applied else None

    def _read(self, step: Step, position: int, op: Read) -> None:
        """One read more than ``max_reads_per_question`` in a row closes the open question, also while reading."""
        if self._all_closed(step):
            step.reject(position, op, "question_closed", "no question is open")
        elif step.reads >= self.config.max_reads_per_question:
            limit = self.config.max_reads_per_question
            step.reject(position, op, "read_limit", f"{limit} reads in a row are allowed; the question is given up")
            self._close_question(step, Closing("read_limit"))
        else:
            step.reads += 1
            step.query = op.query or step.query
            step.note(position, op, Outcome(True))

    def _answer(self, step: Step, position: int, op: Answer) -> None:
        """Each answer closes a question; it is scored only if it is the only answer of its action."""
        if self.phase is Phase.READING and not self.config.early_answer:
            step.reject(position, op, "not_yet", "questions are answered after the last chunk")
        elif self._all_closed(step):
            step.reject(position, op, "question_closed", "no question is open")
        else:
            step.note(position, op, Outcome(True))
            if sum(isinstance(other, Answer) and not self._is_empty(other) for other in step.operations) == 1:
                self._score_answer(step, op)
            else:
                self._close_question(step, Closing("unscored", op.text))

    def _is_empty(self, op: Operation | Invalid) -> bool:
        """Whether it is an empty answer, unknown to that code; in its own dialect that is one without a box (A1)."""
        return isinstance(op, Answer) and not op.text and self.config.dialect != "released"

    def _all_closed(self, step: Step) -> bool:
        return self.open_question + len(step.closings) >= len(self.item.questions)

    def _show(self, hits: Sequence[tuple[int, float]]) -> None:
        """Cut the text shown to ``max_memory_tokens``; all entries found can be addressed."""
        room = self.config.max_memory_tokens
        shown = []
        for entry_id, score in hits:
            entry = self.state.memory.entries[entry_id]
            text = entry.text if entry.tokens <= room else self._tokenizer.cut(entry.text, room) if room > 0 else ""
            room -= entry.tokens
            if text:
                shown.append(Shown(entry_id, text, score))
        self.state.shown = tuple(shown)
        self.state.addressable = tuple(entry_id for entry_id, _ in hits)

    def _question_text(self) -> str:
        """While reading, all questions, unnumbered, one per line."""
        if self.phase is Phase.READING and self.config.question_visible == "always":
            return "\n".join(question.question for question in self.item.questions)
        return super()._question_text()
