"""The oracle reader for scripted agents, with which their scores measure memory and retrieval, not language."""

from __future__ import annotations

from atommem_gym.episode import Episode
from atommem_gym.readers.oracle import oracle_answer, visible_texts
from atommem_gym.step import Observation


class OracleReader:
    """Gives the gold answer if the open question's evidence is visible, else ``unknown``.

    It answers by :func:`~atommem_gym.readers.oracle.oracle_answer`, as ``reader="oracle"`` does.

    PRIVILEGED: it looks at the item's answers and evidence. Evidence is visible if the observation's memories or
    scratchpad contain it exactly (SPEC E12). A text that was stored in several pieces counts as one if the pieces have
    consecutive ids and are all shown.
    """

    def __init__(self, episode: Episode) -> None:
        self._episode = episode

    def answer(self, observation: Observation) -> str:
        """The answer to the open question, from this observation's memories and scratchpad alone."""
        question = self._episode.item.questions[self._episode.open_question]
        memories = [(int(one["id"]), one["text"], float(one["score"])) for one in observation["memories"]]
        return oracle_answer(question, visible_texts(memories, observation["scratchpad"]))
