"""The dialects behind two functions: :func:`parse` and its inverse :func:`format_action` (SPEC A6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from atommem_gym.actions import crud, tools
from atommem_gym.actions import released_tags as released
from atommem_gym.actions.operations import KINDS, Invalid, Operation, check_formattable
from atommem_gym.errors import ConfigError, suggestion
from atommem_gym.plugins.forms import FORMS
from atommem_gym.plugins.loading import check_colon, is_plugin, load_plugin, module_of
from atommem_gym.replies.thinking import Pairs, without_thinking
from atommem_gym.trust import check_import


class Syntax(Protocol):
    """How operations are written and read."""

    @property
    def tag_names(self) -> Mapping[str, str]:
        """The tag of each kind of operation whose tag is not the kind itself; may be empty."""
        ...

    def parse(self, text: str) -> Sequence[Operation | Invalid]:
        """The operations of an action in the order in which they are written; malformed ones are ``Invalid``.

        No text raises, and time is linear in its length (SPEC A3).
        """
        ...

    def format_operations(self, operations: Sequence[Operation]) -> str:
        r"""Write operations, so that ``parse(format_operations(ops)) == ops`` (SPEC A6).

        Every operation whose text is one line of words can be written. Operations that are written one by one and
        joined with ``\n`` are read like those that are written at once.

        Raises:
            ValueError: a text cannot be written.
            TypeError: an element is not an operation, or has a field of a wrong type.
        """
        ...


class Dialect(Syntax, Protocol):
    """A custom dialect: a module or an object that ``dialect="package.module:name"`` names."""

    @property
    def template(self) -> str:
        """The text of its prompt template (Jinja2); it may extend ``base.j2`` and fill in the block ``syntax``."""
        ...


class BuiltIn(Syntax, Protocol):
    """A dialect of this package, which knows how reasoning is delimited."""

    def parse(self, text: str, thinking: Pairs | None = None) -> Sequence[Operation | Invalid]:
        """See :func:`parse`."""
        ...


DIALECTS: dict[str, BuiltIn] = {"crud": crud, "released": released, "tools": tools}
"""The built-in ones by name; their prompt templates are files of ``atommem_gym.prompts``."""

_loaded: dict[str, Dialect] = {}


def load_dialect(name: str) -> Syntax:
    """The dialect that ``dialect=name`` selects.

    Args:
        name: A key of ``DIALECTS``, or ``"package.module:name"``.

    Raises:
        ConfigError: there is no such dialect, or a custom one has the wrong form (:mod:`atommem_gym.plugins`) or may
            not be imported (:mod:`atommem_gym.trust`).
    """
    check_dialect_name(name)
    if name in DIALECTS:
        return DIALECTS[name]
    check_import(module_of(name), f"dialect={name!r}")
    if name not in _loaded:
        dialect: Dialect = load_plugin("dialect", name)
        _check_names(name, dialect)
        _loaded[name] = dialect
    return _loaded[name]


def check_dialect_name(name: object) -> None:
    """Refuse a value that names no dialect; nothing is imported.

    Raises:
        ConfigError: the value is neither a key of ``DIALECTS`` nor ``"package.module:name"``.
    """
    if not isinstance(name, str) or (name not in DIALECTS and not is_plugin("dialect", name)):
        if isinstance(name, str):
            check_colon("dialect", name)
        choices = ", ".join(map(repr, (*DIALECTS, "package.module:name")))
        raise ConfigError(f"dialect={name!r} must be one of {choices}; {suggestion(name, DIALECTS)}")


def dialect_template(name: str) -> str | None:
    """The text of the prompt template of a custom dialect; ``None`` for the built-in ones.

    Raises:
        ConfigError: see :func:`load_dialect`.
    """
    load_dialect(name)
    return None if name in DIALECTS else _loaded[name].template


def tag_names(dialect: str) -> Mapping[str, str]:
    """The tags of a dialect by kind of operation, where the tag is not the kind itself.

    >>> tag_names("released")["create"]
    'add_memory'
    """
    return _syntax(dialect).tag_names


def parse(text: str, dialect: str = "crud", thinking: Pairs | None = None) -> list[Operation | Invalid]:
    """The operations of an action in the order in which they are written; malformed ones are ``Invalid``.

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
    builtin = DIALECTS.get(dialect)
    if builtin is not None:
        return list(builtin.parse(text, thinking))
    # A custom dialect removes reasoning itself, unless the environment names the delimiters.
    return list(_syntax(dialect).parse(text if thinking is None else without_thinking(text, thinking)))


def format_action(operations: Sequence[Operation], dialect: str = "crud") -> str:
    """Write operations as an action, so that ``parse(format_action(ops)) == ops``.

    >>> from atommem_gym.actions import Read, Update
    >>> print(format_action([Update(3, "Ada died in 1852."), Read("When was Ada born?")]))
    <update id="3">Ada died in 1852.</update>
    <read>When was Ada born?</read>

    Raises:
        ValueError: a text is empty, has white space around it, or holds a delimiter of the dialect; an id is too long.
        TypeError: an element is not an operation, or its text is not a string or its id not an integer.
        ConfigError: there is no such dialect.
    """
    syntax = _syntax(dialect)
    if dialect not in DIALECTS:
        for op in operations:
            check_formattable(op)
    return str(syntax.format_operations(operations))


def _syntax(name: str) -> Syntax:
    """Called at every step, so a loaded dialect is not checked again."""
    return DIALECTS.get(name) or _loaded.get(name) or load_dialect(name)


def _check_names(name: str, dialect: Dialect) -> None:
    wrong = [kind for kind, tag in dialect.tag_names.items() if kind not in KINDS or not (isinstance(tag, str) and tag)]
    if wrong:
        raise ConfigError(
            f"dialect={name!r}: tag_names[{wrong[0]!r}] is {dialect.tag_names[wrong[0]]!r}; its keys are of "
            f"{', '.join(KINDS)}, its values texts{FORMS['dialect'].remedy}"
        )
