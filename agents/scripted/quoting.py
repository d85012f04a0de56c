"""Scripted agents for questions without gold answers: they remember as the others do, and answer by quoting."""

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
"""Sentences of an answer at most."""
MAX_QUOTE_CHARS = 400
"""Characters of a quoted sentence at most; tables and lists have no full stops."""


_BORDER = re.compile(r"\n\s*\n|^#{1,6} .*$", re.MULTILINE)
"""Where a sentence ends at the latest: a blank line or a heading."""


class QuotingReader:
    """Quotes the sentences in sight that share most words with the question, rare words counting more.

    Without language: it does not reason, and quotes something whenever a word is shared. The sentences come from the
    last read and the scratchpad, each with the line that says where it stands.
    """

    def answer(self, observation: Observation) -> str:
        """Up to ``MAX_QUOTES`` sentences, one a line, the most relevant first; ``unknown`` if no word is shared."""
        wanted = question_words(observation["question"])
        candidates = list(dict.fromkeys(_sentences(observation)))
        rarity = Rarity()
        words = [content_words(sentence) for _, sentence in candidates]
        for one in words:
            rarity.note(one)
        rated = [(rarity.relevance(one, wanted), candidate) for one, candidate in zip(words, candidates, strict=True)]
        # A stable sort: of equal ones the first, which stands in the better hit.
        best = sorted((pair for pair in rated if pair[0] > 0), key=lambda pair: -pair[0])[:MAX_QUOTES]
        return "\n".join(_quote(source, sentence) for _, (source, sentence) in best) or UNKNOWN


class QuotingAgent(StoringAgent):
    """Base of the storing agents that answer by a :class:`QuotingReader`."""

    def make_reader(self, episode: Episode) -> Reader:
        """A reader that knows no answers."""
        return QuotingReader()


class QuotingKeepAll(QuotingAgent, KeepAllAgent):
    """``keep_all`` that quotes."""


class QuotingTidy(QuotingAgent, TidyAgent):
    """``tidy`` that quotes."""


class QuotingOverwrite(QuotingAgent, OverwriteAgent):
    """``overwrite`` that quotes."""


QUOTING: dict[str, type[StoringAgent]] = {kind.name: kind for kind in (QuotingKeepAll, QuotingTidy, QuotingOverwrite)}
"""By the names of the agents whose memory they have."""


def make_quoting_agent(name: str) -> StoringAgent:
    """The agent that remembers as the scripted one of this name and quotes its answers.

    >>> make_quoting_agent("tidy").name
    'tidy'

    Raises:
        ConfigError: there is none.
    """
    if name not in QUOTING:
        raise ConfigError(
            f"the agent {name!r} cannot answer where no gold answer is known; {suggestion(name, QUOTING)}"
        )
    return QUOTING[name]()


def _sentences(observation: Observation) -> Iterator[tuple[str, str]]:
    """Where each sentence in sight stands (empty if nothing says it), and the sentence."""
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
