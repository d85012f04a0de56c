"""The retrieval baseline: stores every passage unchanged; the model answers from the result of one search."""

from __future__ import annotations

from typing import Any

from atommem_gym.actions import Create, Read
from atommem_gym.agents.players.language_model import LanguageModel
from atommem_gym.agents.players.llm_player import LanguageModelPlayer, final_answer
from atommem_gym.agents.players.player import Turn
from atommem_gym.episode import Episode
from atommem_gym.errors import check_integer
from atommem_gym.policies.documents import DocumentReader, harmless, split
from atommem_gym.policies.writing import ActionWriter, answer, write_action
from atommem_gym.records.record import Document
from atommem_gym.step import Observation, Phase
from atommem_gym.tokenizers import load_tokenizer


class RetrieveThenReadPlayer(LanguageModelPlayer):
    """Cuts every document into passages and stores them without the model; then searches once per question and answers.

    A passage is the title of its document and whole sentences below it. The model sees only the question and the
    ``top_k`` passages that the search found. Made for ``operations=["create", "read"], scratchpad=False``.

    Args:
        name: Name of the player, for tables and traces.
        model: Any language model.
        passage_tokens: Tokens of a passage, at most, counted by the environment's tokenizer.
        **options: Keyword arguments of ``LanguageModelPlayer``.

    Raises:
        ConfigError: ``passage_tokens`` or a sampling setting is unknown or out of range.
    """

    own_template = "read.j2"

    def __init__(self, name: str, model: LanguageModel, *, passage_tokens: int = 200, **options: Any) -> None:
        super().__init__(name, model, **options)
        self._passage_tokens = check_integer("passage_tokens", passage_tokens, 1)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of ``LanguageModelPlayer``, and ``passage_tokens``."""
        return {**super().settings, "passage_tokens": self._passage_tokens}

    def reset(self, episode: Episode, seed: int) -> None:
        """Forget all documents."""
        super().reset(episode, seed)
        self._documents = DocumentReader(self.config)
        self._writer = ActionWriter(self.config)
        self._tokenizer = load_tokenizer(self.config.tokenizer)
        self._searched = False

    async def play(self, observation: Observation) -> Turn:
        """Store passages while reading; then one search and one answer for each question."""
        if observation["phase"] == Phase.READING:
            passages = [text for document in self._documents.read(observation) for text in self.passages(document)]
            return _turn(self._writer.write([Create(text) for text in passages], observation))
        if self._writer.waiting and observation["steps_left"] > 1:
            return _turn(self._writer.write([], observation))
        if not self._searched and self._may_search(observation):
            self._searched = True
            return _turn(write_action([Read(harmless(observation["question"]))], self.config.dialect))
        asked = await self.ask(observation)
        self._searched = False
        dialect = self.config.dialect
        found = final_answer(asked.completion.text, dialect, self.config.thinking)
        return asked.turn(write_action([answer(found, dialect)], dialect))

    def passages(self, document: Document) -> list[str]:
        """The passages of a document, each of at most ``passage_tokens`` tokens, title included."""
        limit = min(self._passage_tokens, self.config.max_entry_tokens)
        title = self._tokenizer.cut(document.title, limit // 2)
        room = max(1, limit - self._tokenizer.count(f"{title}\n"))
        return [f"{title}\n{text}".strip() for text in split(document.text, self._tokenizer, room)] or [title]

    def _may_search(self, observation: Observation) -> bool:
        left = observation["reads_left"] > 0 and observation["steps_left"] > 1
        return bool(left and harmless(observation["question"]) and "read" in self.config.kinds)


def _turn(action: str) -> Turn:
    return Turn(action, response=action)
