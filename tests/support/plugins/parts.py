"""Parts of a user's own, of every kind that plugs in by name, and broken ones; each stands for one rule."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from atommem_gym.actions import Delete, Invalid, Operation, Update
from atommem_gym.actions.operations import operation, text_of
from atommem_gym.agents.scripted.keep_all import KeepAllAgent
from atommem_gym.memory.protocols import TextKind, Vectors
from atommem_gym.stores.numpy_store import NumpyStore
from atommem_gym.tokenizers import Offsets, WordTokenizer


class Store(NumpyStore):
    """The exact store under another name; notes what it was told."""

    told: dict[str, object] = {}  # noqa: RUF012  (what the last one was told)

    def __init__(self, dim: int, *, keep: bool | None, embedder: str) -> None:
        super().__init__(dim)
        self.name = "parts"
        Store.told = {"dim": dim, "keep": keep, "embedder": embedder}


class KeptStore(Store):
    """Keeps its rows unless it is told not to, as far as anybody is told."""

    def __init__(self, dim: int, *, keep: bool | None, embedder: str) -> None:
        super().__init__(dim, keep=keep, embedder=embedder)
        self.kept = keep is not False


class Embedder:
    """How often each letter comes."""

    name = "letters-v1"
    dim = 27

    def embed(self, texts: Sequence[str], kind: TextKind) -> Vectors:
        vectors = np.zeros((len(texts), self.dim), np.float32)
        for row, text in zip(vectors, texts, strict=True):
            row[26] = 1
            for sign in text.lower():
                if "a" <= sign <= "z":
                    row[ord(sign) - ord("a")] += 1
        return vectors


class Tokenizer:
    """A token is a word of the built-in tokenizer, under another name; what two characters are is one."""

    name = "support.plugins.parts:Tokenizer"

    def __init__(self) -> None:
        self._words = WordTokenizer()

    def starts(self, text: str) -> Offsets:
        return self._words.starts(text)

    def count(self, text: str) -> int:
        return self._words.count(text)

    def counts(self, texts: Sequence[str]) -> list[int]:
        return [self.count(text) for text in texts]

    def cut(self, text: str, limit: int) -> str:
        return self._words.cut(text, limit)


class Lines:
    """One operation a line: ``STORE: a fact``, ``CHANGE 3: another``, ``DROP 3``, ``FIND: …``, ``SAY: …``."""

    tag_names: Mapping[str, str] = {
        "create": "STORE",
        "read": "FIND",
        "update": "CHANGE",
        "delete": "DROP",
        "scratchpad": "NOTE",
        "answer": "SAY",
    }
    template = """{% extends "base.j2" %}
{% block syntax %}
Write one operation a line:
{% for kind in kinds %}
{{ {"create": "STORE: a fact", "read": "FIND: what you look for", "update": "CHANGE 3: a fact", "delete": "DROP 3",
    "scratchpad": "NOTE: a note", "answer": "SAY: the answer"}[kind] }}
{% endfor %}
{% endblock %}
"""
    _line = re.compile(r"(STORE|FIND|CHANGE|DROP|NOTE|SAY)(?: ([0-9]{1,18}))?(?::(.*))?")

    def parse(self, text: str) -> list[Operation | Invalid]:
        kinds: Any = {name: kind for kind, name in self.tag_names.items()}
        found = []
        for line in text.split("\n"):
            match = self._line.fullmatch(line.rstrip())
            if match is not None:
                address = int(match[2]) if match[2] else None
                found.append(operation(kinds[match[1]], match[3] or "", address))
        return found

    def format_operations(self, operations: Sequence[Operation]) -> str:
        return "\n".join(map(self._format, operations))

    def _format(self, op: Operation) -> str:
        text = text_of(op)
        if text is not None and not re.fullmatch(".*", text):
            raise ValueError(f"{op.kind} text {text[:60]!r} has several lines")
        number = f" {op.id}" if isinstance(op, (Update, Delete)) else ""
        if isinstance(op, (Update, Delete)) and op.id < 0:
            raise ValueError("an id is not negative")
        return f"{self.tag_names[op.kind]}{number}" + ("" if text is None else f": {text}")


lines = Lines()


class Agent(KeepAllAgent):
    """Stores everything."""

    name = "hoarder"


class Again(Agent):
    """Another one of the same name."""


class Answering(KeepAllAgent):
    """Answers as soon as it may, by itself."""

    name = "answering"

    def act(self, observation: Any) -> str:
        return "" if observation["phase"] == 0 else "<answer>the bridge!</answer>"


def half(prediction: str, answers: tuple[str, ...], question: str) -> float:
    return 0.5


# -- broken ones


class StoreWithoutDrop(Store):
    drop = None  # type: ignore[assignment]


class StoreOfAnotherDim(Store):
    def __init__(self, dim: int, *, keep: bool | None, embedder: str) -> None:
        super().__init__(dim + 1, keep=keep, embedder=embedder)


class StoreThatRaises(Store):
    def __init__(self, dim: int, *, keep: bool | None, embedder: str) -> None:
        raise OSError("no such disk")


def store_of_another_signature(dim: int) -> Store:
    return Store(dim, keep=None, embedder="")


class EmbedderOfFloat64(Embedder):
    def embed(self, texts: Sequence[str], kind: TextKind) -> Any:
        return super().embed(texts, kind).astype(np.float64)


class EmbedderWithOneArgument(Embedder):
    def embed(self, texts: Sequence[str]) -> Any:  # type: ignore[override]
        return super().embed(texts, "document")


class EmbedderWithoutDim(Embedder):
    dim = 0


class EmbedderOfAGiven(Embedder):
    def __init__(self, model: str) -> None:
        self.model = model


class AwaitedEmbedder(Embedder):
    async def embed(self, texts: Sequence[str], kind: TextKind) -> Any:  # type: ignore[override]
        return super().embed(texts, kind)


class TokenizerCalledWords(Tokenizer):
    name = "words"


class TokenizerOfLists(Tokenizer):
    name = "support.plugins.parts:TokenizerOfLists"

    def starts(self, text: str) -> Any:
        return super().starts(text).tolist()


class TokenizerWithoutCut(Tokenizer):
    name = "support.plugins.parts:TokenizerWithoutCut"
    cut = None  # type: ignore[assignment]


class LinesWithoutTemplate(Lines):
    template = ""


class LinesOfOtherKinds(Lines):
    tag_names: Mapping[str, str] = {"store": "STORE"}


without_template = LinesWithoutTemplate()
other_kinds = LinesOfOtherKinds()


class AgentWithoutName(Agent):
    name = ""


class AgentThatAwaits(Agent):
    async def act(self, observation: Any) -> Any:  # type: ignore[override]
        return ""


number = 3
