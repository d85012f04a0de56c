"""The overwrite baseline with a language model, after MemAgent (arXiv 2507.02259): one text, rewritten every chunk."""

from __future__ import annotations

from atommem_gym.actions import Scratchpad, format_action, without_thinking
from atommem_gym.agents.players.llm_player import LanguageModelPlayer
from atommem_gym.agents.players.llm_text import final_answer, operations_in
from atommem_gym.agents.players.player import Turn
from atommem_gym.policies.documents import harmless
from atommem_gym.policies.writing import answer
from atommem_gym.step import Observation, Phase


class OverwritePlayer(LanguageModelPlayer):
    """Whatever the model writes at a chunk is the new scratchpad, whole; then it answers from the scratchpad alone.

    Reasoning is left out. A reply with a scratchpad tag counts as that tag's text; one without any text leaves the
    scratchpad as it is. Made for ``storage=False``.
    """

    own_template = "overwrite.j2"

    async def play(self, observation: Observation) -> Turn:
        """A new scratchpad, or the answer."""
        asked = await self.ask(observation)
        reply, dialect = asked.completion.text, self.config.dialect
        if observation["phase"] == Phase.ANSWERING:
            return asked.turn(format_action([answer(final_answer(reply, dialect), dialect)], dialect))
        tagged = [op.text for op in operations_in(reply, dialect) if isinstance(op, Scratchpad)]
        text = harmless(tagged[-1] if tagged else without_thinking(reply))
        return asked.turn(format_action([Scratchpad(text)], dialect) if text else "")
