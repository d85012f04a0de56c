"""Actions: text to operations and back, in three dialects or a custom one (SPEC A)."""

from atommem_gym.actions.dialects import DIALECTS, Dialect, format_action, load_dialect, parse, tag_names
from atommem_gym.actions.operations import (
    KINDS,
    STORAGE_KINDS,
    Answer,
    Create,
    Delete,
    Invalid,
    Kind,
    Operation,
    Read,
    Scratchpad,
    Update,
)
from atommem_gym.actions.space import ActionText, UnicodeText
from atommem_gym.actions.tools import tool_schemas
from atommem_gym.replies.thinking import without_thinking

__all__ = [
    "DIALECTS",
    "KINDS",
    "STORAGE_KINDS",
    "ActionText",
    "Answer",
    "Create",
    "Delete",
    "Dialect",
    "Invalid",
    "Kind",
    "Operation",
    "Read",
    "Scratchpad",
    "UnicodeText",
    "Update",
    "format_action",
    "load_dialect",
    "parse",
    "tag_names",
    "tool_schemas",
    "without_thinking",
]
