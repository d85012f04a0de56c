"""The closed-book control: guesses from the text of the question alone."""

from __future__ import annotations

import re
from collections.abc import Sequence

from atommem_gym.actions import Operation
from atommem_gym.config import EnvConfig
from atommem_gym.episode import Episode
from atommem_gym.policies.writing import ActionWriter, answer
from atommem_gym.records.layout import stable_rng
from atommem_gym.scoring import UNKNOWN
from atommem_gym.step import Observation, Phase

_YES_NO = re.compile(r"(?:am|are|is|was|were|do|does|did|has|have|had|can|could|will|would|should)\b", re.IGNORECASE)
# The first comma after the question word: names may hold commas themselves ("Peace Museum, Bradford").
_CHOICE = re.compile(
    r"\b(?:who|whose|which|what|where|when)\b[^,:]*[,:]\s*(?P<one>.+?),?\s+or\s+(?P<other>.+?)[\s?.]*$",
    re.IGNORECASE | re.DOTALL,
)


class SilentAgent:
    """Stores nothing, reads nothing, and answers with one of the options that the question names, else ``unknown``.

    It sees only the text of the question, so it scores what guessing scores. A higher score means that the questions
    give their answers away.
    """

    name = "silent"
    config: EnvConfig
    """The environment's keyword arguments; set by ``reset``."""

    def reset(self, episode: Episode, seed: int) -> None:
        """Seed the guesses of this episode."""
        self.config = episode.config
        self._generator = stable_rng("silent agent", seed)
        self._writer = ActionWriter(self.config)

    def act(self, observation: Observation) -> str:
        """Do nothing while reading (see ``policies.writing.MOVE_ON``), then guess."""
        operations: Sequence[Operation] = ()
        if observation["phase"] == Phase.ANSWERING:
            choices = options(observation["question"]) or (UNKNOWN,)
            operations = [answer(choices[int(self._generator.integers(len(choices)))], self.config.dialect)]
        return self._writer.write(operations, observation)


def options(question: str) -> tuple[str, ...]:
    """The answers that a question offers: both sides of its final "or", yes and no, or none.

    >>> options("Which film came out first, Blind Shaft or The Mask Of Fu Manchu?")
    ('Blind Shaft', 'The Mask Of Fu Manchu')
    >>> options("Is Ada older than Bob?")
    ('yes', 'no')
    >>> options("Where was Ada born?")
    ()
    """
    choice = _CHOICE.search(question)
    if choice:
        return (choice["one"], choice["other"])
    return ("yes", "no") if _YES_NO.match(question.strip()) else ()
