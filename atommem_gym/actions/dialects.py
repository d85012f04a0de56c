"""The three dialects behind two functions: :func:`parse` and its inverse :func:`format_action` (SPEC A6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import ModuleType

from atommem_gym.actions import crud, tools
from atommem_gym.actions import released_tags as released
from atommem_gym.actions.operations import Invalid, Operation
from atommem_gym.errors import ConfigError
from atommem_gym.replies.thinking import Pairs

DIALECTS: dict[str, ModuleType] = {"crud": crud, "released": released, "tools": tools}


def tag_names(dialect: str) -> Mapping[str, str]:
    """What a dialect calls the operations, where that differs from their kind.

    >>> tag_names("released")["create"]
    'add_memory'
    """
    return {str(kind): tag for kind, tag in released.TAGS.items()} if dialect == "released" else {}


def _dialect(name: str) -> ModuleType:
    if name not in DIALECTS:
        raise ConfigError(f"unknown dialect {name!r}; choose one of {', '.join(DIALECTS)}")
    return DIALECTS[name]


def parse(text: str, dialect: str = "crud", thinking: Pairs | None = None) -> list[Operation | Invalid]:
    """The operations of an action in the order in which they are written; what is malformed comes as ``Invalid``.

    No text raises, and time is linear in its length (SPEC A3).

    >>> parse('I note it. <create>Ada was born in 1815.</create> <delete id="x"/>')
    [Create(text='Ada was born in 1815.'), Invalid(kind='delete', reason='bad_id', detail='delete needs an integer id')]

    Args:
        text: The action.
        dialect: How it is written.
        thinking: Pairs of delimiters of reasoning, which is ignored; ``None`` for the known ones (SPEC A8).

    Raises:
        ConfigError: there is no such dialect.
    """
    module = _dialect(dialect)
    return list(module.parse(text) if thinking is None else module.parse(text, thinking))


def format_action(operations: Sequence[Operation], dialect: str = "crud") -> str:
    """Write operations as an action, so that ``parse(format_action(ops)) == ops``.

    >>> from atommem_gym.actions import Read, Update
    >>> print(format_action([Update(3, "Ada died in 1852."), Read("When was Ada born?")]))
    <update id="3">Ada died in 1852.</update>
    <read>When was Ada born?</read>

    Raises:
        ValueError: a text is empty, has white space around it, or holds a delimiter of the dialect; an id is too long.
        TypeError: something else than an operation, or an operation whose text is no string or whose id no integer.
        ConfigError: there is no such dialect.
    """
    return str(_dialect(dialect).format_operations(operations))
