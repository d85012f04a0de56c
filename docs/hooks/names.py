"""The site's hook that links guides with the reference: where a page first names a public class or function in code.

The pages stay free of such links, so none of them can be dead, and a page that is written tomorrow has them, too.
"""

from __future__ import annotations

import posixpath
import re
import runpy
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

NOT_LINKED = ("reference/", "benchmarks/", "public_api.md")
"""Pages that are references themselves, or results."""
WORDS = {"tag_names", "TASK", "Options"}
"""Names that mean other things as well: an attribute of a dialect, what each module has of its own."""

_SKIPPED = r"^```.*?^ *```|^ {4,}```.*?^ *```|^#.*?$|\[[^\]]*\]\([^)]*\)|\[[^\]]*\]\[[^\]]*\]"
"""Blocks of code, headings and links."""
_CODE = re.compile(rf"{_SKIPPED}|(?<!`)`(?P<name>[A-Za-z_][\w.]*)(?P<call>\([^`]*\))?`(?!`)", re.MULTILINE | re.DOTALL)
_IMPORT = re.compile(r"^ *from (atommem_gym[\w.]*) import (\([^)]*\)|.+)$", re.MULTILINE)
_known: dict[str, tuple[str, str]] = {}


def known_names() -> dict[str, tuple[str, str]]:
    """The page of the reference and the anchor, by every way to write a name that means one thing alone.

    A name is written in full, or by its last parts. By itself it has to look like a name (with a capital or an
    underscore): ``env`` and ``train`` are words. Of a wrapper's two forms the plain one is meant.
    """
    entries = runpy.run_path(str(Path(__file__).with_name("reference.py")))["entries"]()
    found: dict[str, set[tuple[str, str]]] = {}
    for page, names in entries.items():
        for full in names:
            parts = full.split(".")
            for start in range(len(parts)):
                found.setdefault(".".join(parts[start:]), set()).add((page, full))
    known = {}
    for written, places in found.items():
        plain = {place for place in places if ".wrappers.vector." not in place[1]} or places
        if len(plain) == 1 and written not in WORDS and re.search(r"^[A-Z]|_|\.", written):
            known[written] = plain.pop()
    return known


def linked(markdown: str, here: str, known: dict[str, tuple[str, str]]) -> str:
    """The page with a link to the reference at the first mention of each name; at its end what only code imports.

    Args:
        markdown: The text of the page.
        here: Its path below docs/.
        known: What :func:`known_names` returns.
    """
    seen: set[str] = set()

    def link(code: str, name: str) -> str:
        page, full = known.get(name, ("", ""))
        if not page or full in seen:
            return code
        seen.add(full)
        return f"[{code}]({posixpath.relpath(f'reference/{page}', posixpath.dirname(here) or '.')}#{full})"

    text = _CODE.sub(lambda match: link(match[0], match["name"] or ""), markdown)
    imported = {(name, home) for home, names in _IMPORT.findall(markdown) for name in re.findall(r"\b\w+\b", names)}
    links = [
        link(f"`{name}`", f"{home}.{name}" if f"{home}.{name}" in known else name)
        for name, home in sorted(imported, key=lambda one: (one[0].lower(), one[1]))
    ]
    more = ", ".join(one for one in links if one.startswith("["))
    return f"{text.rstrip()}\n\nIn the reference: {more}.\n" if more else text


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Read the pages of the reference."""
    _known.update(known_names())
    return config


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Link the names of a guide."""
    here = page.file.src_uri
    return markdown if here.startswith(NOT_LINKED) else linked(markdown, here, _known)
