"""The checks of the kit pass what is right and name the rule that a broken part breaks."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from support.plugins import parts

from atommem_gym.actions import Invalid, Operation
from atommem_gym.agents import AGENTS
from atommem_gym.agents.scripted.keep_all import KeepAllAgent
from atommem_gym.embedders.hashing_embedder import HashingEmbedder
from atommem_gym.errors import ReaderError
from atommem_gym.memory.protocols import Rows, TextKind, Vectors
from atommem_gym.testing import (
    check_agent,
    check_dialect,
    check_embedder,
    check_reader,
    check_store,
    check_tokenizer,
)
from atommem_gym.testing.agent_check import ENVIRONMENTS
from atommem_gym.testing.linear import check_linear
from atommem_gym.tokenizers import Offsets, WordTokenizer

CHECKS: dict[str, tuple[Callable[..., None], str]] = {
    "store": (check_store, "support.plugins.parts:Store"),
    "embedder": (check_embedder, "support.plugins.parts:Embedder"),
    "tokenizer": (check_tokenizer, "support.plugins.parts:Tokenizer"),
    "dialect": (check_dialect, "support.plugins.parts:lines"),
    "reader": (check_reader, "support.plugins.readers:echo"),
}


@pytest.mark.parametrize("part", CHECKS)
def test_a_part_of_ones_own_passes(part: str) -> None:
    check, name = CHECKS[part]
    check(name, examples=10)


def test_the_built_in_parts_pass() -> None:
    check_store("numpy", examples=5)
    check_embedder(HashingEmbedder, examples=20)
    check_tokenizer(WordTokenizer, examples=50)
    for dialect in ("crud", "tools", "released"):
        check_dialect(dialect, examples=20)


@pytest.mark.parametrize(
    "text", ["<UPDATE_QUERY/>", "<update_memory> </update_memory>", "<modify_memory>Memory 1:</modify_memory>"]
)
def test_an_empty_text_is_for_the_episode_to_judge(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atommem_gym.testing.dialect_check.hostile_texts", lambda: st.just(text))
    check_dialect("released", examples=1)


@pytest.mark.parametrize("name", AGENTS)
def test_the_scripted_agents_pass(name: str) -> None:
    check_agent(AGENTS[name], environments=ENVIRONMENTS[::2], episodes=1)


def test_an_agent_of_ones_own_passes() -> None:
    check_agent("support.plugins.parts:Agent", episodes=1)


# -- broken ones


class Forgetful(parts.Store):
    def candidates(self, searches: Any) -> list[Rows]:
        return [Rows(rows.ids[:-1], rows.vectors[:-1]) for rows in super().candidates(searches)]


class Shuffled(parts.Embedder):
    """Each batch is normalised as a whole, so a vector depends on its neighbours."""

    def embed(self, texts: Sequence[str], kind: TextKind) -> Vectors:
        found = super().embed(texts, kind)
        return found / max(1.0, float(found.max(initial=0)))


class Hashed(parts.Embedder):
    """Python's ``hash`` differs from process to process."""

    def embed(self, texts: Sequence[str], kind: TextKind) -> Vectors:
        found = super().embed(texts, kind)
        found[:, 26] = [hash(text) % 97 + 1 for text in texts]
        return found


class Zero(parts.Embedder):
    def embed(self, texts: Sequence[str], kind: TextKind) -> Vectors:
        found = super().embed(texts, kind)
        found[:, 26] = 0
        return found


class NotANumber(parts.Embedder):
    def embed(self, texts: Sequence[str], kind: TextKind) -> Vectors:
        found = super().embed(texts, kind)
        found[[text.endswith("2020!") for text in texts]] = np.nan
        return found


class Telling(parts.Embedder):
    """Tells queries from documents and does not say so."""

    def embed(self, texts: Sequence[str], kind: TextKind) -> Vectors:
        return super().embed([kind + text for text in texts], kind)


class Shared(parts.Embedder):
    """Several threads write into one array."""

    kept: dict[str, Any] = {}  # noqa: RUF012

    def embed(self, texts: Sequence[str], kind: TextKind) -> Vectors:
        Shared.kept["texts"] = list(texts)
        time.sleep(0.001 * (len(texts) % 3))
        return super().embed([text[::-1][:1] + text for text in Shared.kept["texts"][: len(texts)]], kind)


class Remembering(parts.Embedder):
    """Gives out the array that it remembers."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, ...], Vectors] = {}

    def embed(self, texts: Sequence[str], kind: TextKind) -> Vectors:
        key = tuple(texts)
        if key not in self._known:
            self._known[key] = super().embed(texts, kind)
        return self._known[key]


class Renamed(parts.Embedder):
    made = 0

    def __init__(self) -> None:
        Renamed.made += 1
        self.name = f"letters-{Renamed.made}"


class Unlimited(parts.Embedder):
    max_tokens = "all"


class Uncounted(parts.Tokenizer):
    """Counts a text that stands among others otherwise."""

    def counts(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) for text in texts]


class Backwards(parts.Tokenizer):
    def starts(self, text: str) -> Offsets:
        return super().starts(text)[::-1].copy()


class Trailing(parts.Tokenizer):
    """Cuts where the next token begins and leaves the white space."""

    def cut(self, text: str, limit: int) -> str:
        starts = self.starts(text)
        return text if limit >= len(starts) else text[: int(starts[limit])]


class Quadratic(parts.Tokenizer):
    def count(self, text: str) -> int:
        for place in range(0, len(text), 8):
            text[place:].count("a")
            text[place:].count("b")
            text[place:].count("c")
            text[place:].upper()
        return super().count(text)


class Raising(parts.Lines):
    def parse(self, text: str) -> list[Operation | Invalid]:
        text.encode()
        return super().parse(text)


class Losing(parts.Lines):
    """Reads no signs beyond ASCII."""

    def parse(self, text: str) -> list[Operation | Invalid]:
        return super().parse(text.encode("ascii", "ignore").decode())


class Last(parts.Lines):
    """Reads the last line only."""

    def parse(self, text: str) -> list[Operation | Invalid]:
        return super().parse(text)[-1:]


class Backtracking(parts.Lines):
    def parse(self, text: str) -> list[Operation | Invalid]:
        re.search(r"(?:STORE|O)[^\0]*\0", text)
        for _ in re.finditer(r"[^\0]*?\0", text[:1]):
            pass
        re.findall(r"S[^\0]*\0", text)
        return super().parse(text)


class Silent(parts.Lines):
    template = "{% if part == 'user' %}{{ question }}{% endif %}"


class Unpadded(parts.Lines):
    """Leaves white space around texts."""

    def parse(self, text: str) -> list[Operation | Invalid]:
        from atommem_gym.actions import Create

        return [Create(line[6:]) if line.startswith("STORE:") else op for line, op in self._each(text) if op or line]

    def _each(self, text: str) -> list[tuple[str, Any]]:
        return [(line, op) for line in text.split("\n") for op in super(Unpadded, self).parse(line)]


class Dice(KeepAllAgent):
    """Remembers how often it played."""

    name = "dice"
    played = 0

    def act(self, observation: Any) -> str:
        self.played += 1
        return f"{self.played} {super().act(observation)}"


class Failing(KeepAllAgent):
    """Needs a scratchpad."""

    name = "failing"

    def act(self, observation: Any) -> str:
        if not self.config.scratchpad:
            raise KeyError("scratchpad")
        return super().act(observation)


class Numbering(KeepAllAgent):
    name = "numbering"

    def act(self, observation: Any) -> str:
        return 3  # type: ignore[return-value]


raising, losing, last, backtracking, silent, unpadded = (
    Raising(),
    Losing(),
    Last(),
    Backtracking(),
    Silent(),
    Unpadded(),
)


@pytest.mark.parametrize(
    ("check", "name", "told"),
    [
        (check_store, "Forgetful", "M6: episode"),
        (check_embedder, "Shuffled", "M15: the vectors of .* in a batch and alone"),
        (check_embedder, "Hashed", "M15: the vectors of .* in another process"),
        (check_embedder, "Zero", "M6: the vector of .* is zero"),
        (check_embedder, "NotANumber", "M6: the vector of .* holds NaN"),
        (check_embedder, "Telling", "tells_queries = True"),
        (check_embedder, "Shared", "M15: the vectors of .* in 4 threads at a time"),
        (check_embedder, "Remembering", "before and after a caller wrote into the array"),
        (check_embedder, "Renamed", "M15: two instances are called 'letters-1'"),
        (check_embedder, "Unlimited", "M18: max_tokens is 'all'"),
        (check_tokenizer, "Uncounted", "M10: counts of"),
        (check_tokenizer, "Backwards", "M10: starts of .* decreases"),
        (check_tokenizer, "Trailing", "M10: .* white space at its end"),
        (check_tokenizer, "Quadratic", "A3: count takes"),
        (check_dialect, "raising", "A3: parse raises UnicodeEncodeError"),
        (check_dialect, "losing", "A6: .* is read as"),
        (check_dialect, "last", "A6: actions joined"),
        (check_dialect, "backtracking", "A3: parse takes"),
        (check_dialect, "silent", "the prompt for .* does not say how to create"),
        (check_dialect, "unpadded", "A6|A3"),
        (check_agent, "Dice", "must give the same actions"),
        (check_agent, "Failing", "with .*scratchpad.* act raised KeyError"),
        (check_agent, "Numbering", "act returned 3"),
    ],
)
def test_a_broken_part_is_told_which_rule_it_breaks(check: Callable[[str], None], name: str, told: str) -> None:
    with pytest.raises(AssertionError, match=told):
        check(f"{__name__}:{name}")


def test_A3_ten_times_the_text_may_take_about_ten_times_as_long() -> None:
    check_linear(str.upper, {"a letter": "a"}, "reading")
    with pytest.raises(AssertionError, match=r"A3: reading takes .* of a letter"):
        check_linear(
            lambda text: sum(one == other for one in text[::16] for other in text[::16]), {"a letter": "a"}, "reading"
        )


def counting() -> Callable[..., str]:
    asked: list[str] = []

    def answer(question: str, memories: list[Any], scratchpad: str) -> str:
        asked.append(question)
        return str(len(asked))

    return answer


def together() -> Callable[..., str]:
    def answer(question: str, memories: list[Any], scratchpad: str) -> str:
        return scratchpad

    answer.batch = lambda questions, memories, scratchpads: [scratchpads[0]] * len(questions)  # type: ignore[attr-defined]
    return answer


@pytest.mark.parametrize(
    ("reader", "broken"),
    [
        (counting, "E13: asked again"),
        (together, "E13: in a batch"),
        (lambda: lambda question, memories, scratchpad: memories[0]["text"], "raised IndexError"),
        (lambda: lambda question, memories, scratchpad: None, "an answer is a text"),
    ],
)
def test_E13_a_reader_that_is_not_frozen_is_found(reader: Callable[[], Any], broken: str) -> None:
    with pytest.raises((AssertionError, ReaderError), match=broken):
        check_reader(reader(), examples=10)
