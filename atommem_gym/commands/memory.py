"""``atommem memory``: what a kept database remembers: looked at, saved, deleted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.text import Text

from atommem_gym.commands.consoles import messages, output, print_json
from atommem_gym.embedders.loading import embed_in_part
from atommem_gym.errors import ConfigError, counted
from atommem_gym.stores.kept import KeptDatabase, KeptMemory, chosen_key, embedder_of, listed_keys, open_kept
from atommem_gym.stores.purging import export_memory, purge
from atommem_gym.terminal import Column, Table, on_one_line, printable
from atommem_gym.trust import masked

TOP_K = 6
"""Entries that a search shows."""
_OF_ACTIONS = {
    "key": ("show", "search", "export", "rm", "purge"),
    "entry": ("rm",),
    "yes": ("purge",),
    "top_k": ("search",),
    "embedder": ("search",),
    "embedder_options": ("search",),
}
"""The actions that an option belongs to; purge says by itself why it takes no key."""


@dataclass
class MemoryCommand:
    """Look into a kept memory, search it, export it or delete it.

    ls lists the memories of a database. show prints all entries of one. search finds the entries most similar to a
    query, ranked as a read of the environment ranks them. export prints all memories, or one, as JSON, even from a
    damaged database. These actions never change the database.

    rm deletes the memory that --key names, or with --entry one entry of it. purge deletes all memories. What is
    deleted is gone from the disk.

    Example: atommem memory ls notes.db

    Example: atommem memory search notes.db "Who decided it?"

    Example: atommem memory rm notes.db --key 4d35 --entry 7
    """

    action: Annotated[Literal["ls", "show", "search", "export", "rm", "purge"], tyro.conf.Positional]
    """What to do."""
    database: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATABASE")]
    """A kept database: the folder that `atommem ask --memory` or store=milvus:///… made, or http://host:19530."""
    query: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[QUERY]")] = None
    """For search: the query."""
    key: Annotated[str | None, tyro.conf.arg(metavar="KEY")] = None
    """Which memory, if the database keeps several; its beginning is enough. `atommem memory ls` lists them. rm always
    needs it."""
    entry: Annotated[int | None, tyro.conf.arg(metavar="ID")] = None
    """For rm: delete only this entry."""
    yes: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """For purge: really delete all memories."""
    top_k: Annotated[int, tyro.conf.arg(metavar="K")] = TOP_K
    """For search: how many entries to show."""
    embedder: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """For search: the URL of the embedder that the database was written with, if it is a model on a server."""
    embedder_options: Annotated[str | None, tyro.conf.arg(metavar="JSON")] = None
    """For search: settings of that embedder which the database does not record, such as '{"dimensions": 256}'."""
    as_json: Annotated[bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(name="json")] = False
    """Print JSON instead of text."""

    def run(self) -> int:
        """Print what was asked for; the exit status."""
        if self.action == "search" and not (self.query or "").strip():
            raise ConfigError('no QUERY given; write what to look for, as in: atommem memory search notes.db "bridge"')
        if self.action != "search" and self.query is not None:
            raise ConfigError(
                f"memory {self.action} takes no query, but {self.query!r} was given; did you mean search?"
            )
        if self.top_k < 1:
            raise ConfigError(f"--top-k {self.top_k} must be at least 1")
        for one in fields(self):
            actions = _OF_ACTIONS.get(one.name, (self.action,))
            if self.action not in actions and getattr(self, one.name) != one.default:
                option = f"--{one.name.replace('_', '-')}"
                raise ConfigError(f"memory {self.action} takes no {option}, which belongs to {', '.join(actions)}")
        console = output()
        if self.action == "export":
            print_json(self._exported())
            return 0
        if self.action in ("rm", "purge"):
            self._print(console, *self._deleted())
            return 0
        with open_kept(self.database) as database:
            if self.action == "ls":
                self._print(console, *_listing(database))
                return 0
            memory = database.memory(database.chosen(self.key))
            if self.action == "show":
                self._print(console, *_contents(memory))
            else:
                assert self.query is not None
                embedder = embedder_of(database, self.embedder, self._options())
                hits = memory.search(self.query, embedder, self.top_k)
                for read in embed_in_part(embedder, [self.query], "query").in_part.values():
                    note = f"note: the embedder read the first {read} of the query's {len(self.query)} characters"
                    messages().print(Text(note, style="yellow"), soft_wrap=True)
                self._print(console, *_found(memory, self.query, hits))
        return 0

    def _options(self) -> Mapping[str, Any] | None:
        if self.embedder_options is None:
            return None
        try:
            options = json.loads(self.embedder_options)
        except (ValueError, RecursionError) as error:
            raise ConfigError(
                f"--embedder-options {self.embedder_options!r} is no JSON; write for instance "
                "--embedder-options '{\"dimensions\": 256}'"
            ) from error
        if not isinstance(options, dict):
            raise ConfigError(
                f"--embedder-options {self.embedder_options} is no JSON object; write for instance "
                "--embedder-options '{\"dimensions\": 256}'"
            )
        return options

    def _exported(self) -> list[dict[str, Any]]:
        memories = export_memory(self.database)
        if self.key is None:
            return memories
        # The database may be damaged, so that it cannot be opened to choose among its keys.
        key = chosen_key(masked(self.database), [one["key"] for one in memories], self.key)
        return [one for one in memories if one["key"] == key]

    def _deleted(self) -> tuple[Any, ...]:
        if self.action == "purge":
            if self.key is not None:
                raise ConfigError(f"purge deletes all memories; to delete one: memory rm {self.database} --key KEY")
            if not self.yes:
                with open_kept(self.database) as database:
                    n = len(database.list_keys())
                raise ConfigError(
                    f"purge deletes {counted(n, 'memory', 'memories')} of {self.database} for good; add --yes to do so"
                )
            n = purge(self.database)
            return {"deleted": n}, Text(
                f"{counted(n, 'memory is', 'memories are')} deleted from {masked(self.database)}"
            )
        with open_kept(self.database) as database:
            # The only memory is not taken for the one that is meant, nor is an empty --key "$KEY".
            if not self.key and (keys := database.list_keys()):
                entry = "" if self.entry is None else f" --entry {self.entry}"
                raise ConfigError(
                    f"rm deletes for good, so it needs --key; {masked(self.database)} keeps "
                    f"{counted(len(keys), 'memory', 'memories')}, {listed_keys(keys)}; write "
                    f"atommem memory rm {masked(self.database)} --key {keys[0] if len(keys) == 1 else 'KEY'}{entry}"
                )
            key = database.chosen(self.key)
        purge(self.database, key, self.entry)
        what = f"memory {key}" if self.entry is None else f"entry {self.entry} of memory {key}"
        return {"deleted": 1, "key": key, "entry": self.entry}, Text(f"{what} is deleted")

    def _print(self, console: Console, value: Any, *lines: Text | Table) -> None:
        if self.as_json:
            print_json(value)
            return
        for line in lines:
            console.print(line, soft_wrap=isinstance(line, Text))


def _listing(database: KeptDatabase) -> tuple[Any, ...]:
    memories = [database.memory(key) for key in database.list_keys()]
    changed = None if database.changed is None else database.changed.isoformat(timespec="seconds")
    value = {
        "database": masked(database.where),
        "embedder": database.embedder,
        "dim": database.dim,
        "changed": changed,
        "memories": [
            {
                "key": memory.key,
                "entries": len(memory.entries),
                "next_id": memory.next_id,
                "scratchpad_characters": len(memory.scratchpad),
                "characters": sum(map(len, memory.stored.texts)),
            }
            for memory in memories
        ],
    }
    head = f"{masked(database.where)}: embedder {database.embedder}" + (f", last changed {changed}" if changed else "")
    table = Table(
        [
            Column("key"),
            Column("entries", "right"),
            Column("ids given", "right", leave_out=4),
            Column("characters", "right", leave_out=1),
            Column("scratchpad", "right", leave_out=2),
            Column("first entry", kind="line", leave_out=3),  # by which a person knows a memory
        ],
        title=head,
    )
    for memory in memories:
        first = next(iter(memory.entries.values()), "")
        table.add_row(
            memory.key,
            f"{len(memory.entries):,}",
            f"{memory.next_id - 1:,}",
            f"{sum(map(len, memory.stored.texts)):,}",
            f"{len(memory.scratchpad):,}",
            on_one_line(first),
        )
    return value, table


def _contents(memory: KeptMemory) -> tuple[Any, ...]:
    value = {
        "key": memory.key,
        "embedder": memory.embedder,
        "next_id": memory.next_id,
        "scratchpad": memory.scratchpad,
        "entries": [{"id": i, "text": text} for i, text in memory.entries.items()],
    }
    lines = [Text(f"memory {memory.key}: {counted(len(memory.entries), 'entry', 'entries')}", style="bold")]
    if memory.scratchpad:
        lines.append(Text.assemble(("scratchpad\n", "bold magenta"), printable(memory.scratchpad)))
    lines += [Text.assemble((f"[{i}] ", "bold green"), printable(text)) for i, text in memory.entries.items()]
    return value, *lines


def _found(memory: KeptMemory, query: str, hits: list[tuple[int, float, str]]) -> tuple[Any, ...]:
    value = {
        "key": memory.key,
        "query": query,
        "hits": [{"id": i, "score": score, "text": text} for i, score, text in hits],
    }
    lines = [
        Text.assemble((f"[{i}] ", "bold green"), (f"{score:+.3f} ", "blue"), printable(text)) for i, score, text in hits
    ]
    return value, *(lines or [Text("the memory has no entries", style="yellow")])
