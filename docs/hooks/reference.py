"""The API reference: griffe reads the sources as one package, and docstrings become Markdown.

A page in docs/reference holds lines ``::: atommem_gym.stores.NumpyStore``; mkdocstrings puts signature and docstring in
their place. Nothing of the package is imported. ``tests/docs/test_reference.py`` says which names want a line.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import textwrap
from pathlib import Path
from typing import Any

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "docs" / "reference"
SOURCES = {"atommem_gym": "atommem_gym", "envs": "atommem_gym/envs", "agents": "atommem_gym/agents"}
"""Folders of the repository, and where they stand once installed (pyproject.toml, ``package-dir``)."""

_ENTRY = re.compile(r"^::: (\S+)$", re.MULTILINE)
_ROLE = re.compile(r":(?:class|func|meth|mod|attr|data|obj|exc):`~?([^`<>]+)`")
_RULE = re.compile(r"\bSPEC ([MAER]\d+|D[1-6])\b")
_PROMPT = re.compile(r"^ *>>> ")


def entries() -> dict[str, list[str]]:
    """The full names that each page of the reference describes, in the page's order."""
    return {path.name: _ENTRY.findall(path.read_text(encoding="utf-8")) for path in sorted(REFERENCE.glob("*.md"))}


def lay_out(folder: Path) -> Path:
    """Copy the sources into ``folder`` as they are installed, for tools that read files; returns ``folder``."""
    for source, place in SOURCES.items():
        ignored = shutil.ignore_patterns("__pycache__", "*.js", "*.css", "*.json", "*.j2")
        shutil.copytree(ROOT / source, folder / place, dirs_exist_ok=True, ignore=ignored)
    return folder


@event_priority(100)  # before mkdocstrings reads its options
def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Tell mkdocstrings where the sources stand in one tree; the tree goes when the process ends."""
    global _tree
    _tree = tempfile.TemporaryDirectory(prefix="atommem-reference-")
    handlers: dict[str, Any] = config.plugins["mkdocstrings"].config["handlers"]  # type: ignore[index]
    handlers["python"]["paths"] = [str(lay_out(Path(_tree.name)))]
    return config


_tree: tempfile.TemporaryDirectory[str]


class Docstrings(griffe.Extension):
    """Turns what a docstring has of Sphinx, and its doctests, into Markdown."""

    def __init__(self) -> None:
        self.pages = {name: page for page, names in entries().items() for name in names}

    def on_object(self, *, obj: griffe.Object, loader: griffe.GriffeLoader, **kwargs: Any) -> None:
        """Rewrite the docstring of every object that is loaded."""
        if obj.docstring is not None:
            text = obj.docstring.value
            if obj.is_class and obj.module.path == "atommem_gym.envs.tasks":
                text = without_manual(text)
            obj.docstring.value = markdown(text, self.pages)
        if obj.is_attribute and "instance-attribute" in obj.labels and "dataclass" not in obj.parent.labels:
            obj.value = None  # how ``__init__`` works it out says nothing to a reader


def without_manual(docstring: str) -> str:
    """What an environment's docstring says before its sections, with a link to the page that is made of them."""
    first, *_ = docstring.partition("\n## ")
    task = re.search(r"`AtomMem-(\w+)-v\d+`", first)
    return f"{first.strip()}\n\n[Its manual page](../environments/{task[1].lower()}.md)." if task else docstring


def markdown(docstring: str, known: dict[str, str]) -> str:
    """A docstring with links in place of Sphinx roles and of rules, and its doctests as blocks of code.

    Args:
        docstring: The text, its common indent removed.
        known: The full names that the reference describes; other roles become plain code.
    """
    linked = _ROLE.sub(lambda match: _link(match[1], known), docstring)
    return _fenced(_RULE.sub(r"[rule \1](../semantics.md#\1)", linked))


def _link(target: str, known: dict[str, str]) -> str:
    """A link to a name of the reference, written in full or as its last parts; code if there is none, or several."""
    name = target.strip().lstrip(".").removesuffix("()")
    found = [full for full in known if full == name or full.endswith(f".{name}")]
    return f"[`{name}`][{found[0]}]" if len(found) == 1 else f"`{name}`"


def _fenced(docstring: str) -> str:
    """Each doctest, from its first prompt to the next empty line, as a block of code at the same indent."""
    lines = []
    block: list[str] = []
    for line in (*docstring.split("\n"), ""):
        if block or _PROMPT.match(line):
            if line.strip():
                block.append(line)
                continue
            indent = " " * (len(block[0]) - len(block[0].lstrip())) if block else ""
            code = textwrap.indent(textwrap.dedent("\n".join(block)), indent)
            lines += [f"{indent}```pycon", code, f"{indent}```"]
            block = []
        lines.append(line)
    return "\n".join(lines[:-1])
