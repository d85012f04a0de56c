"""``atommem memory``: what a kept database remembers: looked at, saved, deleted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.text import Text

from atommem_gym.commands.consoles import messages, output, print_json
from atommem_gym.embedders.loading import embed_in_part
from atommem_gym.errors import ConfigError, counted
from atommem_gym.stores.kept import KeptDatabase, KeptMemory, embedder_of, open_kept
from atommem_gym.stores.purging import export_memory, purge
from atommem_gym.terminal import Column, Table, on_one_line, printable
from atommem_gym.trust import masked


@dataclass
class MemoryCommand:
    """Look into a kept memory, or delete it: atommem memory ls|show|search|export|rm|purge notes.db

    ls lists the memories of a database, show prints all entries of one, search finds those most like a query, ranked as
    a read of the environment ranks them. export prints all memories, or one, as JSON, also out of a damaged database.
    These never change it. rm deletes one memory, or with --entry one entry of it; purge deletes all. What was deleted
    is gone from the disk.
    """

    action: Annotated[Literal["ls", "show", "search", "export", "rm", "purge"], tyro.conf.Positional]
    """What to do."""
    database: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATABASE")]
    """The folder of a kept database (what `atommem ask --memory` or store=milvus:///… made), or http://host:19530."""
    query: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[QUERY]")] = None
    """For search: what to look for."""
    key: Annotated[str | None, tyro.conf.arg(metavar="KEY")] = None
    """Which memory, if there are several; its beginning is enough."""
    entry: Annotated[int | None, tyro.conf.arg(metavar="ID")] = None
    """For rm: delete this entry alone."""
    yes: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """For purge: really delete all memories."""
    top_k: Annotated[int, tyro.conf.arg(metavar="K")] = 6
    """For search: how many entries to show."""
    embedder: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """For search: where the embedder is that the database was written with, if that was a model behind a server."""
    embedder_options: Annotated[str | None, tyro.conf.arg(metavar="JSON")] = None
    """For search: settings of that embedder which the database does not tell, such as '{"instruction": "query: "}'."""
    json: bool = False
    """Print JSON."""

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
        if self.entry is not None and self.action != "rm":
            raise ConfigError(f"memory {self.action} takes no --entry; rm deletes one")
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
            raise ConfigError(f"--embedder-options {self.embedder_options} is no JSON: {error}") from None
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
        found = [one for one in memories if one["key"] == self.key] or [
            one for one in memories if one["key"].startswith(self.key)
        ]
        if len(found) != 1:
            raise ConfigError(
                f"--key {self.key!r} fits {len(found)} of {len(memories)} memories in {self.database}; name another: "
                + ", ".join(one["key"] for one in memories[:8])
            )
        return found

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
            key = database.chosen(self.key)
        purge(self.database, key, self.entry)
        what = f"memory {key}" if self.entry is None else f"entry {self.entry} of memory {key}"
        return {"deleted": 1, "key": key, "entry": self.entry}, Text(f"{what} is deleted")

    def _print(self, console: Console, value: Any, *lines: Text | Table) -> None:
        if self.json:
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
            Column("ids given", "right", leave_out=3),
            Column("characters", "right", leave_out=1),
            Column("scratchpad", "right", leave_out=2),
            Column("first entry", kind="line", leave_out=4),
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
