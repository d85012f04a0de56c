"""Language models in a team: prompts of readers and answerer; a model is called only when it has something to do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from atommem_gym.agents.players.language_model import LanguageModel
from atommem_gym.agents.players.llm_player import LanguageModelPlayer
from atommem_gym.agents.players.player import Player, Turn
from atommem_gym.envs.team.episode import ANSWERER, reader_names
from atommem_gym.step import Observation, Phase


class ReaderPlayer(LanguageModelPlayer):
    """A reader of a team with a language model; once its part is read it does nothing, and the model is not asked."""

    own_template: ClassVar[str] = "team_reader.j2"

    async def play(self, observation: Observation) -> Turn:
        """What to do with a chunk."""
        read, chunks = observation["progress"]
        return Turn("") if read >= chunks else await super().play(observation)


class AnswererPlayer(LanguageModelPlayer):
    """The answerer of a team with a language model, which is asked when all has been read."""

    own_template: ClassVar[str] = "team_answerer.j2"

    async def play(self, observation: Observation) -> Turn:
        """What to do for the open question."""
        return Turn("") if observation["phase"] == Phase.READING else await super().play(observation)


def make_llm_team(
    model: LanguageModel, readers: int, *, answerer: LanguageModel | None = None, **settings: Any
) -> Mapping[str, Player]:
    """A player for each part of a team.

    Args:
        model: Who reads; one model may be all readers.
        readers: How many.
        answerer: Who answers, if it is another model (Memory-R1 trains the two apart).
        **settings: Those of ``LanguageModelPlayer``.

    Raises:
        ConfigError: a setting is unknown or out of range.
    """
    team: dict[str, Player] = {name: ReaderPlayer(name, model, **settings) for name in reader_names(readers)}
    return {**team, ANSWERER: AnswererPlayer(ANSWERER, answerer or model, **settings)}
