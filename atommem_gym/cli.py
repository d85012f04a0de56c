"""The command ``atommem``: reads the command line, runs one subcommand, and turns errors into one red line."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, TypeAlias

import tyro
from rich.text import Text
from tyro.conf import CascadeSubcommandArgs, OmitArgPrefixes, OmitSubcommandPrefixes, UseAppendAction, arg, subcommand

from atommem_gym import __version__
from atommem_gym.commands.ask.ask import Ask
from atommem_gym.commands.compare import Compare
from atommem_gym.commands.consoles import messages, output, safe_warnings
from atommem_gym.commands.data import Data
from atommem_gym.commands.demo import Demo
from atommem_gym.commands.envs import Envs
from atommem_gym.commands.eval import Eval
from atommem_gym.commands.help import known_options, named_commands, page
from atommem_gym.commands.imports import find_modules, import_modules
from atommem_gym.commands.info import Info
from atommem_gym.commands.mcp import Mcp
from atommem_gym.commands.memory import MemoryCommand
from atommem_gym.commands.run import INTERRUPTED, Run
from atommem_gym.commands.traces.counterfactual import CounterfactualCommand
from atommem_gym.commands.traces.export import Export
from atommem_gym.commands.traces.replay import Replay
from atommem_gym.commands.traces.rescore import Rescore
from atommem_gym.commands.traces.view import View
from atommem_gym.errors import AtomMemError, nearest, suggestion
from atommem_gym.terminal import make_streams_encodable, printable
from atommem_gym.terminal.diversion import diverted_output
from atommem_gym.trust import command_line, masked, said_modules

FAILED = 2
"""Exit status of errors that this package raises on purpose, and of wrong command lines."""

Command: TypeAlias = (
    Annotated[Demo, subcommand("demo")]
    | Annotated[Run, subcommand("run")]
    | Annotated[Eval, subcommand("eval")]
    | Annotated[Compare, subcommand("compare")]
    | Annotated[Replay, subcommand("replay")]
    | Annotated[CounterfactualCommand, subcommand("counterfactual")]
    | Annotated[Rescore, subcommand("rescore")]
    | Annotated[Export, subcommand("export")]
    | Annotated[View, subcommand("view")]
    | Annotated[Ask, subcommand("ask")]
    | Annotated[MemoryCommand, subcommand("memory")]
    | Annotated[Mcp, subcommand("mcp")]
    | Annotated[Envs, subcommand("envs")]
    | Annotated[Data, subcommand("data")]
    | Annotated[Info, subcommand("info")]
)
COMMANDS: tuple[str, ...] = tuple(named_commands(Command))
READ_AS = (OmitArgPrefixes, OmitSubcommandPrefixes, CascadeSubcommandArgs)
"""How the command line is read."""
_QUIET = {"TRANSFORMERS_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
"""What keeps the lines and bars of other libraries out of ours; who sets them otherwise sees them."""
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")

_OF_THE_LIBRARY = (
    (re.compile(r"no type matching .* Got errors: .*- (?:<class '\w+'>|[\w.]+(?:\[.*?\])?): "), ""),
    (re.compile(r"\[/?bold\]"), ""),
    (
        re.compile(r"input length (\d+) did not match expected argument count (\d+) of `.*`"),
        r"it takes \2 values, not \1",
    ),
    (re.compile(r"\.? \(required\)"), ";"),
)
"""What the library that reads the command line says of itself, and what is said in its place."""


@dataclass
class CommandLine:
    """Reinforcement-learning environments for learnable agent memory. atommem --version prints the version."""

    command: Command
    imports: Annotated[tuple[str, ...], UseAppendAction, arg(name="import", metavar="MODULE")] = ()
    """Import this module first: it has tasks, agents or parts of your own. It may lie in the working directory."""
    trust: Annotated[tuple[str, ...], UseAppendAction, arg(metavar="URL|PATH")] = ()
    """A URL, folder or template that a plan, trace or database names and that you mean too: the URL is called and gets
    your key, the folder and the template are read."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``atommem`` with these arguments, by default the command line's, and return the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    make_streams_encodable()
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    if arguments[:1] == ["--version"]:
        print(f"atommem {__version__}")
        return 0
    if arguments and not arguments[0].startswith("-") and arguments[0] not in COMMANDS:
        meant = suggestion(arguments[0].lower(), COMMANDS)
        _say(f"unknown command {arguments[0]!r}; {meant} (`atommem --help` describes them)")
        return FAILED
    if not arguments or {"-h", "--help"} & set(arguments):
        (output() if arguments else messages()).print(page(CommandLine, arguments))
        return 0 if arguments else FAILED
    given = _read(arguments)
    if given is None:
        return FAILED
    try:
        with safe_warnings(), command_line(arguments, given.imports):
            if given.imports:
                # What they print is no result, and would spoil what another program reads.
                with diverted_output():
                    import_modules(given.imports)
            find_modules(said_modules())
            return given.command.run()
    except AtomMemError as error:
        _say(masked(str(error)))
        return FAILED
    except KeyboardInterrupt:
        messages().print(Text("interrupted", style="yellow"))
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever reads the output has seen enough (`atommem demo | head`); nothing is left to say at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _read(arguments: Sequence[str]) -> CommandLine | None:
    """What was typed; ``None`` if it is wrong, which is said."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), _no_wrapping():
            return tyro.cli(
                CommandLine,
                prog="atommem",
                args=arguments,
                config=READ_AS,
            )
    except SystemExit as stop:
        if stop.code in (None, 0):
            raise
        _say(wrong(arguments, unboxed(said.getvalue())))
        return None


@contextlib.contextmanager
def _no_wrapping() -> Iterator[None]:
    """What is said in the context is not wrapped: that is done by our own rules."""
    columns = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "10000"
    try:
        yield
    finally:
        os.environ.pop("COLUMNS")
        if columns is not None:
            os.environ["COLUMNS"] = columns


def wrong(arguments: Sequence[str], said: str) -> str:
    """What is wrong with a command line.

    Args:
        arguments: What was typed.
        said: What the library that reads it says.
    """
    path, known = known_options(CommandLine, arguments)
    typed = [one.partition("=")[0] for one in arguments if one.startswith("--") and one != "--"]
    unknown = [one for one in typed if one.replace("_", "-") not in known]
    if unknown:
        # The dashes, which all have, make nothing alike.
        long = {one[2:]: one for one in known if one.startswith("--")}
        meant = suggestion(unknown[0][2:], long, meant=long)
        return f"unknown option {unknown[0]} of `{path}`; {meant} (`{path} --help` tells more)"
    said = re.split("For full helptext|Argument helptext", said)[0]
    what = " ".join(said.replace("'command.", "'").split())
    for pattern, instead in _OF_THE_LIBRARY:
        what = pattern.sub(instead, what)
    return f"{_with_meant(what.rstrip(' .;'))} (`{path} --help` tells more)"


def _with_meant(what: str) -> str:
    """What the library says of a wrong value, with what was meant.

    >>> _with_meant("invalid choice 'lst' for argument 'action'. Expected one of ('ls', 'show')")
    "invalid choice 'lst' for argument 'action'; did you mean 'ls'? Expected one of ('ls', 'show')"
    >>> _with_meant("Error parsing --docs: Could not find valid parse for arguments: ['2O']")
    "--docs '2O' is no such value: it takes whole numbers; write for instance --docs 200"
    """
    choice = re.fullmatch(r"invalid choice '(.*?)'( for argument '.*?')\. Expected one of (\(.*\))", what)
    if choice is not None:
        given, where, listed = choice.groups()
        meant = _SYNONYMS.get(given) or nearest(given, re.findall(r"'([^']+)'", listed))
        said = f"; did you mean {meant!r}?" if meant is not None else "."
        return f"invalid choice {given!r}{where}{said} Expected one of {listed}"
    commands = re.fullmatch(r"Unrecognized options: (\S+?)(?:,.*)? Available subcommands: (.*)", what)
    if commands is not None:
        given, listed = commands.groups()
        return f"unknown subcommand {given!r}; {suggestion(given, listed.split(', '))}"
    number = re.fullmatch(r"Error parsing (--docs|--seeds): Could not find valid parse for arguments: \[(.*)\]", what)
    if number is not None:
        option, given = number.groups()
        example = {"--docs": "200", "--seeds": "0 1"}[option]
        return f"{option} {given} is no such value: it takes whole numbers; write for instance {option} {example}"
    return what


_SYNONYMS = {"list": "ls", "delete": "rm", "remove": "rm", "find": "search", "dump": "export"}
"""What other programs call an action."""


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


def _say(fault: str) -> None:
    first, _, rest = fault.partition("\n")
    messages().print(Text(f"error: {printable(first)}", style="bold red"))
    if rest:
        messages().print(Text(printable(rest)))


if __name__ == "__main__":
    sys.exit(main())
