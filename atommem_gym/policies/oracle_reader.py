"""Answers from memory as a perfect reader would, so that scripted agents measure memory and retrieval, not language."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from atommem_gym.episode import Episode
from atommem_gym.evidence import all_visible
from atommem_gym.policies.writing import UNKNOWN
from atommem_gym.scoring import normalize, sub_exact_match
from atommem_gym.step import Observation


class OracleReader:
    """Gives the gold answer if and only if the open question's evidence is visible, else ``unknown``.

    Of a question that names no evidence it gives the answer that is visible as whole words (SPEC D8); a yes or no means
    nothing so. A question that has no answer gets ``unknown``.

    PRIVILEGED: it looks at the item's answers and evidence. Visible is what an observation shows in its memories or
    its scratchpad, compared exactly (SPEC E12); a text that was stored in several pieces counts as one if the pieces
    have consecutive ids and are all shown.
    """

    def __init__(self, episode: Episode) -> None:
        self._episode = episode

    def answer(self, observation: Observation) -> str:
        """The answer to the open question, from this observation's memories and scratchpad alone."""
        question = self._episode.item.questions[self._episode.open_question]
        texts = visible_texts(observation)
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


def visible_texts(observation: Observation) -> list[str]:
    """The texts that an observation shows: scratchpad, memories, and runs of memories with consecutive ids joined."""
    shown = sorted(observation["memories"], key=lambda memory: int(memory["id"]))
    texts = [observation["scratchpad"], *(memory["text"] for memory in shown)]
    run = [memory["text"] for memory in shown[:1]]
    for before, memory in pairwise(shown):
        if memory["id"] != before["id"] + 1:
            texts += [" ".join(run)] if len(run) > 1 else []
            run = []
        run.append(memory["text"])
    return texts + ([" ".join(run)] if len(run) > 1 else [])
