"""Teams of language models: readers and an answerer; a model is called only when its part has something to do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from atommem_gym.agents.players.language_model import LanguageModel
from atommem_gym.agents.players.llm_player import LanguageModelPlayer
from atommem_gym.agents.players.player import Player, Turn
from atommem_gym.envs.team.episode import ANSWERER, reader_names
from atommem_gym.step import Observation, Phase


class ReaderPlayer(LanguageModelPlayer):
    """A reader with a language model; once its part of the stream is read it does nothing and asks no model."""

    own_template: ClassVar[str] = "team_reader.j2"

    async def play(self, observation: Observation) -> Turn:
        """The action for a chunk; nothing once the reader's part is read."""
        read, chunks = observation["progress"]
        return Turn("") if read >= chunks else await super().play(observation)


class AnswererPlayer(LanguageModelPlayer):
    """The answerer with a language model; it does nothing and asks no model while the readers read."""

    own_template: ClassVar[str] = "team_answerer.j2"

    async def play(self, observation: Observation) -> Turn:
        """Nothing while reading, then the action for the open question."""
        return Turn("") if observation["phase"] == Phase.READING else await super().play(observation)


def make_llm_team(
    model: LanguageModel, readers: int, *, answerer: LanguageModel | None = None, **settings: Any
) -> Mapping[str, Player]:
    """Make a player for each part of a team, by the name that the environment gives the part.

    Args:
        model: The model of all readers.
        readers: Number of readers.
        answerer: The model of the answerer; by default that of the readers (Memory-R1 trains two models).
        **settings: Keyword arguments of ``LanguageModelPlayer``.

    Raises:
        ConfigError: a setting is unknown or out of range.
    """
    team: dict[str, Player] = {name: ReaderPlayer(name, model, **settings) for name in reader_names(readers)}
    return {**team, ANSWERER: AnswererPlayer(ANSWERER, answerer or model, **settings)}
