"""Answers from what is in sight as a perfect reader would, so that memory and retrieval are measured, not language."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from atommem_gym.evidence import all_visible
from atommem_gym.readers.protocol import Reading, ReadRequest, Seen
from atommem_gym.records.record import Record
from atommem_gym.scoring import UNKNOWN, normalize, sub_exact_match


class OracleFrozenReader:
    """The reader ``"oracle"``: see :func:`oracle_answer`. PRIVILEGED: it looks at answers and evidence."""

    name = "oracle"

    def read(self, requests: Sequence[ReadRequest]) -> list[Reading]:
        """One reading for each request."""
        return [
            Reading(one, oracle_answer(one.question, visible_texts(one.memories, one.scratchpad))) for one in requests
        ]


def oracle_answer(question: Record, texts: Sequence[str]) -> str:
    """The gold answer if and only if the question's evidence stands in the texts (SPEC E12), else ``unknown``.

    Of a question that names no evidence it is the answer that stands there as whole words (SPEC D8); a yes or no means
    nothing so. A question that has no answer gets ``unknown``.
    """
    if question.evidence:
        return question.answer if all_visible(question, texts) else UNKNOWN
    return next((answer for answer in question.answers if says(answer, texts)), UNKNOWN)


def says(answer: str, texts: Sequence[str]) -> bool:
    """Whether one of the texts holds an answer as whole words; never yes or no, which stand in any text."""
    return (
        bool(normalize(answer))
        and normalize(answer) not in ("yes", "no")
        and any(sub_exact_match(text, (answer,)) for text in texts)
    )


def visible_texts(memories: Sequence[Seen], scratchpad: str) -> list[str]:
    """What is in sight: scratchpad, memories, and runs of memories with consecutive ids joined.

    A text that was stored in several pieces counts as one if the pieces have consecutive ids and are all shown.
    """
    shown = sorted(memories, key=lambda memory: memory[0])
    texts = [scratchpad, *(text for _, text, _ in shown)]
    run = [text for _, text, _ in shown[:1]]
    for before, memory in pairwise(shown):
        if memory[0] != before[0] + 1:
            texts += [" ".join(run)] if len(run) > 1 else []
            run = []
        run.append(memory[1])
    return texts + ([" ".join(run)] if len(run) > 1 else [])
