"""Finds the outermost tags of a free text in one linear scan, without those in reasoning (SPEC A2, A3)."""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Container
from typing import NamedTuple

from atommem_gym.replies.thinking import CLOSING, ENDING, KNOWN_DELIMITERS, OPENING, SELF_CLOSING, Delimiters

_ELEMENT = re.compile(r"<([A-Za-z_][A-Za-z0-9_.:-]*)(?![\w.:-])([^<>]*)>(?:(?<=/>)|([^<]*)</\1>)")
"""A self-closing tag, or one with its closing tag and no ``<`` in between: ordinary actions have no others."""


class Element(NamedTuple):
    """An outermost tag with the text that it encloses."""

    name: str
    """In lower case."""
    attributes: str = ""
    """The text between name and ``>``, without the slash of a self-closing tag; empty for an unclosed one."""
    text: str | None = None
    """``None`` if the tag is never closed."""
    begun: str = ""
    """The text after a tag that is never closed, up to the next tag of its name; only with ``keep_begun``."""


def scan(
    text: str,
    names: Container[str],
    *,
    thinking: Delimiters = KNOWN_DELIMITERS,
    suspect: Callable[[str], bool] | None = None,
    others_enclose: bool = False,
    keep_begun: bool = False,
) -> list[Element]:
    """Find the outermost elements of an action, in the order in which they are written.

    Args:
        text: The action.
        names: The names of the dialect's tags, in lower case. No tag counts inside their elements.
        thinking: Delimiters of reasoning.
        suspect: Tells which other names are reported as well, although they enclose nothing (misspellings).
        others_enclose: Whether closed elements of any other name hide the tags inside them, too.
        keep_begun: Whether to return the text after a tag that is never closed.

    Everything inside ``<think>…</think>`` is ignored. An unclosed ``<think>`` hides the rest, and a ``</think>``
    without an opening one hides everything before it. One inside a closed element is part of its text. The same holds
    for every pair of delimiters; an opening is closed only by its own closing.
    """
    plain = _plain(text, names, thinking, suspect, others_enclose)
    if plain is not None:
        return plain
    tags = _tags(text, names, thinking, suspect, others_enclose)
    codes, shapes, starts, stops = tags.codes, tags.shapes, tags.starts, tags.stops
    next_same, next_stray = _links(tags, thinking.count)
    # One object for all unclosed tags of a name: an action may hold millions of them.
    unclosed = [Element(name) for name in tags.names]
    known = [name in names for name in tags.names]
    end = len(shapes)
    elements: list[Element] = []
    i = 0
    while i < end:
        code, shape = codes[i], shapes[i]
        if code < thinking.count:
            if shape == CLOSING:
                elements.clear()
            i = next_same[i] + 1 if shape == OPENING else i + 1
            continue
        if shape == CLOSING:
            i += 1
            continue
        encloses, j = known[code] or others_enclose, next_same[i]
        if encloses and shape == SELF_CLOSING:
            if known[code]:
                elements.append(Element(tags.names[code], text[tags.name_stops[i] : stops[i] - 2], ""))
            i += 1
        elif encloses and j < end and shapes[j] == CLOSING:
            if known[code]:
                attributes = text[tags.name_stops[i] : stops[i] - 1]
                elements.append(Element(tags.names[code], attributes, text[stops[i] : starts[j]]))
            i = j + 1
        else:
            if known[code] and keep_begun:
                begun = text[stops[i] : starts[j] if j < end else len(text)]
                elements.append(Element(tags.names[code], begun=begun))
            elif known[code] or suspect is not None:
                elements.append(unclosed[code])
            # Parsing goes on at the later tag of the same name, but reasoning that began in the prompt may end
            # between the two and then takes the first one with it.
            i = min(j, next_stray[i]) if known[code] and j < end else i + 1
    return elements


def _plain(
    text: str,
    names: Container[str],
    thinking: Delimiters,
    suspect: Callable[[str], bool] | None,
    others_enclose: bool,
) -> list[Element] | None:
    """The elements of an ordinary action: all are closed, and there is no other ``<`` in the text; else ``None``.

    The result is that of the full scan, several times as fast; nearly all actions are ordinary.
    """
    if not thinking.only_tags(text):
        return None
    elements: list[Element] = []
    marks = 0
    for match in _ELEMENT.finditer(text):
        name, attributes, content = match.groups()
        marks += 1 if content is None else 2
        name = name.lower()
        if name in names:
            elements.append(
                Element(name, attributes[:-1], "") if content is None else Element(name, attributes, content)
            )
        elif name in thinking.tags:
            if content is None:
                return None
        elif not others_enclose and suspect is not None and suspect(name):
            return None
    return elements if marks == text.count("<") else None


class _Tags(NamedTuple):
    """Parallel columns with one row per tag of interest; for 10 MB of tags, objects would take gigabytes."""

    names: list[str]
    """First an empty name for each pair of delimiters of reasoning."""
    codes: array[int]
    """Indices into ``names``."""
    shapes: bytearray
    starts: array[int]
    name_stops: array[int]
    stops: array[int]


def _tags(
    text: str,
    names: Container[str],
    thinking: Delimiters,
    suspect: Callable[[str], bool] | None,
    others_enclose: bool,
) -> _Tags:
    found = [""] * thinking.count
    codes, starts, name_stops, stops = array("q"), array("q"), array("q"), array("q")
    shapes = bytearray()
    code_of: dict[str, int] = {}
    for match, pair, shape in thinking.find(text):
        code: int | None = pair
        if pair < 0:
            name = match["name"].lower()
            code = code_of.get(name)
            if code is None:
                if not (others_enclose or name in names or (suspect is not None and suspect(name))):
                    continue
                code = code_of[name] = len(found)
                found.append(name)
        assert code is not None
        codes.append(code)
        shapes.append(shape)
        starts.append(match.start())
        name_stops.append(match.end("name") if pair < 0 else match.end())
        stops.append(match.end())
    return _Tags(found, codes, shapes, starts, name_stops, stops)


def _links(tags: _Tags, pairs: int) -> tuple[array[int], array[int]]:
    """For every tag, the index of the next one of its name, and that of the next closing of reasoning without opening.

    For a delimiter of reasoning, the first is the next one of its pair that ends it. The second looks from just after
    the tag, outside of reasoning. Where there is no such tag, the number of tags stands.
    """
    codes, shapes = tags.codes, tags.shapes
    end = len(shapes)
    next_same, next_stray = (array("q", [end]) * end for _ in range(2))
    last = array("q", [end]) * len(tags.names)
    stray = end
    for i in range(end - 1, -1, -1):
        code, shape = codes[i], shapes[i]
        next_same[i], next_stray[i] = last[code], stray
        if code >= pairs or shape in (CLOSING, ENDING):
            last[code] = i
        if code < pairs:
            if shape == CLOSING:
                stray = i
            elif shape == OPENING:
                closing = last[code]
                stray = next_stray[closing] if closing < end else end
    return next_same, next_stray
