"""A slow parser of actions, written from the rules A2 and A3 alone, that the tests compare the real one with."""

from __future__ import annotations

import string

from atommem_gym.actions import KINDS

Tag = tuple[int, int, str, str]


def reference_tags(text: str) -> list[Tag]:
    """Start, stop, name and form (``open``, ``close`` or ``self``) of every tag, character by character."""
    tags = []
    for start, character in enumerate(text):
        stop = start + 1
        while stop < len(text) and text[stop] not in "<>":
            stop += 1
        if character != "<" or stop == len(text) or text[stop] == "<":
            continue
        inside = text[start + 1 : stop]
        closing, inside = inside.startswith("/"), inside.removeprefix("/")
        name = ""
        while len(name) < len(inside) and inside[len(name)] in string.ascii_letters + string.digits + "_.:-":
            name += inside[len(name)]
        after = inside[len(name) : len(name) + 1]
        if not name or name[0] not in string.ascii_letters + "_" or after.isalnum():
            continue
        form = "close" if closing else "self" if inside.endswith("/") and inside != name else "open"
        tags.append((start, stop + 1, name.lower(), form))
    return tags


def reference(text: str) -> list[tuple[str, str | None]]:
    """Names and texts (``None``: unclosed or misspelt) of what counts, by the letter of A2 and A3."""
    tags = [tag for tag in reference_tags(text) if tag[2] in (*KINDS, "think", "creat")]
    found: list[tuple[str, str | None]] = []
    i = 0
    while i < len(tags):
        _, stop, name, form = tags[i]
        rest = tags[i + 1 :]
        if name == "think":
            if form == "close":
                found = []
            if form == "open":
                while i + 1 < len(tags) and tags[i][2:] != ("think", "close"):
                    i += 1
            i += 1
            continue
        i += 1
        if form == "close":
            continue
        if name == "creat":
            found.append((name, None))
            continue
        if form == "self":
            found.append((name, ""))
            continue
        same = next((tag for tag in rest if tag[2] == name), None)
        if same is None:
            found.append((name, None))
        elif same[3] == "close":
            found.append((name, text[stop : same[0]].strip()))
            i = tags.index(same) + 1
        else:
            found.append((name, None))
            thinking = False
            while tags[i] != same and (thinking or tags[i][2:] != ("think", "close")):
                if tags[i][2] == "think" and tags[i][3] != "self":
                    thinking = tags[i][3] == "open"
                i += 1
    return found
