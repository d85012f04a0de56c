"""The server of ``bridges/openenv`` and its typed client, by OpenEnv's websocket: equal to the plain environment."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from support.conformance import PAGE, commands, require

import atommem_gym  # noqa: F401  (registers the ids)
from atommem_gym.prompts import PromptTemplate
from atommem_gym.traces.codec import plain

require("openenv", "openenv")

require("openenv", "atommem_openenv")

import atommem_openenv  # noqa: E402
import httpx  # noqa: E402
from openenv.cli.__main__ import app as command  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

FOLDER = Path(__file__).parents[2] / "bridges" / "openenv"
COMMANDS = commands("OpenEnv")
WORDS = shlex.split(next(line for line in COMMANDS if " server " in line))
VARIABLES = dict(word.split("=", 1) for word in WORDS if word.startswith("ATOMMEM_"))
SERVE = WORDS[len(VARIABLES) :]
KEYWORDS = json.loads(VARIABLES["ATOMMEM_KEYWORDS"])
SESSIONS = 64
STARTED_S = 180.0
"""Patience with a busy machine; no test judges a time."""
OBSERVED = ("phase", "progress", "question", "chunk", "scratchpad", "query", "memories", "feedback", "reads_left")
Policy = Callable[[dict[str, Any], int], str]


def start(port: int, log: Path, *, as_images_do: bool = False) -> subprocess.Popen[bytes]:
    """The server as docs/use_from.md starts it, or as the Dockerfile does: in the folder, which is then no package."""
    assert SERVE == ["server", "--port", "8000"]
    program = [sys.executable, "-m", "server.app"] if as_images_do else [Path(sys.executable).with_name("server")]
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*map(str, program), "--port", str(port)],
            cwd=FOLDER if as_images_do else log.parent,
            env={**os.environ, **VARIABLES, "ATOMMEM_SESSIONS": str(SESSIONS)},
            stdout=file,
            stderr=file,
        )
    end = time.monotonic() + STARTED_S
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200:
                return process
        time.sleep(0.1)
    process.kill()
    raise AssertionError(log.read_text())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """The server of these tests, which one of them kills and starts again: OpenEnv takes seconds to import."""

    def __init__(self, log: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = log
        self.start()

    def start(self, *, as_images_do: bool = False) -> None:
        self.process = start(self.port, self._log, as_images_do=as_images_do)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("openenv") / "log")
    yield server
    server.process.terminate()
    assert server.process.wait(STARTED_S) in (0, -signal.SIGTERM)


@pytest.fixture
def url(server: Server) -> str:
    return server.url


def connect(url: str) -> Any:
    return atommem_openenv.AtomMemOpenEnv(base_url=url, connect_timeout_s=STARTED_S, message_timeout_s=STARTED_S)


def policy(number: int) -> Policy:
    """A policy that uses all operations, also wrongly; another one for every number."""

    def act(observation: dict[str, Any], step: int) -> str:
        if observation["phase"] == 0:
            text = observation["chunk"][number : number + 200]
            kept = f"<create>{text}</create><update id='{step}'>{text[::2]}</update><read>{text[:40]}</read>"
            return f"<think>{number}</think>{kept}"
        if not observation["memories"] and observation["reads_left"]:
            return f"<read>{observation['question']}</read><delete id='1'/><scratchpad>{number} 🐝</scratchpad><creat>"
        return f"<answer>{observation['memories'][0]['text'][:20] if observation['memories'] else number}</answer>"

    return act


def played(act: Policy, resets: list[dict[str, Any]]) -> list[Any]:
    """What the plain environment gives, episode after episode, as JSON has it."""
    env = gym.make("AtomMem-Synthetic-v0", store="numpy", disable_env_checker=True, **KEYWORDS)
    template = PromptTemplate(env.unwrapped.config)
    told = []
    for given in resets:
        options = {name: value for name, value in given.items() if name != "seed"}
        observation, info = env.reset(seed=given.get("seed"), options=options)
        told.append(plain([observation, template.messages(observation), None, False, False, info]))
        over, step = False, 0
        while not over:
            observation, reward, terminated, truncated, info = env.step(act(plain(observation), step))
            told.append(plain([observation, template.messages(observation), reward, terminated, truncated, info]))
            over, step = terminated or truncated, step + 1
    env.close()
    return told


def as_told(result: Any) -> Any:
    """A result of the client in the same form."""
    said = result.observation.model_dump()
    assert result.done == (said["terminated"] or said["truncated"]) == said["done"]
    assert result.reward == said["reward"]
    observation = {name: said[name] for name in (*OBSERVED, "steps_left")}
    return plain(
        [observation, said["messages"], result.reward, said["terminated"], said["truncated"], said["metadata"]]
    )


async def played_over(url: str, act: Policy, resets: list[dict[str, Any]]) -> list[Any]:
    """What a session gives."""
    told = []
    async with connect(url) as env:
        for given in resets:
            result = await env.reset(**given)
            told.append(as_told(result))
            step = 0
            while not result.done:
                result = await env.step(atommem_openenv.AtomMemAction(text=act(told[-1][0], step)))
                told.append(as_told(result))
                step += 1
            state = await env.state()
            assert state.step_count == step
    return told


def test_a_session_equals_the_plain_environment_bit_for_bit(url: str) -> None:
    # Items by index and by layout, by a seed, and by what the generator draws next.
    resets = [{"index": 3}, {"index": 3, "shuffle_seed": 1}, {"seed": 5}, {}, {"seed": 5}]
    there = asyncio.run(played_over(url, policy(0), resets))
    assert there == played(policy(0), resets)
    ends = [told for told in there if "episode_metrics" in told[-1]]
    assert len(ends) == 5
    assert ends[2] == ends[4] != ends[3]


def test_64_sessions_at_a_time_are_apart_from_each_other(url: str) -> None:
    async def all_at_once() -> list[list[Any]]:
        return await asyncio.gather(*(played_over(url, policy(n), [{"index": n // 8}]) for n in range(SESSIONS)))

    there = asyncio.run(all_at_once())
    assert there == [played(policy(n), [{"index": n // 8}]) for n in range(SESSIONS)]
    assert len({json.dumps(told) for told in there}) == SESSIONS


def test_one_session_too_many_is_refused_until_another_leaves(url: str) -> None:
    async def play() -> None:
        clients = [connect(url) for _ in range(SESSIONS)]
        await asyncio.gather(*(client.connect() for client in clients))
        await asyncio.gather(*(client.reset(index=0) for client in clients))
        with pytest.raises(Exception, match=r"(?i)capacity|closed|sessions"):
            async with connect(url) as more:
                await more.reset(index=0)
        await clients.pop().close()
        end = time.monotonic() + STARTED_S
        while True:
            try:
                async with connect(url) as more:
                    assert (await more.reset(index=0)).observation.phase == 0
                break
            except Exception:
                assert time.monotonic() < end
                await asyncio.sleep(0.1)
        await asyncio.gather(*(client.close() for client in clients))

    asyncio.run(play())


def test_what_the_environment_refuses_is_told_and_changes_nothing(url: str) -> None:
    async def play() -> None:
        async with connect(url) as env:
            with pytest.raises(RuntimeError, match=r"no episode yet; call reset\(\) first"):
                await env.step(atommem_openenv.AtomMemAction(text="x"))
            first = await env.reset(index=0)
            with pytest.raises(RuntimeError, match=r"item 100000000 does not exist"):
                await env.reset(index=100_000_000)
            with pytest.raises(RuntimeError, match=r"unknown reset option 'indx'"):
                await env.reset(indx=0)
            # SPEC A3: no text makes a step raise, half a character neither.
            result = await env.step(atommem_openenv.AtomMemAction(text="<create>\ud800 \0 <<<</create>" + "<" * 10_000))
            assert "created 1" in result.observation.feedback
            assert (await env.reset(index=0)).observation == first.observation

    asyncio.run(play())


def test_an_invalid_seed_is_told_and_the_session_goes_on_and_leaves(url: str) -> None:
    async def play() -> None:
        async with connect(url) as env:
            for _ in range(2):
                with pytest.raises(RuntimeError, match=r"(?i)seed"):
                    await env.reset(seed=-1)
            first = await env.reset(seed=0)
            with pytest.raises(RuntimeError, match=r"(?i)seed"):
                await env.reset(seed=-1)
            result = await env.step(atommem_openenv.AtomMemAction(text="<create>a</create>"))
            assert "created 1" in result.observation.feedback
            assert (await env.reset(seed=0)).observation == first.observation
        # As many as there are places: none of them is kept by a session that asked for a wrong seed.
        for _ in range(SESSIONS + 1):
            async with connect(url) as env:
                with pytest.raises(RuntimeError, match=r"(?i)seed"):
                    await env.reset(seed=-1)
        async with connect(url) as env:
            assert (await env.reset(seed=0)).observation == first.observation

    asyncio.run(asyncio.wait_for(play(), STARTED_S))


def test_a_server_that_is_killed_is_missed_and_a_new_one_plays_the_same(server: Server) -> None:
    async def until_it_dies() -> None:
        async with connect(server.url) as env:
            await env.reset(index=1)
            result = await env.step(atommem_openenv.AtomMemAction(text="<create>a</create>"))
            assert "created 1" in result.observation.feedback
            server.process.kill()
            server.process.wait()
            with pytest.raises(Exception, match=r"(?i)clos|connect|refused"):
                await env.step(atommem_openenv.AtomMemAction(text="<create>b</create>"))

    asyncio.run(until_it_dies())
    server.start(as_images_do=True)
    assert asyncio.run(played_over(server.url, policy(1), [{"index": 1}])) == played(policy(1), [{"index": 1}])


def test_openenv_validate_passes_for_the_folder_and_for_the_server(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The commands of the page, `openenv` in this process: importing it takes seconds.
    validate = [shlex.split(line) for line in COMMANDS if line.startswith("openenv validate")]
    assert len(validate) == 2
    monkeypatch.chdir(FOLDER.parents[1])
    for _, *words in validate:
        report = tmp_path / "report.json"
        words = [word.replace("http://localhost:8000", url) for word in words]
        more = ["--timeout", str(STARTED_S)] if "--url" in words else []
        done = CliRunner().invoke(command, [*words, *more, "--output", str(report)])
        assert done.exit_code == 0, done.output
        assert "FAIL" not in done.output
    assert json.loads(report.read_text())["passed"] is True


def test_the_client_of_the_page_plays_an_episode(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    section = PAGE.read_text(encoding="utf-8").split("\n## OpenEnv\n")[1].split("\n## ")[0]
    (block,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    exec(compile(block.replace("http://localhost:8000", url), str(PAGE), "exec"), {})
    assert capsys.readouterr().out == "0.0 0.0\n"


def test_the_dockerfile_starts_what_the_layout_names() -> None:
    docker = (FOLDER / "server" / "Dockerfile").read_text()
    assert "uvicorn server.app:app" in docker
    assert "app: server.app:app" in (FOLDER / "openenv.yaml").read_text()
    for name in ("ATOMMEM_ENV_ID", "ATOMMEM_KEYWORDS", "ATOMMEM_SESSIONS"):
        for text in (docker, (FOLDER / "server" / "app.py").read_text(), (FOLDER / "README.md").read_text()):
            assert name in text
