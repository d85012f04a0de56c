"""``atommem mcp``: a kept memory as tools of the Model Context Protocol, for an assistant that starts this command."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Annotated, Any

import tyro
from rich.text import Text

from atommem_gym.bridges.mcp import HOLD_S, MemoryTools, serve
from atommem_gym.commands.ask.memory import find_memory
from atommem_gym.commands.consoles import messages
from atommem_gym.commands.run import Repeated, parse_settings
from atommem_gym.errors import ConfigError
from atommem_gym.terminal import printable
from atommem_gym.trust import masked


@dataclass
class Mcp:
    """Give an assistant a kept memory as tools, by the Model Context Protocol.

    The tools are look, create, read, update, delete and scratchpad. The assistant starts this command itself, as its
    settings say, and talks to it over standard input and output. The memory stays from one conversation to the next;
    `atommem ask --memory` and `atommem memory` use the same databases.

    Example: atommem mcp --memory notes.db --read-only
    """

    memory: Annotated[str, tyro.conf.arg(metavar="DATABASE")]
    """The database, a folder or http://host:19530. A folder that is not there yet is made."""
    read_only: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Refuse everything that would change the memory."""
    key: Annotated[str | None, tyro.conf.arg(metavar="KEY")] = None
    """Which memory to continue, if the database keeps several; its beginning is enough. `atommem memory ls` lists
    them."""
    new_memory: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Begin a new memory in the database, instead of continuing one."""
    settings: Annotated[Repeated, tyro.conf.UseAppendAction, tyro.conf.arg(name="set", metavar="KEY=VALUE…")] = ()
    """Settings of the memory, such as embedder=minilm top_k=12 max_entries=1000."""
    hold: Annotated[float, tyro.conf.arg(metavar="SECONDS")] = HOLD_S
    """Seconds without a call after which other processes can use the database; 0 releases it after every call."""

    def run(self) -> int:
        """Serve until the input ends; the exit status."""
        if not 0 <= self.hold < float("inf"):
            raise ConfigError(f"--hold {self.hold} must be a number of seconds from 0")
        if self.new_memory and (self.read_only or self.key is not None):
            other = "--read-only reads" if self.read_only else "--key goes on with"
            raise ConfigError(f"{other} a memory and --new-memory begins one; give one of the two")
        given = parse_settings(list(chain.from_iterable(self.settings)))
        tools = MemoryTools(lambda: self._found(given), given, read_only=self.read_only)
        serve(tools, self.hold, self._say_what_it_waits_for)
        return 0

    def _say_what_it_waits_for(self) -> None:
        """Say it to a person, who would see nothing else; an assistant has a pipe."""
        if not sys.stdin.isatty():
            return
        line = (
            f"serving {printable(masked(self.memory))} over standard input and output; an assistant starts this, "
            "Ctrl-C ends it"
        )
        messages().print(Text(line), soft_wrap=True)

    def _found(self, given: Mapping[str, Any]) -> tuple[dict[str, Any], str | None]:
        """Where the memory is, as ``atommem ask`` finds it."""
        memory = find_memory(self.memory, self.key, new=self.new_memory, settings=given)
        return {**memory.keywords, **memory.embedding}, memory.key
