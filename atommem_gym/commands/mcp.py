"""``atommem mcp``: a kept memory as tools of the Model Context Protocol, for an assistant that starts this command."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Annotated, Any

import tyro

from atommem_gym.bridges.mcp import HOLD_S, MemoryTools, serve
from atommem_gym.commands.ask.memory import find_memory
from atommem_gym.commands.run import Repeated, parse_settings
from atommem_gym.errors import ConfigError


@dataclass
class Mcp:
    """Give an assistant a memory: atommem mcp --memory notes.db [--read-only]

    Serves the tools look, create, read, update, delete and scratchpad over standard input and output, by the Model
    Context Protocol. An assistant starts this command itself; its settings name it. The memory goes on from one
    conversation to the next, and is the one that `atommem ask --memory` and `atommem memory` know.
    """

    memory: Annotated[str, tyro.conf.arg(metavar="DATABASE")]
    """The folder of the database (or http://host:19530); what is not there yet is made."""
    read_only: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Refuse all that would change the memory."""
    key: Annotated[str | None, tyro.conf.arg(metavar="KEY")] = None
    """Which memory to go on with, if the database keeps several; `atommem memory ls` lists them."""
    new_memory: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Begin another memory in the database, instead of going on with one."""
    settings: Annotated[Repeated, tyro.conf.UseAppendAction, tyro.conf.arg(name="set", metavar="KEY=VALUE…")] = ()
    """What the memory allows, such as embedder=minilm top_k=12 max_entries=1000."""
    hold: Annotated[float, tyro.conf.arg(metavar="SECONDS")] = HOLD_S
    """Seconds without a call after which other processes can use the database; 0 gives it back after every call."""

    def run(self) -> int:
        """Serve until the input ends; the exit status."""
        if not 0 <= self.hold < float("inf"):
            raise ConfigError(f"--hold {self.hold} must be a number of seconds from 0")
        if self.new_memory and (self.read_only or self.key is not None):
            other = "--read-only reads" if self.read_only else "--key goes on with"
            raise ConfigError(f"{other} a memory and --new-memory begins one; give one of the two")
        given = parse_settings(list(chain.from_iterable(self.settings)))
        serve(MemoryTools(lambda: self._found(given), given, read_only=self.read_only), self.hold)
        return 0

    def _found(self, given: Mapping[str, Any]) -> tuple[dict[str, Any], str | None]:
        """Where the memory is, as ``atommem ask`` finds it."""
        memory = find_memory(self.memory, self.key, new=self.new_memory, settings=given)
        return {**memory.keywords, **memory.embedding}, memory.key
