"""The oracle reader: answers as a perfect reader would, so that scores measure memory and retrieval, not language."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from atommem_gym.evidence import all_visible
from atommem_gym.readers.protocol import Reading, ReadRequest, Seen
from atommem_gym.records.record import Record
from atommem_gym.scoring import UNKNOWN, normalize, sub_exact_match


class OracleFrozenReader:
    """The reader ``"oracle"``, by the rule of :func:`oracle_answer`. PRIVILEGED: it looks at answers and evidence."""

    name = "oracle"

    def read(self, requests: Sequence[ReadRequest]) -> list[Reading]:
        """See ``FrozenReader.read``; never raises."""
        return [
            Reading(one, oracle_answer(one.question, visible_texts(one.memories, one.scratchpad))) for one in requests
        ]


def oracle_answer(question: Record, texts: Sequence[str]) -> str:
    """The gold answer if the texts hold all of the question's evidence (SPEC E12), else ``unknown``.

    For a question that names no evidence it is the first accepted answer that the texts contain as whole words (SPEC
    D8), but never yes or no. For a question without an answer it is ``unknown``.

    Args:
        question: The record, with answers and evidence.
        texts: The texts in sight, as :func:`visible_texts` returns them.
    """
    if question.evidence:
        return question.answer if all_visible(question, texts) else UNKNOWN
    return next((answer for answer in question.answers if says(answer, texts)), UNKNOWN)


def says(answer: str, texts: Sequence[str]) -> bool:
    """Whether a text contains the answer as whole words; false for yes and no, which any text may contain."""
    return (
        bool(normalize(answer))
        and normalize(answer) not in ("yes", "no")
        and any(sub_exact_match(text, (answer,)) for text in texts)
    )


def visible_texts(memories: Sequence[Seen], scratchpad: str) -> list[str]:
    """The texts in sight: scratchpad, memories, and each run of memories with consecutive ids as one text.

    So a text that was stored in several pieces counts as one if the pieces have consecutive ids and are all shown.
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
