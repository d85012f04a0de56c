"""Finds the reasoning in the text of a model, by known or by given delimiters (SPEC A8).

Reasoning often drafts operations, which would be executed if its delimiters were not recognised. The delimiters of the
common families of models are known; ``thinking=`` names others.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import TypeAlias

from atommem_gym.errors import ConfigError

Pairs: TypeAlias = tuple[tuple[str, str], ...]
"""Pairs of an opening and its closing delimiter."""

KNOWN: Pairs = (
    ("<think>", "</think>"),  # Qwen3, DeepSeek-R1 and most others
    ("<thinking>", "</thinking>"),
    ("<seed:think>", "</seed:think>"),  # Seed-OSS
    ("[THINK]", "[/THINK]"),  # Magistral
    ("<|START_THINKING|>", "<|END_THINKING|>"),  # Command A Reasoning
    ("◁think▷", "◁/think▷"),  # Kimi-VL
    ("<mm:think>", "</mm:think>"),  # MiniMax
    ("<|inner_prefix|>", "<|inner_suffix|>"),  # Apertus
)
"""The default pairs, from the parsers of vLLM 0.11 and SGLang 0.5. The channels of gpt-oss are recognised as well.

Its models write ``<|channel|>analysis<|message|>…<|end|><|start|>assistant<|channel|>final<|message|>…``. Reasoning is
the text of the channel ``analysis``, up to its end or to the next channel. An ``<|end|>`` outside the channel
``analysis`` is ignored, because other models end their turns with it.
"""

TAG = re.compile(r"<(?P<slash>/?)(?P<name>[A-Za-z_][A-Za-z0-9_.:-]*)(?![\w.:-])(?P<rest>[^<>]*)>")
"""One tag. Every ``<`` is looked at once and no further than to the next ``<`` or ``>``, so scanning is linear.

A name ends where it cannot go on: ``<create-x>`` and ``<createé>`` are other names than ``create``.
"""

OPENING, CLOSING, SELF_CLOSING, ENDING = range(4)
"""Shapes of a tag. An ending ends reasoning that was opened, and means nothing elsewhere; a closing that closes nothing
ends reasoning begun in the prompt."""

_CHANNEL = (
    r"(?:<\|start\|>assistant[^<]{0,100})?<\|channel\|>[ \t]{0,4}(?P<channel>[A-Za-z_]{1,20})"
    r"(?:[^<]{0,200}(?:<\|constrain\|>[^<]{0,100})?<\|message\|>)?"
)
_CHANNEL_END = r"(?P<channel_end><\|(?:end|return|call)\|>)"
_MOST_PAIRS = 20
_LONGEST = 200
"""Characters of a delimiter; the time that a text takes grows with them."""


class Delimiters:
    """Searches texts for pairs of delimiters."""

    def __init__(self, pairs: Pairs, *, channels: bool = False) -> None:
        """Prepare the pairs.

        Args:
            pairs: ``<name>`` with ``</name>`` is a tag, in any case and with any attributes; every other delimiter is
                a text that is found exactly as it is written.
            channels: Whether to recognise the channels of gpt-oss as well.
        """
        self.count = len(pairs) + channels
        """The number of pairs; the channels count as one."""
        self.tags: dict[str, int] = {}
        """The number of the pair by the lower-case name of its tag."""
        self._texts: dict[str, tuple[int, int]] = {}
        for number, (opening, closing) in enumerate(pairs):
            name = _tag_name(opening, closing)
            if name is not None:
                self.tags[name] = number
            else:
                self._texts[opening] = number, OPENING
                self._texts[closing] = number, CLOSING
        # The longest first: one may begin with another.
        texts = [re.escape(text) for text in sorted(self._texts, key=len, reverse=True)]
        patterns = [f"(?P<text>{'|'.join(texts)})"] if texts else []
        patterns += [_CHANNEL, _CHANNEL_END] if channels else []
        self._all = re.compile("|".join((*patterns, TAG.pattern)))
        own = ["<|"] if channels else []
        self._signs = (*own, *(text for text in self._texts if not (channels and text.startswith("<|"))))
        # Looking for one character is many times as fast as looking for a text, and most actions have none of these.
        self._marks = tuple(dict.fromkeys(_mark(sign) for sign in self._signs))

    def only_tags(self, text: str) -> bool:
        """Whether a text holds no delimiter but tags."""
        for mark in self._marks:  # not any(), which is several times as slow: every action passes here
            if mark in text:
                return not any(sign in text for sign in self._signs)
        return True

    def find(self, text: str) -> Iterator[tuple[re.Match[str], int, int]]:
        """Every tag and delimiter of a text: its match, the number of its pair or -1, and its shape.

        Takes time linear in the length of the text.
        """
        if self.only_tags(text):
            pair_of = self.tags.get
            for match in TAG.finditer(text):
                # By numbers and in place: an action may hold millions of tags.
                shape = CLOSING if match[1] else SELF_CLOSING if match[3].endswith("/") else OPENING
                yield match, pair_of(match[2].lower(), -1), shape
            return
        channels, seen = self.count - 1, False
        for match in self._all.finditer(text):
            kind = match.lastgroup
            if kind == "text":
                number, shape = self._texts[match["text"]]
                yield match, number, shape
            elif kind == "channel":
                # Reasoning that began in the prompt ends at the first channel of all, if it does.
                analysis = match["channel"].lower() == "analysis"
                yield match, channels, OPENING if analysis else ENDING if seen else CLOSING
                seen = True
            elif kind == "channel_end":
                if seen:
                    yield match, channels, ENDING
            else:
                yield match, self.tags.get(match["name"].lower(), -1), _shape(match)

    def without(self, text: str) -> str:
        """See :func:`without_thinking`."""
        kept: list[str] = []
        inside, position = -1, 0
        for match, pair, shape in self.find(text):
            if pair < 0:
                continue
            if inside >= 0:
                if pair == inside and shape in (CLOSING, ENDING):
                    inside, position = -1, match.end()
                continue
            if shape == CLOSING:
                kept.clear()
            else:
                kept.append(text[position : match.start()])
            # <think/> encloses nothing.
            inside, position = pair if shape == OPENING else -1, match.end()
        if inside < 0:
            kept.append(text[position:])
        return "".join(kept).strip()


def _mark(sign: str) -> str:
    """A character of a delimiter that is rare in texts and tags, if it has one."""
    return next((character for character in sign if not character.isalnum() and character not in "<>/ .,:"), sign[0])


def _shape(tag: re.Match[str]) -> int:
    return CLOSING if tag["slash"] else SELF_CLOSING if tag["rest"].endswith("/") else OPENING


def _tag_name(opening: str, closing: str) -> str | None:
    """The name of the tag that a pair is, in lower case; ``None`` if it is none."""
    tag = TAG.fullmatch(opening)
    plain = tag is not None and not tag["slash"] and not tag["rest"] and closing.lower() == f"</{tag['name'].lower()}>"
    return tag["name"].lower() if tag is not None and plain else None


KNOWN_DELIMITERS = Delimiters(KNOWN, channels=True)


@lru_cache(maxsize=64)
def _prepared(pairs: Pairs) -> Delimiters:
    return Delimiters(pairs)


def delimiters(pairs: Pairs | None) -> Delimiters:
    """The delimiters that these pairs are, as :func:`checked_pairs` gives them; the known ones for ``None``."""
    return KNOWN_DELIMITERS if pairs is None else _prepared(pairs)


def without_thinking(text: str, thinking: Pairs | None = None) -> str:
    """A reply without its reasoning, stripped.

    An opening without a closing removes everything after it, a closing without an opening everything before it. Other
    tags are ignored: a ``<think>`` inside the text of an operation is removed, too, while :func:`parse` keeps it.

    >>> without_thinking("<think>Paris or Rome?</think> Rome")
    'Rome'
    >>> without_thinking("reasoning that began in the prompt</think>Rome <think>and so")
    'Rome'
    >>> without_thinking("<|channel|>analysis<|message|>Paris?<|end|><|channel|>final<|message|>Rome")
    'Rome'

    Args:
        text: The reply.
        thinking: Pairs of delimiters; ``None`` for the known ones.
    """
    return delimiters(thinking).without(text)


def checked_pairs(value: object) -> Pairs:
    """Check pairs of delimiters that a user gives: one pair or a list of pairs.

    >>> checked_pairs(["<think>", "</think>"])
    (('<think>', '</think>'),)

    Raises:
        ConfigError: the value is something else, or two delimiters are equal.
    """
    pairs = [value] if _is_pair(value) else value
    if not isinstance(pairs, (list, tuple)) or not pairs or not all(map(_is_pair, pairs)):
        raise ConfigError(
            f'thinking={value!r} must be a pair of delimiters such as ["<think>", "</think>"], or a list of such pairs'
        )
    if len(pairs) > _MOST_PAIRS:
        raise ConfigError(f"thinking names {len(pairs)} pairs of delimiters; {_MOST_PAIRS} are the most")
    seen: set[str] = set()
    for delimiter in (text for pair in pairs for text in pair):
        if not delimiter or delimiter != delimiter.strip() or len(delimiter) > _LONGEST:
            raise ConfigError(
                f"thinking names the delimiter {delimiter[:_LONGEST]!r}; one has 1 to {_LONGEST} characters and no "
                "white space around it"
            )
        if delimiter.lower() in seen:
            raise ConfigError(
                f"thinking names the delimiter {delimiter!r} twice; each opening needs a closing of its own, or it "
                "cannot be told which one ends what"
            )
        seen.add(delimiter.lower())
    return tuple((str(opening), str(closing)) for opening, closing in pairs)


def _is_pair(value: object) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 2 and all(isinstance(text, str) for text in value)
