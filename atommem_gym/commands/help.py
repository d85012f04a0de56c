"""``--help`` as a page: what a command does, examples, and each argument with its value if nobody gives one.

Pages are made of the commands' dataclasses: their docstrings, the strings under their fields, and ``tyro.conf.arg``.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from dataclasses import Field as DataclassField
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.text import Text
from tyro.conf import FlagCreatePairsOff, Positional, UseAppendAction

from atommem_gym.terminal import UNBOUNDED, wrapped

LEFT = 24
"""Columns for what is typed; what is longer has its text on the next line."""
_EXAMPLE = "Example: "
"""How the paragraph of a docstring begins that is a right command line."""


@dataclass(frozen=True)
class Argument:
    """What can be typed, and what it does."""

    names: tuple[str, ...]
    """What it is called: none where the place says which it is."""
    value: str
    """How its value is written, empty for a flag."""
    text: str
    """The help text."""
    choices: tuple[str, ...] = ()
    """The values that can be given, if they are a fixed list."""

    @property
    def positional(self) -> bool:
        """Whether the place says which it is."""
        return not self.names

    @property
    def typed(self) -> str:
        """What is typed, with all its names."""
        return " ".join(filter(None, (", ".join(self.names), self.value)))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """See ``rich``."""
        left = Text.assemble("  ", (self.typed, "bold"))
        if options.max_width >= UNBOUNDED:
            yield left.append(" " * max(LEFT - cell_len(left.plain), 2)).append(self.text)
            return
        indent = LEFT if options.max_width >= 2 * LEFT else 6
        lines = wrapped(Text(self.text), options.max_width - indent).split("\n", allow_blank=True)
        if cell_len(left.plain) + 2 <= indent:
            yield left.append(" " * (indent - cell_len(left.plain))).append_text(lines.pop(0))
        else:
            yield left
        yield from (Text(" " * indent).append_text(line) for line in lines)


def named_commands(union: object) -> dict[str, type]:
    """The dataclasses of a union of ``Annotated[Class, subcommand(name)]``, by their names."""
    return {one.__metadata__[0].name: one.__origin__ for one in get_args(union)}


def subcommands(command: type) -> dict[str, type]:
    """The commands under a command, such as ``check`` under ``data``."""
    hint = get_type_hints(command, include_extras=True).get("command")
    union = get_args(hint)[0] if get_origin(hint) is Annotated and hasattr(hint, "__origin__") else hint
    return named_commands(union) if hint is not None else {}


def page(root: type, arguments: Sequence[str]) -> RenderableType:
    """The page that a command line with ``--help`` asks for.

    Args:
        root: The dataclass of the whole command line, whose options every command has.
        arguments: What was typed.
    """
    path, command = meant_command(root, arguments)
    below, own = subcommands(command), list(arguments_of(command))
    positional = [one for one in own if one.positional]
    options = [one for one in own if not one.positional]
    everywhere = [*arguments_of(root), Argument(("-h", "--help"), "", "Show this page.")]
    usage = [path, *(one.typed for one in positional), "COMMAND" if below else "", "[options]"]
    parts: list[RenderableType] = [Text.assemble(("usage: ", "bold"), " ".join(filter(None, usage)))]
    parts += _description(command)
    parts += _section("Arguments", positional)
    parts += _section("Commands", [Argument((), name, _summary(one)) for name, one in below.items()])
    if command is not root:
        parts += _section("Options", options)
    parts += _section("Options" if command is root else "Options of every command", everywhere)
    if below:
        parts += [Text(""), Text(f"{path} COMMAND --help is the page of a command.")]
    return Group(*parts)


def known_options(root: type, arguments: Sequence[str]) -> tuple[str, list[str]]:
    """The command that a command line means, such as ``atommem data check``, and the names of all its options."""
    path, command = meant_command(root, arguments)
    names = [name for one in options_of(command, root) for name in one.names]
    return path, [*names, "-h", "--help", *(["--version"] if command is root else [])]


def options_of(command: type, root: type) -> list[Argument]:
    """The options of a command, and those that every command has."""
    return [one for of in dict.fromkeys((command, root)) for one in arguments_of(of) if not one.positional]


def arguments_of(command: type) -> Iterator[Argument]:
    """All that can be given to a command."""
    hints, texts = get_type_hints(command, include_extras=True), _field_texts(command)
    for one in fields(command):
        if one.name == "command":
            continue
        hint = hints[one.name]
        meta: tuple[Any, ...] = getattr(hint, "__metadata__", ())
        kind = hint.__origin__ if meta else hint
        config = next((m for m in meta if hasattr(m, "metavar")), None)
        metavar = (config and config.metavar) or _metavar(kind, one.name)
        text = " ".join([texts.get(one.name, ""), *_additions(one, kind, meta, texts.get(one.name, ""))]).strip()
        choices = tuple(_choices(kind))
        if Positional in meta:
            yield Argument((), metavar, text, choices)
            continue
        name = "--" + ((config and config.name) or one.name.replace("_", "-"))
        names = [*((config and config.aliases) or ()), name]
        if kind is bool or kind == "bool":
            names += [] if FlagCreatePairsOff in meta else [f"--no-{name[2:]}"]
            yield Argument(tuple(names), "", text)
        else:
            yield Argument(tuple(names), metavar, text, choices)


def meant_command(root: type, arguments: Sequence[str]) -> tuple[str, type]:
    """The command that a command line means, by its whole name and its dataclass."""
    path, command = ["atommem"], root
    takes_value = {name for one in arguments_of(root) if one.value for name in one.names}
    for before, argument in zip(["", *arguments], arguments, strict=False):
        if before not in takes_value and argument in subcommands(command):
            path.append(argument)
            command = subcommands(command)[argument]
    return " ".join(path), command


def _metavar(kind: Any, name: str) -> str:
    inner = [one for one in get_args(kind) if one is not type(None)] if not _is_literal(kind) else []
    for one in (kind, *inner):
        if one in (int, float):
            return "N" if one is int else "X"
    return name.upper()


def _is_literal(kind: Any) -> bool:
    return get_origin(kind) is Literal


def _choices(kind: Any) -> list[str]:
    literals = [one for one in (kind, *get_args(kind)) if _is_literal(one)]
    return [str(choice) for one in literals[:1] for choice in get_args(one)]


def _additions(one: DataclassField[Any], kind: Any, meta: Sequence[Any], text: str) -> Iterator[str]:
    """What the text of an argument does not say by itself."""
    choices = _choices(kind)
    if choices and not all(choice in text for choice in choices):
        yield f"One of {', '.join(choices)}."
    if UseAppendAction in meta:
        yield "May be repeated."
    default = one.default if one.default_factory is MISSING else one.default_factory()
    if default is MISSING:
        if Positional not in meta:
            yield "Required."
    elif default is True:
        yield f"By default --{one.name}."
    elif default is not None and default is not False and default not in ((), "") and "default" not in text:
        yield f"By default {default}."


def _field_texts(command: type) -> Mapping[str, str]:
    """The strings under the fields of a dataclass, those that it inherits included."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(command))).body
    assert isinstance(tree, ast.ClassDef)
    found: dict[str, str] = {}
    for base in command.__bases__:
        if is_dataclass(base):
            found.update(_field_texts(base))
    for statement, below in zip(tree.body, tree.body[1:], strict=False):
        if (
            isinstance(statement, ast.AnnAssign)
            and isinstance(statement.target, ast.Name)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
            and isinstance(below.value.value, str)
        ):
            found[statement.target.id] = " ".join(below.value.value.split())
    return found


def _paragraphs(command: type) -> list[str]:
    return [" ".join(one.split()) for one in inspect.cleandoc(command.__doc__ or "").split("\n\n")]


def _summary(command: type) -> str:
    return _paragraphs(command)[0]


def example(command: type) -> str | None:
    """A right command line of a command, if its docstring has one."""
    return next(iter(_examples(command)), None)


def _examples(command: type) -> list[str]:
    return [one.removeprefix(_EXAMPLE) for one in _paragraphs(command) if one.startswith(_EXAMPLE)]


def _description(command: type) -> Iterator[RenderableType]:
    """The paragraphs of the docstring, and its examples under one title."""
    examples = _examples(command)
    for paragraph in _paragraphs(command):
        if not paragraph.startswith(_EXAMPLE):
            yield from (Text(""), Text(paragraph))
    if examples:
        yield from (Text(""), Text("Example:" if len(examples) == 1 else "Examples:", style="bold"))
        yield from (Text(f"  {line}") for line in examples)


def _section(title: str, arguments: Sequence[Argument]) -> list[RenderableType]:
    return [Text(""), Text(f"{title}:", style="bold"), *arguments] if arguments else []
