"""The form of each pluggable part: how it is called, its methods and attributes, and the function that checks it.

A new kind of pluggable part is one more :class:`Form` here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Form:
    """The form of the part that a keyword argument names."""

    what: str
    """The name of the part with its article, for messages: ``a store``."""
    written: str
    """The signature as users write it."""
    arguments: tuple[Any, ...] | None = None
    """Examples of the positional arguments of the call; ``None`` if the part is an object that is not called."""
    keywords: Mapping[str, Any] = field(default_factory=dict)
    """Examples of the keyword arguments of the call."""
    makes: bool = True
    """Whether the call returns the part; otherwise the function itself is the part."""
    methods: Mapping[str, int] = field(default_factory=dict)
    """How many arguments each method is called with, without ``self``."""
    attributes: Mapping[str, type] = field(default_factory=dict)
    """The type of each attribute."""
    check: str = ""
    """The function of ``atommem_gym.testing`` that checks it; empty if there is none."""

    @property
    def remedy(self) -> str:
        """Which function finds out what is wrong, for the end of a message."""
        return f"; atommem_gym.testing.{self.check} proves {self.what}" if self.check else ""


FORMS: dict[str, Form] = {
    "store": Form(
        "a store",
        "name(dim, *, keep, embedder)",
        arguments=(1,),
        keywords={"keep": None, "embedder": ""},
        methods={"write": 1, "candidates": 1, "load": 1, "episodes": 0, "drop": 1, "release": 1, "close": 0},
        attributes={"name": str, "dim": int, "kept": bool},
        check="check_store",
    ),
    "embedder": Form(
        "an embedder",
        "name()",
        arguments=(),
        methods={"embed": 2},
        attributes={"name": str, "dim": int},
        check="check_embedder",
    ),
    "tokenizer": Form(
        "a tokenizer",
        "name()",
        arguments=(),
        methods={"starts": 1, "count": 1, "counts": 1, "cut": 2},
        attributes={"name": str},
        check="check_tokenizer",
    ),
    "dialect": Form(
        "a dialect",
        "an object with parse(text), format_operations(operations), tag_names and template",
        methods={"parse": 1, "format_operations": 1},
        attributes={"tag_names": Mapping, "template": str},
        check="check_dialect",
    ),
    "agent": Form(
        "an agent",
        "name()",
        arguments=(),
        methods={"reset": 2, "act": 1},
        attributes={"name": str},
        check="check_agent",
    ),
    "reader": Form(
        "a reader",
        "name(question, memories, scratchpad), which returns a text",
        arguments=("", [], ""),
        makes=False,
        check="check_reader",
    ),
    "reward": Form("a reward", "name(prediction, answers, question)", arguments=("", (), ""), makes=False),
}
"""By the keyword argument that names the part (``agent``: the option of the command line)."""
