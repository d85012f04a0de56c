"""mem0 as a player: mem0 stores the stream, and the memories that it finds for a question go into the scratchpad.

mem0 (https://github.com/mem0ai/mem0) extracts what it stores with a language model and searches by vectors. Here it
uses the model of ``--model``, so that its tokens are counted, and the environment's embedder. Its database is in
memory, its telemetry is off, and its notices and log lines are not shown.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import os
import tempfile
import threading
import uuid
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from atommem_gym.actions import Answer, Scratchpad
from atommem_gym.agents.players.language_model import Completion, LanguageModel
from atommem_gym.agents.players.llm_player import LanguageModelPlayer, counted, final_answer
from atommem_gym.agents.players.player import Turn
from atommem_gym.embedders.loading import CachedEmbedder, embed_in_part, load_embedder
from atommem_gym.episode import Episode
from atommem_gym.errors import AtomMemError, ConfigError, LanguageModelError
from atommem_gym.memory.protocols import TextKind
from atommem_gym.policies.answering import fill
from atommem_gym.policies.documents import harmless
from atommem_gym.policies.writing import SILENCE, answer, write_action
from atommem_gym.step import Observation, Phase
from atommem_gym.tokenizers import load_tokenizer

NOTHING = "Nothing was found."
"""The scratchpad after a search without results; it replaces the scratchpad of the question before."""
_SCOPE = "episode"
_lock = threading.Lock()


class OtherMemory(Protocol):
    """The methods of ``mem0.Memory`` that the player calls."""

    def add(self, messages: str, *, run_id: str) -> Any: ...

    def search(self, query: str, *, top_k: int, filters: Mapping[str, str]) -> Any: ...

    def close(self) -> None: ...


class Mem0Player(LanguageModelPlayer):
    """Gives every chunk to mem0, searches it for every question, and answers from the result.

    With a frozen reader the reader answers instead. A search returns ``top_k`` memories, as a read of the environment
    does; those that fit go into the scratchpad. Made for ``storage=False, scratchpad=True``. mem0's own calls use the
    sampling of the phase in which they are made.

    Args:
        name: Name of the player, for tables and traces.
        model: Any language model.
        **options: Keyword arguments of ``LanguageModelPlayer``.

    Raises:
        ConfigError: mem0 is not installed, or a sampling setting is unknown or out of range.
    """

    own_template = "overwrite.j2"

    def __init__(self, name: str, model: LanguageModel, **options: Any) -> None:
        super().__init__(name, model, **options)
        if not is_installed():
            raise ConfigError(
                f"the agent {name!r} needs the package mem0ai, which is not installed: pip install 'atommem-gym[mem0]'"
            )
        self._memory: OtherMemory | None = None

    def reset(self, episode: Episode, seed: int) -> None:
        """Begin with an empty memory."""
        super().reset(episode, seed)
        if self._memory is not None:
            self._memory.close()
        embedder = load_embedder(self.config.embedder, self.config.embedder_options)
        self._calls = _Model(self)
        self._memory = open_mem0(self._calls, _Embedder(embedder))
        self._tokenizer = load_tokenizer(self.config.tokenizer)
        self._searched = False

    async def play(self, observation: Observation) -> Turn:
        """Add a chunk to mem0 while reading; then one search and one answer for each question."""
        assert self._memory is not None
        if observation["phase"] == Phase.READING:
            await self._asked(observation, self._memory.add, observation["chunk"], run_id=_SCOPE)
            return self._calls.turn(SILENCE)
        if not self._searched and observation["steps_left"] > 1 and harmless(observation["question"]):
            filters = {"run_id": _SCOPE}
            found = await self._asked(
                observation, self._memory.search, observation["question"], top_k=self.config.top_k, filters=filters
            )
            self._searched = True
            texts = [harmless(one["memory"]) for one in found["results"]]
            shown = fill(texts, self._tokenizer, self.config.max_scratchpad_tokens) or NOTHING
            return self._calls.turn(write_action([Scratchpad(shown)], self.config.dialect))
        dialect = self.config.dialect
        if not self.config.policy_answers:
            self._searched = False
            action = write_action([Answer("")], dialect)
            return Turn(action, response=action)
        asked = await self.ask(observation)
        self._searched = False
        text = final_answer(asked.completion.text, dialect, self.config.thinking)
        return asked.turn(write_action([answer(text, dialect)], dialect))

    async def _asked(self, observation: Observation, call: Any, *arguments: Any, **keywords: Any) -> Any:
        """The result of a call of mem0, which runs in a thread and asks the model on this event loop."""
        self._calls.begin(observation, asyncio.get_running_loop())
        try:
            return await asyncio.to_thread(call, *arguments, **keywords)
        except Exception as error:
            if self._calls.failed is not None:
                # mem0 has wrapped the error and has stored nothing yet, so the same call may be repeated.
                raise self._calls.failed from error
            raise LanguageModelError(f"mem0 failed: {type(error).__name__}: {error}") from error

    async def complete(self, messages: list[dict[str, str]], observation: Observation) -> Completion:
        """Answer one of mem0's own calls of the model."""
        return counted(await self.model.complete(messages, self._sampling(observation)), self.model.name)


class _Model:
    """Gives mem0 the language model, and keeps the calls of the current step."""

    def __init__(self, player: Mem0Player) -> None:
        self._player = player

    def begin(self, observation: Observation, loop: asyncio.AbstractEventLoop) -> None:
        """Begin a step."""
        self._observation, self._loop = observation, loop
        self._messages: list[dict[str, str]] | None = None
        self._completions: list[Completion] = []
        self.failed: AtomMemError | None = None

    def generate_response(self, messages: Sequence[Mapping[str, str]], **_: Any) -> str:
        """See ``mem0.llms.base.LLMBase``; called in a thread."""
        asked = [dict(message) for message in messages]
        calling = asyncio.run_coroutine_threadsafe(self._player.complete(asked, self._observation), self._loop)
        try:
            completion = calling.result()
        except AtomMemError as error:
            self.failed = error
            raise
        self._messages = asked
        self._completions.append(completion)
        return completion.text

    def turn(self, action: str) -> Turn:
        """The turn with this action."""
        said = "\n".join(one.text for one in self._completions)
        return Turn(action, self._messages, said or action, tuple(self._completions))


class _Embedder:
    """Gives mem0 the environment's embedder."""

    def __init__(self, embedder: CachedEmbedder) -> None:
        self._embedder = embedder
        self.dim = embedder.dim

    def embed(self, text: str, memory_action: str | None = None) -> list[float]:
        """See ``mem0.embeddings.base.EmbeddingBase``."""
        return self.embed_batch([text], memory_action)[0]

    def embed_batch(self, texts: list[str], memory_action: str | None = "add") -> list[list[float]]:
        """One vector per text; see ``mem0.embeddings.base.EmbeddingBase``."""
        kind: TextKind = "query" if memory_action == "search" else "document"
        if not texts:
            return []
        with _lock:
            vectors: list[list[float]] = embed_in_part(self._embedder, texts, kind).vectors.tolist()
        return vectors


def is_installed() -> bool:
    """Whether mem0 can be imported."""
    return importlib.util.find_spec("mem0") is not None


def open_mem0(model: _Model, embedder: _Embedder) -> OtherMemory:
    """An empty mem0 memory that calls only this model and this embedder."""
    with _lock:
        memory_class = _quiet_mem0()
    from qdrant_client import QdrantClient

    # mem0's factories take only names of providers; what they make here is replaced before its first call.
    nobody = {"provider": "openai", "config": {"api_key": "none"}}
    place = {
        "client": QdrantClient(location=":memory:"),
        "collection_name": f"atommem-{uuid.uuid4().hex}",
        "embedding_model_dims": embedder.dim,
    }
    memory = memory_class.from_config(
        {
            "llm": nobody,
            "embedder": nobody,
            "vector_store": {"provider": "qdrant", "config": place},
            "history_db_path": ":memory:",
        }
    )
    memory.llm, memory.embedding_model = model, embedder
    opened: OtherMemory = memory
    return opened


def _quiet_mem0() -> Any:
    """The class ``mem0.Memory``, set not to send telemetry, print notices or log lines, or write to the user's home."""
    before = {name: os.environ.get(name) for name in ("MEM0_TELEMETRY", "MEM0_DIR")}
    with tempfile.TemporaryDirectory() as folder:
        # mem0 reads these at its import, and only then.
        os.environ.update(MEM0_TELEMETRY="False", MEM0_DIR=folder)
        try:
            from mem0.memory import main, notices, telemetry
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
    # The program may have imported mem0 before, with other values.
    for module in (main, notices, telemetry):
        if hasattr(module, "MEM0_TELEMETRY"):
            module.MEM0_TELEMETRY = False
    logging.getLogger("mem0").setLevel(logging.CRITICAL + 1)
    warnings.filterwarnings("ignore", "Payload indexes have no effect in the local Qdrant", UserWarning)
    return main.Memory
