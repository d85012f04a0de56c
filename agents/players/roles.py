"""The ways to play with a language model: the class of each player, and what it demands of the environment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class LanguageModelRole:
    """One way to play with a language model."""

    summary: str
    """One line for the list of players."""
    env_keywords: dict[str, Any]
    """Keyword arguments that the player demands of its environment."""
    module: str
    """The module of the player's class in ``agents/players``."""
    kind: str
    """The class in that module; it takes the player's name, the model and the options."""


ROLES: dict[str, LanguageModelRole] = {
    "crud": LanguageModelRole(
        "all operations of the environment, through its prompt template", {}, "llm_player", "LanguageModelPlayer"
    ),
    "add_only": LanguageModelRole(
        "stores and reads, never updates or deletes",
        {"operations": ["create", "read"]},
        "llm_player",
        "LanguageModelPlayer",
    ),
    "overwrite_llm": LanguageModelRole(
        "one text, rewritten at every chunk (the scheme of MemAgent, arXiv 2507.02259)",
        {"storage": False, "scratchpad": True},
        "llm_player",
        "OverwritePlayer",
    ),
    "long_context": LanguageModelRole(
        "no memory: all documents that fit stand in one prompt",
        {"storage": False, "scratchpad": False},
        "long_context",
        "LongContextPlayer",
    ),
    "retrieve_then_read": LanguageModelRole(
        "every passage is stored as it is; the model answers from one search",
        {"operations": ["create", "read"], "storage": True, "scratchpad": False},
        "retrieve_then_read",
        "RetrieveThenReadPlayer",
    ),
    "mem0": LanguageModelRole(
        "mem0 remembers and finds, with the same model and the environment's embedder (needs the extra mem0)",
        {"storage": False, "scratchpad": True},
        "mem0_player",
        "Mem0Player",
    ),
}
"""The players that need a language model, by name."""
