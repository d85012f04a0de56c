"""The command ``atommem``: reads the command line, runs one subcommand, and turns errors into one red line."""

from __future__ import annotations

import contextlib
import io
import os
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
from atommem_gym.commands.help import named_commands, page
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
from atommem_gym.commands.wrong import lacks_value, unboxed, wrong
from atommem_gym.errors import AtomMemError, suggestion
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


@dataclass
class CommandLine:
    """Reinforcement-learning environments for learnable agent memory.

    Example: atommem demo

    Example: atommem run Synthetic --agent keep_all tidy

    Example: atommem --version
    """

    command: Command
    """The subcommand."""
    imports: Annotated[tuple[str, ...], UseAppendAction, arg(name="import", metavar="MODULE")] = ()
    """Import this module first: it holds tasks, agents or plug-ins of yours. It may lie in the working directory."""
    trust: Annotated[tuple[str, ...], UseAppendAction, arg(metavar="URL|PATH")] = ()
    """Allow a URL, folder or template that a plan, trace or database names: the URL is called with your key, the
    folder or template is read."""


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
    lacking = lacks_value(CommandLine, arguments)
    if lacking is not None:
        _say(lacking)
        return None
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
        _say(wrong(CommandLine, arguments, unboxed(said.getvalue())))
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


def _say(fault: str) -> None:
    first, _, rest = fault.partition("\n")
    messages().print(Text(f"error: {printable(first)}", style="bold red"))
    if rest:
        messages().print(Text(printable(rest)))


if __name__ == "__main__":
    sys.exit(main())
