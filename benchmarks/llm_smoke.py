"""Every player with a language model against a real server: all parts work, and what the environment's share is.

    python benchmarks/llm_smoke.py --model smollm2 --vllm vllm/bin/vllm --source hotpot_dev_distractor_v1.json

starts vLLM on a loopback port, plays each player on the same episodes of AtomMem-HotpotQA-v0, kills the server in the
middle of the first player and starts it again, and writes ``benchmarks/results/llm_smoke.md``. The model of
``benchmarks/smollm2.py`` is far too small to score: what is shown is that no episode is lost and what it costs.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import fmean

import tyro
from reports.machine import cpu_name

from atommem_gym.agents.play import draw_items
from atommem_gym.agents.players.openai_model import OpenAIModel
from atommem_gym.agents.players.player import make_player, player_keywords
from atommem_gym.agents.players.roles import ROLES
from atommem_gym.agents.rollout import rollout
from atommem_gym.envs.pool.pool import AtomMemPool
from atommem_gym.traces import AgentTrace, EpisodeTrace, TraceRecorder, TraceWriter

ENV_ID = "AtomMem-HotpotQA-v0"
RESULTS = Path(__file__).parent / "results" / "llm_smoke.md"
NAME = "served"


@dataclass
class Smoke:
    """Play language-model players against vLLM and write a table."""

    model: Path
    """Model folder, such as the one that benchmarks/smollm2.py writes."""
    source: str = "synthetic"
    """Records of HotpotQA; "synthetic" generates some of the same shape."""
    vllm: str = "vllm"
    """The command `vllm`, also of another virtual environment."""
    url: str | None = None
    """A running server in place of an own one; it is not killed."""
    players: tuple[str, ...] = tuple(ROLES)
    episodes: int = 6
    num_docs: int = 10
    chunk_tokens: int = 500
    max_tokens: int = 64
    concurrency: int = 16
    context: int = 8192
    """Tokens of the model's context."""
    restart: bool = True
    """Kill the server in the middle of the first player's episodes and start it again."""
    traces: Path | None = None
    """Write every episode's trace to this file."""
    out: Path = RESULTS


@dataclass(frozen=True, slots=True)
class Row:
    """What one player did."""

    player: str
    traces: list[EpisodeTrace]
    seconds: float
    """Wall time of all its episodes together."""
    down: float
    """Of which the server was down."""

    def cells(self) -> list[str]:
        """The row of the table."""
        steps = [step for trace in self.traces for step in trace.steps]
        calls = [call for step in steps for call in step.completions]
        written = sum(call.completion_tokens or 0 for call in calls)
        read = sum(call.prompt_tokens or 0 for call in calls)
        agent, env = sum(step.seconds.agent for step in steps), sum(step.seconds.env for step in steps)
        up = self.seconds - self.down
        return [
            f"`{self.player}`",
            str(len(self.traces)),
            f"{fmean(trace.metrics['em'] for trace in self.traces):.2f}",
            f"{fmean(trace.metrics['evidence_recall'] for trace in self.traces):.2f}",
            str(len(steps)),
            str(sum(op.outcome != "rejected" for step in steps for op in step.operations)),
            str(len(calls)),
            str(sum(call.tries for call in calls) - len(calls)),
            str(sum(bool(step.dropped) for step in steps)),
            str(read),
            str(written),
            f"{up:.0f}",
            f"{read / up:.0f} / {written / up:.0f}",
            f"{1000 * env / len(steps):.1f}",
            f"{env / (env + agent):.2%}",
        ]


HEADS = (
    "player", "episodes", "EM", "evidence recall", "steps", "operations", "calls", "failed tries", "steps shortened",
    "prompt tokens", "completion tokens", "seconds", "tokens/s read / written", "env ms a step", "env share",
)  # fmt: skip


class Server:
    """vLLM on a free loopback port; killed and started again it keeps the port."""

    def __init__(self, smoke: Smoke) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/v1"
        self._command = [
            smoke.vllm, "serve", str(smoke.model), "--served-model-name", NAME, "--host", "127.0.0.1",
            "--port", str(port), "--max-model-len", str(smoke.context), "--dtype", "bfloat16", "--enforce-eager",
        ]  # fmt: skip
        self._log = Path(tempfile.gettempdir()) / "llm_smoke_vllm.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin to start; it takes a minute or two."""
        environment = {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", **os.environ}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, env=environment, start_new_session=True
            )

    async def wait_until_ready(self) -> None:
        """Return when it answers.

        Raises:
            SystemExit: it ended instead.
        """
        ready = asyncio.create_task(OpenAIModel(self.url, NAME).wait_until_ready())
        while not ready.done():
            if self._process is None or self._process.poll() is not None:
                ready.cancel()
                raise SystemExit(f"the server ended before it was ready; see {self._log}")
            await asyncio.wait([ready], timeout=1)
        await ready

    def kill(self) -> None:
        """End it at once, with all of its processes."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


async def play(smoke: Smoke, name: str, model: OpenAIModel, server: Server | None) -> Row:
    """All episodes of one player at once; with a server, that is killed and started again in their middle."""
    make = make_player(name, model, max_tokens=smoke.max_tokens)
    keywords = {
        "source": smoke.source, "num_docs": smoke.num_docs, "chunk_tokens": smoke.chunk_tokens,
        **player_keywords(name),
    }  # fmt: skip
    pool = AtomMemPool(ENV_ID, smoke.concurrency, **keywords)
    items = draw_items(pool.num_items, smoke.episodes, seed=0)
    calls = asyncio.Semaphore(0)

    async def episode(index: int, shuffle_seed: int) -> EpisodeTrace:
        async with pool.env() as env:
            player = make()
            recorder = TraceRecorder(ENV_ID, keywords, AgentTrace(player.name, player.settings), 0)
            return await rollout(
                env, player, index, shuffle_seed=shuffle_seed, recorder=recorder, on_step=lambda *_: calls.release()
            )

    async def restart() -> float:
        """Seconds that the server was down; 0 if it is left alone."""
        if server is None:
            return 0.0
        for _ in range(2 * len(items)):  # the resets, and about one step each
            await calls.acquire()
        killed = time.perf_counter()
        server.kill()
        print(f"{name}: server killed", flush=True)
        server.start()
        await server.wait_until_ready()
        return time.perf_counter() - killed

    started = time.perf_counter()
    async with pool:
        down, *traces = await asyncio.gather(restart(), *(episode(*item) for item in items))
    return Row(name, traces, time.perf_counter() - started, down)


@contextlib.asynccontextmanager
async def served(smoke: Smoke) -> AsyncIterator[tuple[OpenAIModel, Server | None]]:
    """The model, and the server if it is our own."""
    server = None if smoke.url else Server(smoke)
    model = OpenAIModel(smoke.url or (server.url if server else ""), None if smoke.url else NAME)
    try:
        if server:
            server.start()
            await server.wait_until_ready()
        await model.wait_until_ready()
        yield model, server
    finally:
        await model.aclose()
        if server:
            server.kill()


async def run(smoke: Smoke) -> None:
    """Play all and write the page."""
    rows: list[Row] = []
    async with served(smoke) as (model, server):
        for number, name in enumerate(smoke.players):
            rows.append(await play(smoke, name, model, server if smoke.restart and number == 0 else None))
            print(" | ".join(rows[-1].cells()), flush=True)
            smoke.out.write_text(page(smoke, rows), encoding="utf-8")
    if smoke.traces:
        with TraceWriter(smoke.traces) as writer:
            for trace in (trace for row in rows for trace in row.traces):
                writer.write(trace)


def page(smoke: Smoke, rows: Sequence[Row]) -> str:
    """The results as Markdown."""
    restarted = [row for row in rows if row.down]
    lines = [
        "# Language-model players against a real server",
        "",
        f"All players of a language model on the same {smoke.episodes} episodes of {ENV_ID}, at once through the async "
        f"pool, {smoke.num_docs} documents in chunks of {smoke.chunk_tokens} tokens, greedy, at most "
        f"{smoke.max_tokens} tokens a reply. The model ({smoke.model.name}) is far too small for the task: **what is "
        "shown is that every part works and what it costs, not a score.** `env share` is the environment's part of the "
        "time that episodes spend in model and environment together; `operations` are those that were well-formed and "
        "executed, of which so small a model writes none without help from the player.",
        "",
        f"| {' | '.join(HEADS)} |",
        f"|---|{'--:|' * (len(HEADS) - 1)}",
        *(f"| {' | '.join(row.cells())} |" for row in rows),
        "",
        *(
            f"In the middle of `{row.player}` the server was killed (SIGKILL) and started again; it was down for "
            f"{row.down:.0f} s, which `seconds` leaves out (its `env share` does not). No episode was lost."
            for row in restarted
        ),
        "",
        f"Made on {time.strftime('%Y-%m-%d')} with `benchmarks/llm_smoke.py`, {os.cpu_count()} cores "
        f"({cpu_name()}), Python {platform.python_version()}, atommem-gym {version('atommem-gym')}, "
        f"gymnasium {version('gymnasium')}, {smoke.url or f'vLLM {vllm_version(smoke)}'}.",
    ]
    return "\n".join(lines) + "\n"


def vllm_version(smoke: Smoke) -> str:
    """What the command says of itself."""
    said = subprocess.run([smoke.vllm, "--version"], capture_output=True, text=True, check=True, timeout=120)
    return said.stdout.strip().splitlines()[-1]


if __name__ == "__main__":
    asyncio.run(run(tyro.cli(Smoke)))
