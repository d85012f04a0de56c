"""``atommem mcp`` and a real client of the protocol: as an assistant starts it, over standard input and output."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from support.conformance import PAGE, require

from atommem_gym.envs import AtomMemEnv
from atommem_gym.errors import StoreLockedError
from atommem_gym.records.own_files import OwnItems
from atommem_gym.stores.kept import open_kept

require("mcp", "mcp")

from mcp import Client  # noqa: E402
from mcp.client.stdio import StdioServerParameters  # noqa: E402

(SETTINGS,) = json.loads(re.findall(r"```json\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[0])[
    "mcpServers"
].values()
COMMAND = [str(Path(sys.executable).with_name(SETTINGS["command"])), SETTINGS["args"][0]]
"""What an assistant starts, by the settings in docs/use_from.md."""
STARTED_S = 120.0
"""Patience with a busy machine; no test judges a time."""


HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "0"},
    },
}


@pytest.fixture
def where(tmp_path: Path) -> Path:
    return tmp_path / "notes.db"


@contextlib.asynccontextmanager
async def assistant(where: Path, *arguments: str) -> AsyncIterator[Client]:
    """A client and the server that it starts."""
    server = StdioServerParameters(command=COMMAND[0], args=[*COMMAND[1:], "--memory", str(where), *arguments])
    async with Client(server, read_timeout_seconds=STARTED_S) as client:
        yield client


async def told(client: Client, name: str, **arguments: Any) -> dict[str, Any]:
    """What a tool answers, as a program and as a model read it."""
    result = await client.call_tool(name, arguments)
    assert not result.is_error, result.content
    assert json.loads(result.content[0].text) == result.structured_content
    return result.structured_content


async def refused(client: Client, name: str, **arguments: Any) -> str:
    result = await client.call_tool(name, arguments)
    assert result.is_error
    assert result.structured_content is None
    return result.content[0].text


def entries(where: Path) -> dict[int, str]:
    with open_kept(str(where)) as database:
        return database.memory(database.chosen(None)).entries


async def until(holds: Callable[[], bool]) -> None:
    """Wait for what another process is about to do."""
    end = time.monotonic() + STARTED_S
    while not holds():
        assert time.monotonic() < end
        await asyncio.sleep(0.02)


def free(where: Path) -> bool:
    try:
        with open_kept(str(where)):
            return True
    except StoreLockedError:
        return False


def test_the_settings_of_the_page_are_those_that_are_tried() -> None:
    assert SETTINGS == {"command": "atommem", "args": ["mcp", "--memory", "/path/to/notes.db"]}


def test_an_assistant_uses_every_tool_and_the_memory_outlives_it(where: Path) -> None:
    async def first() -> dict[str, Any]:
        async with assistant(where) as client:
            assert client.server_info.name == "atommem"
            tools = {tool.name: tool for tool in (await client.list_tools()).tools}
            assert list(tools) == ["look", "create", "read", "update", "delete", "scratchpad"]
            assert [name for name, tool in tools.items() if tool.annotations.read_only_hint] == ["look", "read"]
            assert tools["update"].input_schema["required"] == ["id", "text"]
            assert (await told(client, "create", text="Ada keeps bees."))["id"] == 1
            # Several calls at a time are carried out one after the other.
            made = await asyncio.gather(*(told(client, "create", text=f"fact {i}") for i in range(20)))
            assert sorted(answer["id"] for answer in made) == list(range(2, 22))
            found = await told(client, "read", query="Ada bees")
            assert found["memories"][0]["text"] == "Ada keeps bees."
            assert len(found["memories"]) == 6
            await told(client, "update", id=1, text="Ada </tool_call> kept bees 🐝")
            await told(client, "delete", id=2)
            await told(client, "scratchpad", text="who: Ada")
            assert "unknown_id" in await refused(client, "delete", id=2)
            assert "it takes 'text' alone" in await refused(client, "create", text="x", tags=["y"])
            assert "did you mean 'create'" in await refused(client, "creat", text="x")
            assert "bad_json" in await refused(client, "create", text=7)
            # Another process is refused as long as the memory is held.
            assert not free(where)
            return await told(client, "look")

    async def next_day() -> dict[str, Any]:
        async with assistant(where, "--set", "top_k=1") as client:
            found = await told(client, "read", query="Ada bees")
            assert [entry["text"] for entry in found["memories"]] == ["Ada </tool_call> kept bees 🐝"]
            return await told(client, "look")

    look = asyncio.run(first())
    assert (look["entries"], look["scratchpad"]) == (20, "who: Ada")
    kept = entries(where)
    assert kept[1] == "Ada </tool_call> kept bees 🐝"
    assert 2 not in kept
    assert asyncio.run(next_day()) == look


def test_two_assistants_share_a_memory_that_each_gives_back(where: Path) -> None:
    async def play() -> None:
        async with assistant(where, "--hold", "0") as one:
            key = (await told(one, "look"))["key"]
            await until(lambda: free(where))
            async with (
                assistant(where, "--hold", "0") as other,
                assistant(where, "--read-only", "--hold", "0") as reader,
            ):
                await until(lambda: free(where))
                assert [tool.name for tool in (await reader.list_tools()).tools] == ["look", "read"]
                assert (await told(one, "create", text="Ada keeps bees."))["id"] == 1
                await until(lambda: free(where))
                assert (await told(other, "create", text="Rain in Bern."))["id"] == 2
                await until(lambda: free(where))
                assert (await told(one, "look"))["entries"] == 2
                await until(lambda: free(where))
                assert (await told(reader, "look")) == {"key": key, "entries": 2, "scratchpad": ""}
                said = await refused(reader, "create", text="x")
                assert "create is refused" in said
                assert "--read-only; start the server without it" in said
                await until(lambda: free(where))
                # Held by somebody else: the call says so, and the next one, when that is done, succeeds.
                env = AtomMemEnv(items=OwnItems([], ["?"]), store=f"milvus://{where}")
                try:
                    env.reset(options={"memory": key})
                    for client in (one, other, reader):
                        assert "held by another process; one process may use it at a time" in await refused(
                            client, "look"
                        )
                finally:
                    env.close()
                assert (await told(one, "look"))["entries"] == 2

    asyncio.run(play())
    assert entries(where) == {1: "Ada keeps bees.", 2: "Rain in Bern."}


def test_a_server_that_is_killed_loses_nothing_that_it_acknowledged(where: Path, tmp_path: Path) -> None:
    acknowledged: dict[int, str] = {}
    pid = tmp_path / "pid"

    async def create(client: Client, text: str) -> None:
        result = await client.call_tool("create", {"text": text})
        if not result.is_error:
            acknowledged[result.structured_content["id"]] = text

    async def play() -> None:
        script = f'echo $$ > "{pid}"; exec "$@"'
        server = StdioServerParameters(
            command="/bin/sh", args=["-c", script, "sh", *COMMAND, "--memory", str(where), "--hold", "3600"]
        )
        async with Client(server, read_timeout_seconds=STARTED_S) as client:
            await create(client, "first")
            calls = [asyncio.create_task(create(client, f"fact {i}")) for i in range(200)]
            await until(lambda: len(acknowledged) > 20)
            os.kill(int(pid.read_text()), signal.SIGKILL)
            await asyncio.gather(*calls, return_exceptions=True)

    with contextlib.suppress(Exception):  # the client finds its server gone while it closes
        asyncio.run(play())
    assert 20 < len(acknowledged) < 201
    kept = entries(where)
    assert {number: kept.get(number) for number in acknowledged} == acknowledged

    async def go_on() -> None:
        async with assistant(where) as client:
            assert (await told(client, "look"))["entries"] == len(kept)
            assert (await told(client, "create", text="after"))["id"] == max(kept) + 1

    asyncio.run(go_on())


def test_a_server_that_is_interrupted_closes_its_database(where: Path, tmp_path: Path) -> None:
    env = {**os.environ, "TMPDIR": str(tmp_path / "temporary")}
    (tmp_path / "temporary").mkdir()
    env_of_memory = AtomMemEnv(items=OwnItems([], ["?"]), store=f"milvus://{where}")
    env_of_memory.reset()
    env_of_memory.close()
    # With --read-only it has a copy, which must not be left behind either.
    command = [*COMMAND, "--memory", str(where), "--read-only"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(HELLO) + "\n")
    process.stdin.flush()
    assert json.loads(process.stdout.readline())["id"] == 1
    assert any((tmp_path / "temporary").iterdir())
    process.send_signal(signal.SIGINT)
    assert process.wait(STARTED_S) == 130
    assert list((tmp_path / "temporary").iterdir()) == []
    process.stdin.close()
    process.stdout.close()


def test_standard_output_holds_the_protocol_and_nothing_else(where: Path) -> None:
    ready = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    call = {
        "jsonrpc": "2.0",
        "id": 2,
        "method": "tools/call",
        "params": {"name": "create", "arguments": {"text": "Ada keeps bees."}},
    }
    # The protocol's library passes over what is no message: no JSON, or JSON of half a character.
    half = json.dumps(call).replace("Ada", "\\ud800")
    lines = [json.dumps(HELLO), json.dumps(ready), "this is no JSON", half, json.dumps(call)]
    process = subprocess.Popen(
        [*COMMAND, "--memory", str(where)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("".join(f"{line}\n" for line in lines))
    process.stdin.flush()
    said = []
    while not said or said[-1].get("id") != 2:
        said.append(json.loads(process.stdout.readline()))
    rest, _ = process.communicate(timeout=STARTED_S)
    assert rest == ""
    assert process.returncode == 0
    assert {message["jsonrpc"] for message in said} == {"2.0"}
    assert said[-1]["result"]["structuredContent"]["id"] == 1
    assert entries(where) == {1: "Ada keeps bees."}


LOUD = """
import os
import numpy as np

print("LOUD import")
os.write(1, b"LOUD import by a library\\n")


class Loud:
    name, dim = "loud", 8

    def __init__(self):
        print("LOUD beginning", flush=True)

    def embed(self, texts, kind="document"):
        print("LOUD call")
        if any("boom" in text for text in texts):
            raise RuntimeError("no http://u:hunter2@host/v1 for you")
        return np.ones((len(texts), 8), np.float32) / 8**0.5
"""


def conversation(where: Path, folder: Path, *arguments: str, calls: list[dict[str, Any]]) -> tuple[list[str], str]:
    """What a server with an embedder of one's own writes to standard output and to standard error."""
    (folder / "loud.py").write_text(LOUD)
    ready = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    process = subprocess.Popen(
        [COMMAND[0], *arguments, *COMMAND[1:], "--memory", str(where), "--set", "embedder=loud:Loud"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    asked = [
        {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": call}
        for number, call in enumerate(calls, start=2)
    ]
    process.stdin.write("".join(f"{json.dumps(message)}\n" for message in (HELLO, ready, *asked)))
    process.stdin.flush()
    lines = []
    while sum('"id"' in line for line in lines) < 1 + len(calls):
        lines.append(process.stdout.readline())
        assert lines[-1], process.communicate()
    rest, err = process.communicate(timeout=STARTED_S)
    assert process.returncode == 0
    return [*lines, *rest.splitlines()], err


@pytest.mark.parametrize("arguments", [[], ["--import", "loud"]])
def test_what_code_of_the_user_s_prints_is_not_taken_for_the_protocol(
    where: Path, tmp_path: Path, arguments: list[str]
) -> None:
    calls = [{"name": "create", "arguments": {"text": "a"}}]
    lines, err = conversation(where, tmp_path, *arguments, calls=calls)
    assert [json.loads(line)["id"] for line in lines] == [1, 2]
    for loud in ("LOUD import\n", "LOUD import by a library", "LOUD beginning", "LOUD call"):
        assert loud in err


def test_an_error_of_the_user_s_own_code_is_told_without_passwords_and_the_next_call_goes_on(
    where: Path, tmp_path: Path
) -> None:
    calls = [{"name": "create", "arguments": {"text": text}} for text in ("boom", "fine")]
    lines, err = conversation(where, tmp_path, calls=calls)
    _, failed, went_on = map(json.loads, lines)
    assert failed["result"]["isError"] is True
    said = failed["result"]["content"][0]["text"]
    assert "create failed, RuntimeError: no http://***@host/v1 for you" in said
    assert went_on["result"]["structuredContent"]["id"] == 1
    assert "Traceback" in err
    assert "hunter2" not in "".join(lines) + err


def test_a_server_that_cannot_serve_says_why_on_standard_error(where: Path) -> None:
    for _ in range(2):
        env = AtomMemEnv(items=OwnItems([], ["?"]), store=f"milvus://{where}")
        env.reset()
        env.close()
    done = subprocess.run([*COMMAND, "--memory", str(where)], input="", capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "keeps 2 memories; name one with --key" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
def test_who_types_the_command_in_a_terminal_is_told_what_it_waits_for(where: Path) -> None:
    terminal, of_command = os.openpty()
    command = [*COMMAND, "--memory", str(where)]
    with subprocess.Popen(command, stdin=of_command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        assert run.stderr is not None
        said = run.stderr.readline()
        run.send_signal(signal.SIGINT)
        assert run.communicate(timeout=STARTED_S)[0] == ""
    os.close(terminal)
    os.close(of_command)
    line = "over standard input and output; an assistant starts this, Ctrl-C ends it\n"
    assert said == f"serving {where} {line}"
    done = subprocess.run(command, input="", capture_output=True, text=True, check=False)
    assert (done.returncode, "serving" in done.stderr) == (0, False)
