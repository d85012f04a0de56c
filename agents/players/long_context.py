"""The baseline without memory: one prompt holds all documents that fit, followed by the question."""

from __future__ import annotations

from typing import Any

from atommem_gym.agents.players.language_model import LanguageModel
from atommem_gym.agents.players.llm_player import LanguageModelPlayer, final_answer
from atommem_gym.agents.players.player import Dropped, Turn
from atommem_gym.agents.players.shortening import cut_middle
from atommem_gym.episode import Episode
from atommem_gym.errors import check_integer
from atommem_gym.policies.writing import answer, write_action
from atommem_gym.step import Observation, Phase
from atommem_gym.tokenizers import load_tokenizer


class LongContextPlayer(LanguageModelPlayer):
    """Collects the chunks without asking the model, then shows it all of them with each question.

    If the documents are longer than ``context_tokens`` or than the model's context, the tokens in their middle are left
    out, and every turn reports how many. Made for ``storage=False, scratchpad=False``.

    Args:
        name: Name of the player, for tables and traces.
        model: Any language model.
        context_tokens: Tokens of documents, at most, counted by the environment's tokenizer; ``None``: as many as fit
            the model's context.
        **options: Keyword arguments of ``LanguageModelPlayer``.

    Raises:
        ConfigError: ``context_tokens`` or a sampling setting is unknown or out of range.
    """

    own_template = "long_context.j2"
    chunk_name = "documents"

    def __init__(self, name: str, model: LanguageModel, *, context_tokens: int | None = None, **options: Any) -> None:
        super().__init__(name, model, **options)
        if context_tokens is not None:
            context_tokens = check_integer("context_tokens", context_tokens, 1, or_else=", or None")
        self._context_tokens = context_tokens

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of ``LanguageModelPlayer``, and ``context_tokens``."""
        return {**super().settings, "context_tokens": self._context_tokens}

    def reset(self, episode: Episode, seed: int) -> None:
        """Forget all chunks."""
        super().reset(episode, seed)
        self._stream = episode.stream
        self._chunks: dict[int, str] = {}
        self._fitted: tuple[str, tuple[Dropped, ...]] | None = None

    def cut_chunk(self, text: str, characters: int) -> str:
        """The documents without ``characters`` characters in their middle."""
        return cut_middle(text, characters)

    async def play(self, observation: Observation) -> Turn:
        """No operation while reading, then the answer."""
        if observation["phase"] == Phase.READING:
            current = int(observation["progress"][0])
            # Only the chunk's own part of the stream: overlapping chunks repeat some of each other.
            self._chunks[current] = self._stream.core(current)
            return Turn("")
        if self._fitted is None:
            self._fitted = self._fit("".join(self._chunks[i] for i in sorted(self._chunks)))
        documents, dropped = self._fitted
        asked = await self.ask({**observation, "chunk": documents})
        dialect = self.config.dialect
        found = final_answer(asked.completion.text, dialect, self.config.thinking)
        action = write_action([answer(found, dialect)], dialect)
        return Turn(action, asked.messages, asked.completion.text, (asked.completion,), dropped + asked.dropped)

    def _fit(self, text: str) -> tuple[str, tuple[Dropped, ...]]:
        """The text, or its beginning and end with ``context_tokens`` tokens in all, and what was dropped."""
        limit = self._context_tokens
        if limit is None:
            return text, ()
        starts = load_tokenizer(self.config.tokenizer).starts(text)
        if len(starts) <= limit:
            return text, ()
        head = (limit + 1) // 2
        tail = limit - head
        end = text[starts[len(starts) - tail] :] if tail else ""
        kept = f"{text[: starts[head]].rstrip()}\n[…]\n{end}"
        return kept, (Dropped("documents", len(starts) - limit, len(starts), "tokens"),)
