"""Scripted agents for questions without gold answers: they store as their namesakes do and answer with quotes."""

from __future__ import annotations

import re
from collections.abc import Iterator

from atommem_gym.agents.scripted.keep_all import KeepAllAgent
from atommem_gym.agents.scripted.overwrite import OverwriteAgent
from atommem_gym.agents.scripted.storing import StoringAgent
from atommem_gym.agents.scripted.tidy import TidyAgent
from atommem_gym.episode import Episode
from atommem_gym.errors import ConfigError, suggestion
from atommem_gym.policies.answering import Reader
from atommem_gym.policies.documents import sentences
from atommem_gym.policies.words import Rarity, content_words, question_words
from atommem_gym.records.own_files import SOURCE
from atommem_gym.scoring import UNKNOWN
from atommem_gym.step import Observation

MAX_QUOTES = 3
"""Sentences in an answer, at most."""
MAX_QUOTE_CHARS = 400
"""Characters of a quoted sentence, at most: a table or list without full stops counts as one sentence."""


_BORDER = re.compile(r"\n\s*\n|^#{1,6} .*$", re.MULTILINE)
"""A blank line or a heading; no sentence goes across it."""


class QuotingReader:
    """Quotes the sentences of the observation that share most words with the question; rare words count more.

    It compares words and does not reason, so it quotes something whenever a word is shared. The sentences come from
    the last read and the scratchpad; each is quoted with the line that names its source.
    """

    def answer(self, observation: Observation) -> str:
        """Up to ``MAX_QUOTES`` sentences, one per line, the most relevant first; ``unknown`` if no word is shared."""
        wanted = question_words(observation["question"])
        candidates = list(dict.fromkeys(_sentences(observation)))
        rarity = Rarity()
        words = [content_words(sentence) for _, sentence in candidates]
        for one in words:
            rarity.note(one)
        rated = [(rarity.relevance(one, wanted), candidate) for one, candidate in zip(words, candidates, strict=True)]
        # The sort is stable: among equally relevant sentences the one from the better hit comes first.
        best = sorted((pair for pair in rated if pair[0] > 0), key=lambda pair: -pair[0])[:MAX_QUOTES]
        return "\n".join(_quote(source, sentence) for _, (source, sentence) in best) or UNKNOWN


class QuotingAgent(StoringAgent):
    """Base of the storing agents that answer with a :class:`QuotingReader`."""

    def make_reader(self, episode: Episode) -> Reader:
        """A reader that needs no gold answers."""
        return QuotingReader()


class QuotingKeepAll(QuotingAgent, KeepAllAgent):
    """Stores as ``keep_all`` does, and answers with quotes."""


class QuotingTidy(QuotingAgent, TidyAgent):
    """Stores as ``tidy`` does, and answers with quotes."""


class QuotingOverwrite(QuotingAgent, OverwriteAgent):
    """Keeps the scratchpad as ``overwrite`` does, and answers with quotes."""


QUOTING: dict[str, type[StoringAgent]] = {kind.name: kind for kind in (QuotingKeepAll, QuotingTidy, QuotingOverwrite)}
"""The quoting agents, by the name of the agent whose storing they share."""


def make_quoting_agent(name: str) -> StoringAgent:
    """The agent that stores as the scripted agent of this name does and answers with quotes.

    >>> make_quoting_agent("tidy").name
    'tidy'

    Args:
        name: One of ``QUOTING``.

    Raises:
        ConfigError: there is no such agent.
    """
    if name not in QUOTING:
        raise ConfigError(
            f"the agent {name!r} cannot answer where no gold answer is known; {suggestion(name, QUOTING)}"
        )
    return QUOTING[name]()


def _sentences(observation: Observation) -> Iterator[tuple[str, str]]:
    """Each sentence of the observation, as a pair of its source (empty if unknown) and its text."""
    for text in (*(memory["text"] for memory in observation["memories"]), observation["scratchpad"]):
        borders = [*SOURCE.finditer(text)]
        starts = [0, *(border.end() for border in borders)]
        ends = [*(border.start() for border in borders), len(text)]
        for source, start, end in zip(["", *(border.group() for border in borders)], starts, ends, strict=True):
            for paragraph in _BORDER.split(text[start:end]):
                for sentence in sentences(paragraph.strip()):
                    yield source, " ".join(sentence.split())


def _quote(source: str, sentence: str) -> str:
    if len(sentence) > MAX_QUOTE_CHARS:
        sentence = f"{sentence[:MAX_QUOTE_CHARS].rstrip()} …"
    return f"“{sentence}” ({source})" if source else f"“{sentence}”"
