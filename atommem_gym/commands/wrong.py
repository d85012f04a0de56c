"""What is wrong with a command line, in one sentence: what was typed, the rule, and what to type instead."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import takewhile

from atommem_gym.commands.help import (
    Argument,
    arguments_of,
    example,
    known_options,
    meant_command,
    options_of,
    subcommands,
)
from atommem_gym.commands.options import places_of
from atommem_gym.errors import nearest, suggestion

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_SYNONYMS = {"list": "ls", "delete": "rm", "remove": "rm", "find": "search", "dump": "export"}
"""What other programs call an action."""
_ALIKE = 0.75
"""How alike an option must be to be meant rather than a key of the same name."""


def lacks_value(root: type, arguments: Sequence[str]) -> str | None:
    """What to say of the first option that stands without its value, also where none would be taken for a default.

    Args:
        root: The dataclass of the whole command line, whose options every command has.
        arguments: What was typed.
    """
    pairs = list(zip(arguments, [*arguments[1:], None], strict=True))
    if not any(typed.startswith("-") and (following or "-").startswith("-") for typed, following in pairs):
        return None  # quickly, as nearly always
    path, command = meant_command(root, arguments)
    known = {name: one for one in options_of(command, root) for name in one.names}
    for typed, following in pairs:
        if typed == "--":
            break
        option = known.get(_dashed(typed))
        if option is not None and option.value and (following is None or _dashed(following) in known):
            return f"{typed} needs a value: {typed} {option.value} (`{path} --help` tells more)"
    return None


def wrong(root: type, arguments: Sequence[str], said: str) -> str:
    """What is wrong with a command line.

    Args:
        root: The dataclass of the whole command line, whose options every command has.
        arguments: What was typed.
        said: What the library that reads it says, a line each.
    """
    path, command = meant_command(root, arguments)
    lines = re.split(r"\n(?:For full helptext|Argument helptext)", said)[0].splitlines()
    what = " ".join(" ".join(lines).replace("'command.", "'").split()).rstrip(" .;")
    parts = (
        _unknown_option(root, arguments),
        _flag_with_value(root, command, arguments),
        _missing(path, command, lines),
        _unknown_choice(command, what),
        _no_number(what),
        _too_many(path, command, what),
    )
    return f"{next(filter(None, parts), what)} (`{path} --help` tells more)"


def unboxed(text: str) -> str:
    r"""What stands in a box of lines, or under a title between lines where no box can be drawn.

    >>> print(unboxed("╭─ Title ─╮\n│ one     │\n│ ─────── │\n│     two │\n╰─────────╯"))
    one
    two
    >>> print(unboxed(" Title \n ----- \n  one \n  --- "))
    one
    """
    lines = [_COLOUR.sub("", line) for line in text.splitlines()]
    inside = [line.strip(" │") for line in lines if not line.startswith(("╭", "╰"))]
    kept = [line for line in inside if line.strip("─- ")]
    return "\n".join(kept if any(line.startswith("╭") for line in lines) else kept[1:])


def _dashed(typed: str) -> str:
    return typed.replace("_", "-") if typed.startswith("--") else typed


def _unknown_option(root: type, arguments: Sequence[str]) -> str | None:
    path, known = known_options(root, arguments)
    before = takewhile(lambda one: one != "--", arguments)
    typed = [one.partition("=")[0] for one in before if re.match(r"--[^ ]+(=|$)|-[A-Za-z](=|$)", one)]
    unknown = next((one for one in typed if _dashed(one) not in known), None)
    if unknown is None:
        return None
    said = f"unknown option {unknown} of `{path}`"
    if not unknown.startswith("--"):
        return f"{said}; {suggestion(unknown, [one for one in known if one != '-h'])}"
    # The dashes, which all have, make nothing alike.
    long = {one[2:]: one for one in known if one.startswith("--")}
    key = unknown[2:].replace("-", "_")
    places = [] if nearest(unknown[2:], long, cutoff=_ALIKE) else places_of(key)
    taken = [(option, what) for option, what in places if option in known]
    if taken:
        options = " or ".join(f"{option} {key}=…" for option, _ in taken)
        return f"{said}; {key} is {' and '.join(what for _, what in taken)}: write {options}"
    meant = suggestion(unknown[2:], long, meant=long)
    others = [f"`{other}`" for other, names in _others(root) if _dashed(unknown) in names]
    if others and not meant.startswith("did you mean"):
        return f"{said}; it is an option of {_listed(others)}"
    return f"{said}; {meant}"


def _others(root: type, before: str = "atommem") -> Iterator[tuple[str, list[str]]]:
    """All commands with the names of their options."""
    for name, command in subcommands(root).items():
        yield f"{before} {name}", [each for one in arguments_of(command) for each in one.names]
        yield from _others(command, f"{before} {name}")


def _flag_with_value(root: type, command: type, arguments: Sequence[str]) -> str | None:
    flags = {name for one in options_of(command, root) if not one.value for name in one.names}
    given = (one.partition("=") for one in arguments)
    return next(
        (f"{name} takes no value; write {name} alone" for name, sign, _ in given if sign and name in flags), None
    )


def _missing(path: str, command: type, lines: Sequence[str]) -> str | None:
    """What has to be given and is not."""
    if lines and lines[0].startswith("Expected one of {"):
        return f"`{path}` needs a command; known are {', '.join(subcommands(command))}"
    if not lines or not lines[0].startswith("Missing from"):
        return None
    required = [one for one in arguments_of(command) if any(_names(line, one) for line in lines)]
    names = [" ".join([*one.names[:1], one.value]) for one in required]
    shown = example(command)
    return f"`{path}` needs {_listed(names)}" + (f"; for instance: {shown}" if shown else "")


def _names(line: str, argument: Argument) -> bool:
    """Whether a line of the library names an argument, which it does by its choices where it has some."""
    if argument.positional:
        return line in (argument.value, f"{{{','.join(argument.choices)}}}")
    return line.startswith(f"{argument.names[0]} {argument.value}")


def _unknown_choice(command: type, what: str) -> str | None:
    subcommand = re.fullmatch(r"Unrecognized options: (\S+?)(?:,.*)? Available subcommands: (.*)", what)
    if subcommand is not None:
        given, listed = subcommand.groups()
        return f"unknown command {given!r}; {suggestion(given, listed.split(', '))}"
    choice = re.match(r"invalid choice '(.*?)' for argument '(.*?)'", what)
    if choice is None:
        return None
    given, where = choice.groups()
    named = [one for one in arguments_of(command) if where in (*one.names, one.value.lower())]
    known = named[0].choices if named else ()
    name = named[0].value if named and named[0].positional else where
    meant = _SYNONYMS.get(given)
    return f"{name} {given!r} is unknown; {suggestion(meant if meant in known else given, known)}"


def _no_number(what: str) -> str | None:
    option = re.match(r"Error parsing (\S+?): ", what)
    if option is None:
        return None
    name = option.group(1)
    whole = re.search(r"invalid literal for int\(\) with base 10: ('.*')", what)
    if whole is not None:
        return f"{name} {whole.group(1)} must be an integer"
    real = re.search(r"could not convert string to float: ('.*')", what)
    if real is not None:
        return f"{name} {real.group(1)} must be a number"
    several = re.search(r"Could not find valid parse for arguments: \[(.*)\]", what)
    if several is not None:
        given = next((one for one in several.group(1).split(", ") if not re.fullmatch(r"'-?\d+'", one)), "")
        return f"{name} {given} must be an integer"
    count = re.search(r"input length (\d+) did not match expected argument count (\d+)", what)
    return None if count is None else f"{name} takes {count.group(2)} values, not {count.group(1)}"


def _too_many(path: str, command: type, what: str) -> str | None:
    found = re.match(r"Unrecognized options: (.*)", what)
    if found is None:
        return None
    taken = [one.value for one in arguments_of(command) if one.positional]
    return f"nothing takes the argument {found.group(1)!r}; usage: {' '.join([path, *taken, '[options]'])}"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
