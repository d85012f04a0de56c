"""Answers from memory as a perfect reader would, so that scripted agents measure memory and retrieval, not language."""

from __future__ import annotations

from atommem_gym.episode import Episode
from atommem_gym.readers.oracle import oracle_answer, visible_texts
from atommem_gym.step import Observation


class OracleReader:
    """Gives the gold answer if and only if the open question's evidence is visible, else ``unknown``.

    The rule is :func:`~atommem_gym.readers.oracle.oracle_answer`, the same as that of ``reader="oracle"``.

    PRIVILEGED: it looks at the item's answers and evidence. Visible is what an observation shows in its memories or
    its scratchpad, compared exactly (SPEC E12); a text that was stored in several pieces counts as one if the pieces
    have consecutive ids and are all shown.
    """

    def __init__(self, episode: Episode) -> None:
        self._episode = episode

    def answer(self, observation: Observation) -> str:
        """The answer to the open question, from this observation's memories and scratchpad alone."""
        question = self._episode.item.questions[self._episode.open_question]
        memories = [(int(one["id"]), one["text"], float(one["score"])) for one in observation["memories"]]
        return oracle_answer(question, visible_texts(memories, observation["scratchpad"]))
