"""Tags in free text, in one linear scan: which are outermost, closed, or reasoning, which is left out (SPEC A2, A3)."""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Container
from typing import NamedTuple

TAG = re.compile(r"<(/?)([A-Za-z_][A-Za-z0-9_.:-]*)(?![\w.:-])([^<>]*)>")
"""One tag. Every ``<`` is looked at once and no further than to the next ``<`` or ``>``, so scanning is linear.

A name ends where it cannot go on: ``<create-x>`` and ``<createé>`` are other names than ``create``.
"""

_ELEMENT = re.compile(r"<([A-Za-z_][A-Za-z0-9_.:-]*)(?![\w.:-])([^<>]*)>(?:(?<=/>)|([^<]*)</\1>)")
"""A self-closing tag, or one with its closing tag and no ``<`` between: all that there is in an ordinary action."""

THINK = "think"
THINKS = frozenset({THINK, "thinking", "seed:think"})
"""Spellings of the tag around reasoning, in lower case; all are one name, ``think`` (SPEC A8)."""

_OPENING, _CLOSING, _SELF_CLOSING = range(3)


class Element(NamedTuple):
    """An outermost tag with the text that it encloses."""

    name: str
    """In lower case."""
    attributes: str = ""
    """What stands between name and ``>``, without the slash of a self-closing tag; empty for an unclosed one."""
    text: str | None = None
    """``None`` if the tag is never closed."""
    begun: str = ""
    """What follows a tag that is never closed, up to the next of its name, if :func:`scan` was asked for it."""


def scan(
    text: str,
    names: Container[str],
    *,
    suspect: Callable[[str], bool] | None = None,
    others_enclose: bool = False,
    keep_begun: bool = False,
) -> list[Element]:
    """Find the outermost elements of an action, in the order in which they are written.

    Args:
        text: The action.
        names: The dialect's names, in lower case. No tag counts inside their elements.
        suspect: Says which other names are reported besides, although they enclose nothing (misspellings).
        others_enclose: Whether no tag counts inside the elements of any other name either, if they are closed.
        keep_begun: Whether to say what follows a tag that is never closed.

    Everything inside ``<think>…</think>`` is ignored, an unclosed ``<think>`` ignores the rest, and a ``</think>``
    without an opening one ignores all before it. One inside a closed element is part of its text. So it is with the
    other spellings in ``THINKS``.
    """
    plain = _plain(text, names, suspect, others_enclose)
    if plain is not None:
        return plain
    tags = _tags(text, names, suspect, others_enclose)
    codes, shapes, starts, stops = tags.codes, tags.shapes, tags.starts, tags.stops
    next_same, next_think_end, next_stray = _links(tags)
    # One object for all unclosed tags of a name: an action may hold millions of them.
    unclosed = [Element(name) for name in tags.names]
    known = [name in names for name in tags.names]
    think = tags.names.index(THINK) if THINK in tags.names else -1
    end = len(shapes)
    elements: list[Element] = []
    i = 0
    while i < end:
        code, shape = codes[i], shapes[i]
        if code == think:
            if shape == _CLOSING:
                elements.clear()
            i = next_think_end[i] + 1 if shape == _OPENING else i + 1
            continue
        if shape == _CLOSING:
            i += 1
            continue
        encloses, j = known[code] or others_enclose, next_same[i]
        if encloses and shape == _SELF_CLOSING:
            if known[code]:
                elements.append(Element(tags.names[code], text[tags.name_stops[i] : stops[i] - 2], ""))
            i += 1
        elif encloses and j < end and shapes[j] == _CLOSING:
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


def without_thinking(text: str) -> str:
    """What is left of a reply without ``<think>…</think>`` (in any spelling), stripped; :func:`scan` has its rules.

    An unclosed ``<think>`` takes all that follows with it, a ``</think>`` that none opens all before it. Other tags are
    not looked at, so ``<think>`` inside an operation's text, which is part of that text in an action, goes as well.

    >>> without_thinking("<think>Paris or Rome?</think> Rome")
    'Rome'
    >>> without_thinking("reasoning that began in the prompt</think>Rome <think>and so")
    'Rome'
    """
    kept: list[str] = []
    thinking, position = False, 0
    for tag in TAG.finditer(text):
        if tag[2].lower() not in THINKS:
            continue
        if tag[1]:
            if not thinking:
                kept.clear()
            thinking, position = False, tag.end()
        elif not thinking:
            kept.append(text[position : tag.start()])
            # <think/> encloses nothing.
            thinking, position = not tag[3].endswith("/"), tag.end()
    if not thinking:
        kept.append(text[position:])
    return "".join(kept).strip()


def _plain(
    text: str, names: Container[str], suspect: Callable[[str], bool] | None, others_enclose: bool
) -> list[Element] | None:
    """The elements of an ordinary action in one pass: all closed, and no ``<`` in any or beside them; else ``None``.

    What :func:`scan` finds without this, several times as fast: nearly all actions are ordinary.
    """
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
        elif name in THINKS:
            if content is None:
                return None
        elif not others_enclose and suspect is not None and suspect(name):
            return None
    return elements if marks == text.count("<") else None


class _Tags(NamedTuple):
    """Parallel columns, one row a tag of interest: at 10 MB of tags, objects would take gigabytes."""

    names: list[str]
    codes: array[int]
    """Indices into ``names``."""
    shapes: bytearray
    starts: array[int]
    name_stops: array[int]
    stops: array[int]


def _tags(text: str, names: Container[str], suspect: Callable[[str], bool] | None, others_enclose: bool) -> _Tags:
    found: list[str] = []
    codes, starts, name_stops, stops = array("q"), array("q"), array("q"), array("q")
    shapes = bytearray()
    code_of: dict[str, int] = {}
    for match in TAG.finditer(text):
        name = match[2].lower()
        if name in THINKS:
            name = THINK
        code = code_of.get(name)
        if code is None:
            if not (others_enclose or name in names or name == THINK or (suspect is not None and suspect(name))):
                continue
            code = code_of[name] = len(found)
            found.append(name)
        codes.append(code)
        shapes.append(_CLOSING if match[1] else _SELF_CLOSING if match[3].endswith("/") else _OPENING)
        starts.append(match.start())
        name_stops.append(match.end(2))
        stops.append(match.end())
    return _Tags(found, codes, shapes, starts, name_stops, stops)


def _links(tags: _Tags) -> tuple[array[int], array[int], array[int]]:
    """For every tag the next one of its name, the next ``</think>``, and the next ``</think>`` that none opens.

    The last is seen from just after the tag, outside of reasoning. Where there is none, the number of tags stands.
    """
    codes, shapes = tags.codes, tags.shapes
    think = tags.names.index(THINK) if THINK in tags.names else -1
    end = len(shapes)
    next_same, next_think_end, next_stray = (array("q", [end]) * end for _ in range(3))
    last = array("q", [end]) * len(tags.names)
    think_end = stray = end
    for i in range(end - 1, -1, -1):
        code = codes[i]
        next_same[i], next_think_end[i], next_stray[i] = last[code], think_end, stray
        last[code] = i
        if code == think:
            if shapes[i] == _CLOSING:
                think_end = stray = i
            elif shapes[i] == _OPENING:
                stray = next_stray[think_end] if think_end < end else end
    return next_same, next_think_end, next_stray
