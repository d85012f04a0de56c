"""Serves the operations on a kept memory as tools of the Model Context Protocol, for any assistant.

An assistant acts as a policy does, in an environment of dialect ``tools`` without documents whose one question is never
answered. So all rules of memory (ids, limits, cuts, the results of a read) are those of the environment.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TextIO

from atommem_gym import __version__
from atommem_gym.actions import Kind
from atommem_gym.envs import AtomMemEnv
from atommem_gym.errors import AtomMemError, ConfigError, StoreLockedError, suggestion
from atommem_gym.records.own_files import OwnItems
from atommem_gym.step import CUTS
from atommem_gym.stores.kept import is_server, writable_copy
from atommem_gym.terminal.diversion import diverted_output
from atommem_gym.trust import masked

logger = logging.getLogger(__name__)

HOLD_S = 10.0
"""Seconds without a call after which the database is closed, so that other processes can use it."""
SETTINGS = (
    "embedder",
    "embedder_options",
    "top_k",
    "operations",
    "scratchpad",
    "tokenizer",
    "max_entry_tokens",
    "max_scratchpad_tokens",
    "max_entries",
    "max_memory_tokens",
)
"""The keyword arguments of an environment that apply to a memory alone."""
LOOK = "look"
"""The tool that is not an operation: it shows the scratchpad."""

_LARGEST = 2**31 - 2
# The question stays open, so reads and steps have no limit; one character of a text may take six in JSON.
_OPEN_END: dict[str, Any] = {
    "dialect": "tools",
    "max_steps": _LARGEST,
    "max_reads_per_question": _LARGEST,
    "max_action_chars": _LARGEST,
    "thinking": ("<think>", "</think>"),
}
_TEXT = {"type": "string", "description": "The text, understandable on its own."}
_ID = {"type": "integer", "description": "The id of the entry, as `create` and `read` tell it."}
_ARGUMENTS: dict[str, dict[str, dict[str, str]]] = {
    LOOK: {},
    "create": {"text": _TEXT},
    "read": {"query": {"type": "string", "description": "What to look for."}},
    "update": {"id": _ID, "text": _TEXT},
    "delete": {"id": _ID},
    "scratchpad": {"text": {"type": "string", "description": "The whole new scratchpad."}},
}
"""Arguments by tool; the names are those of the dialect ``tools``."""
_DESCRIPTIONS = {
    LOOK: "Show the scratchpad and how many entries long-term memory holds. Call it first.",
    "create": "Store a new entry in long-term memory; answers its id.",
    "read": "Search long-term memory: the most similar entries, best first, with ids and cosine similarities.",
    "update": "Replace the text of an entry; its id stays the same.",
    "delete": "Remove an entry for good.",
    "scratchpad": "Replace the scratchpad, a short note that every answer of this server shows.",
}
_REMEDIES = {
    "empty": "give it as a string that is not empty",
    "bad_id": "`read` and `create` tell the ids of entries",
    "bad_json": 'give it as a string, such as {"text": "Ada keeps bees."}',
    "unknown_id": "`read` shows entries with their ids",
    "memory_full": "update or delete an entry first",
}
"""The remedy by the reason of a rejection."""
_INSTRUCTIONS = (
    "A long-term memory that outlives this conversation. `look` shows its scratchpad, `read` searches its entries; "
    "store what will be needed later with `create`, correct it with `update`, and `delete` what no longer holds."
)


class RefusedCallError(AtomMemError, ValueError):
    """A call of a tool cannot be carried out as it is; nothing has changed."""


class MemoryTools:
    """The tools on one kept memory, without the protocol. Not thread-safe: call it from one thread.

    The first call opens the database, which stays open, and therefore locked, until :meth:`give_back`. The next call
    opens it again and continues with the same memory.

    Args:
        find: Returns where the memory is: keyword arguments of the environment (``store`` among them) and the key,
            ``None`` for a new memory. Called until there is a key.
        settings: Further keyword arguments, from ``SETTINGS``.
        read_only: Refuse every call that would change the memory. A folder is then read from a copy, so that it is
            locked only while it is copied.

    Raises:
        ConfigError: a setting is not one of ``SETTINGS``.
    """

    def __init__(
        self,
        find: Callable[[], tuple[Mapping[str, Any], str | None]],
        settings: Mapping[str, Any] | None = None,
        *,
        read_only: bool = False,
    ) -> None:
        self._settings = dict(settings or {})
        for name in self._settings:
            if name not in SETTINGS:
                raise ConfigError(
                    f"the setting {name}={self._settings[name]!r} means nothing for a memory alone; "
                    f"{suggestion(name, SETTINGS)}"
                )
        self._find = find
        self._read_only = read_only
        self._keywords: Mapping[str, Any] | None = None
        self._key: str | None = None
        self._env: AtomMemEnv | None = None
        self._open = contextlib.ExitStack()

    def names(self) -> list[str]:
        """The names of the tools; before the first :meth:`open` all that the memory may have."""
        kinds: tuple[Kind, ...] = ("create", "read", "update", "delete", "scratchpad")
        if self._read_only:
            kinds = ("read",)
        known = kinds if self._env is None else self._env.config.kinds
        return [LOOK, *(kind for kind in kinds if kind in known)]

    def schema(self, name: str) -> dict[str, Any]:
        """The JSON schema of a tool's arguments."""
        arguments = _ARGUMENTS[name]
        return {
            "type": "object",
            "properties": arguments,
            "required": list(arguments),
            "additionalProperties": False,
        }

    def call(self, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Carry out one call; its changes are on disk when this returns.

        Args:
            name: Name of a tool.
            arguments: Its arguments, by :meth:`schema`.

        Returns:
            The answer as JSON values: the entry's id or the memories found, the number of entries, the scratchpad, and
            notes on cuts, if any.

        Raises:
            RefusedCallError: there is no such tool, its arguments are wrong, or the operation was rejected.
            AtomMemError: the memory cannot be opened, or the store or embedder failed; nothing has changed.
        """
        self._check(name, arguments)
        self.open()
        assert self._env is not None
        observation, _, _, _, info = self._env.step("" if name == LOOK else _action(name, arguments))
        notes = []
        for outcome in self._env.episode.outcomes:
            for report in outcome.reports:
                if report.reason not in CUTS:
                    remedy = _REMEDIES.get(report.reason)
                    said = f"{name} is rejected: {report.reason}: {report.detail}"
                    if report.reason == "bad_id" and "id" in arguments:
                        said += f" (given: {arguments['id']!r:.40})"
                    raise RefusedCallError(f"{said}; {remedy}" if remedy else said)
                notes.append(f"{report.reason}: {report.detail}")
        answer: dict[str, Any] = {}
        if name in ("create", "update", "delete"):
            answer["id"] = self._env.episode.outcomes[0].entry_id
        if name == "read":
            answer["memories"] = [{**entry, "score": float(entry["score"])} for entry in observation["memories"]]
        if name == LOOK:
            answer["key"] = self._key
        answer |= {"entries": info["entries"], "scratchpad": observation["scratchpad"]}
        return {**answer, "notes": notes} if notes else answer

    def open(self) -> None:
        """Open the database, unless it is open; without a key a new memory begins.

        Raises:
            StoreLockedError: another process is using the database.
            ConfigError, StoreError: there is no such memory, or it exceeds a limit.
        """
        known: frozenset[str] = frozenset()
        while self._env is None:
            # Another assistant may have begun the new memory meanwhile.
            if self._keywords is None or self._key is None:
                self._keywords, self._key = self._find()
            if self._read_only and self._key is None:
                raise ConfigError(f"there is no memory to read in {self._where()}; leave --read-only out to begin one")
            known = self._try_to_open(self._keywords, known)

    def _try_to_open(self, keywords: Mapping[str, Any], known: frozenset[str]) -> frozenset[str]:
        """Open the database, unless it needs a new memory and has memories that are not ``known``; return those it has.

        Since it was searched the database has not been locked, so another process may have added memories. From here on
        it is locked.
        """
        keywords = dict(keywords)
        with contextlib.ExitStack() as opened:
            if self._read_only and not is_server(self._where()):
                keywords["store"] = f"milvus://{opened.enter_context(writable_copy(self._where()))}"
            env = AtomMemEnv(items=OwnItems([], ["?"]), **_OPEN_END, **self._settings, **keywords)
            opened.callback(env.close)
            if self._key is None:
                assert env._backend.store is not None
                there = frozenset(env._backend.store.episodes())
                if there - known:
                    return there
            env.reset(seed=0, options={} if self._key is None else {"memory": self._key})
            env.step("")
            self._key = env.memory_key
            self._env = env
            self._open = opened.pop_all()
        return known

    def give_back(self) -> None:
        """Close the database, so that other processes can use it; a second call does nothing."""
        self._env = None
        self._open.close()

    def _where(self) -> str:
        assert self._keywords is not None
        return str(self._keywords["store"])

    def _check(self, name: str, arguments: Mapping[str, Any]) -> None:
        if self._read_only and name in _ARGUMENTS and name not in self.names():
            raise RefusedCallError(
                f"{name} is refused: this memory is served with --read-only; start the server without it to write"
            )
        if name not in _ARGUMENTS:
            raise RefusedCallError(f"there is no tool {name[:40]!r}; {suggestion(name, self.names())}")
        known = _ARGUMENTS[name]
        for other in arguments:
            if other not in known:
                takes = f"takes {' and '.join(map(repr, known))} alone" if known else "takes no arguments"
                raise RefusedCallError(f"{name} is rejected: it knows no argument {other[:40]!r}; it {takes}")


def _action(name: str, arguments: Mapping[str, Any]) -> str:
    """A call as action text; its JSON holds no tag, whatever the texts contain."""
    body = json.dumps({"name": name, "arguments": dict(arguments)}).replace("<", "\\u003c")
    return f"<tool_call>{body}</tool_call>"


def serve(tools: MemoryTools, hold_s: float = HOLD_S, ready: Callable[[], None] = lambda: None) -> None:
    """Serve the tools over standard input and output until the input ends.

    Args:
        tools: The tools on the memory.
        hold_s: Seconds without a call after which the database is closed, so that other processes can use it.
        ready: Called once, when the memory has been opened and calls are waited for.

    Raises:
        ConfigError: the package ``mcp`` is missing.
        AtomMemError: the memory cannot be opened. A database that another process uses is not an error here.
    """
    try:
        import mcp.server.stdio  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"atommem mcp needs the package mcp ({error}): pip install 'atommem-gym[mcp]'") from error
    # From here on custom code, which is imported when the memory is opened, may print.
    with diverted_output() as output:
        asyncio.run(_Server(tools, hold_s, output).run(ready))


class _Server:
    """The server of the protocol. One thread opens, steps and closes the environment, in the order of the calls."""

    def __init__(self, tools: MemoryTools, hold_s: float, output: TextIO) -> None:
        self._tools = tools
        self._hold_s = hold_s
        self._output = output
        self._thread = ThreadPoolExecutor(1, "memory")
        self._idle: asyncio.TimerHandle | None = None
        self._calls = 0

    async def run(self, ready: Callable[[], None]) -> None:
        import anyio
        from mcp.server.lowlevel import Server
        from mcp.server.stdio import stdio_server

        server = Server(
            "atommem",
            version=__version__,
            instructions=_INSTRUCTIONS,
            on_list_tools=self._list,
            on_call_tool=self._call,
        )
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(NotImplementedError):  # Windows has no such handlers
                loop.add_signal_handler(number, self._leave, number)
        try:
            try:
                await self._in_thread(self._tools.open)
            except StoreLockedError as error:
                # The other process may close it before the first call.
                logger.warning("%s", error)
            ready()
            async with stdio_server(stdout=anyio.wrap_file(self._output)) as (read, write):
                await server.run(read, write, server.create_initialization_options())
        finally:
            if self._idle is not None:
                self._idle.cancel()
            self._thread.submit(self._tools.give_back).result()
            self._thread.shutdown()

    def _leave(self, number: int) -> None:
        """Close the database and exit at once: the thread that reads the input cannot be stopped."""
        self._thread.submit(self._tools.give_back).result()
        os._exit(128 + number)

    async def _list(self, context: Any, params: Any) -> Any:
        import mcp_types as types

        names = await asyncio.get_running_loop().run_in_executor(self._thread, self._tools.names)
        reads = (LOOK, "read")
        return types.ListToolsResult(
            tools=[
                types.Tool(
                    name=name,
                    description=_DESCRIPTIONS[name],
                    input_schema=self._tools.schema(name),
                    annotations=types.ToolAnnotations(
                        read_only_hint=name in reads,
                        destructive_hint=name not in (*reads, "create"),
                        open_world_hint=False,
                    ),
                )
                for name in names
            ]
        )

    async def _call(self, context: Any, params: Any) -> Any:
        import mcp_types as types

        try:
            answer = await self._in_thread(self._tools.call, params.name, params.arguments or {})
        except AtomMemError as error:
            return types.CallToolResult(content=[types.TextContent(text=masked(str(error)))], is_error=True)
        except Exception as error:
            # Custom code raised, or this is a bug; the protocol's library would show the whole error.
            logger.error("%s raised\n%s", params.name[:40], masked(traceback.format_exc()))
            said = f"{params.name[:40]} failed, {type(error).__name__}: {error}; the server's log tells more"
            return types.CallToolResult(content=[types.TextContent(text=masked(said))], is_error=True)
        text = json.dumps(answer, ensure_ascii=False)
        return types.CallToolResult(content=[types.TextContent(text=text)], structured_content=answer)

    async def _in_thread(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """Carry out a call after earlier ones; when none is left, the timer that closes the database starts."""
        loop = asyncio.get_running_loop()
        if self._idle is not None:
            self._idle.cancel()
        self._calls += 1
        try:
            return await loop.run_in_executor(self._thread, call, *arguments)
        finally:
            self._calls -= 1
            if not self._calls:
                self._idle = loop.call_later(self._hold_s, self._thread.submit, self._tools.give_back)
