"""Traces for the viewer's tests: real episodes of scripted agents in a generated world, a hostile one, a long one."""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from pathlib import Path

import gymnasium as gym
from msgspec.structs import replace

import atommem_gym  # noqa: F401
from atommem_gym.agents import make_agent
from atommem_gym.cli import main
from atommem_gym.envs import AtomMemEnv
from atommem_gym.records.layout import stable_rng
from atommem_gym.traces import EpisodeTrace, TraceRecorder
from atommem_gym.traces.record import CompletionTrace, OperationTrace

KEYWORDS = {"num_docs": 30, "chunk_tokens": 500, "store": "numpy", "questions_per_episode": 2, "max_entries": 24}
HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(2)</script>",
    "<!--<script>",
    "]]>&lt;b&gt;&amp;",
    "\x1b[31mred\x1b[0m\x07",
    "\u202eright to left\u202c \u2028 \u2029 \ufeff",
    "NUL \0 lone \ud800 surrogate",
    "javascript:alert(3)",
    "{{constructor.constructor('alert(4)')()}}",
    "__proto__",
)

_WORDS = ["".join(syllables) for syllables in product(("ba", "den", "ki", "lor", "mu", "ster"), repeat=3)] * 4
_WORDS += ["".join(syllables) for syllables in product("aeiou", "bdklmnrst", "aeiou")] * 8


@lru_cache
def example_traces(items: int) -> tuple[EpisodeTrace, ...]:
    """Every agent's episodes of the first items, item by item."""
    env = gym.make("AtomMem-Synthetic-v0", disable_env_checker=True, **KEYWORDS)
    base = env.unwrapped
    assert isinstance(base, AtomMemEnv)
    traces = []
    for index in range(items):
        for name in ("random", "silent", "overwrite", "keep_all", "tidy", "oracle"):
            agent = make_agent(name)
            recorder = TraceRecorder("AtomMem-Synthetic-v0", KEYWORDS, name)
            observation, info = base.reset(options={"index": index})
            recorder.reset(base.episode, observation, info)
            agent.reset(base.episode, 0)
            while not recorder.over:
                action = agent.act(observation)
                result = base.step(action)
                recorder.step(action, *result)
                observation = result[0]
            traces.append(recorder.finish())
    env.close()
    return tuple(traces)


def hostile_trace() -> EpisodeTrace:
    """An episode in which every text that others write is hostile."""
    trace = example_traces(1)[4]
    text = "\n".join(HOSTILE)
    steps = []
    for step in trace.steps:
        memory = replace(
            step.memory,
            created=tuple(replace(entry, text=text) for entry in step.memory.created),
            updated=tuple(replace(entry, before=text, after=f"{text}!") for entry in step.memory.updated),
        )
        observation = dict(step.observation)
        observation |= dict.fromkeys(("question", "chunk", "scratchpad", "query", "feedback"), text)
        observation["memories"] = [{**entry, "text": text} for entry in observation["memories"]]
        steps.append(
            replace(
                step,
                observation=observation,
                messages=[{"role": HOSTILE[0], "content": text}, {"role": "user", "content": text}],
                response=text,
                action=text,
                operations=(
                    OperationTrace(HOSTILE[0], 1, "rejected", text=text, reason=HOSTILE[1], detail=text),
                    OperationTrace("__proto__", 2, "applied", query=text),
                ),
                memory=memory,
                completions=(CompletionTrace(10, 5, 0.1, HOSTILE[0], reasoning=text),),
            )
        )
    return replace(
        trace,
        item=HOSTILE[1],
        agent=replace(trace.agent, name=HOSTILE[0], settings={HOSTILE[0]: HOSTILE[1]}),
        questions=tuple(
            replace(
                one,
                question=text,
                answer=HOSTILE[0],
                evidence=tuple(replace(e, title=HOSTILE[0], text=HOSTILE[4], hop_answer=text) for e in one.evidence),
            )
            for one in trace.questions
        ),
        documents=HOSTILE,
        steps=tuple(steps),
        metrics={
            **trace.metrics,
            "answers": [{**one, "answer": text, "question": text} for one in trace.metrics["answers"]],
        },
    )


def long_trace(number: int, steps: int = 40, chunk_chars: int = 16_000) -> EpisodeTrace:
    """An episode of many large chunks of random words, which share nothing and compress about as English does."""
    trace = example_traces(1)[3]
    first = trace.steps[0]
    rng = stable_rng("long trace", number)
    made = []
    for step in range(steps):
        words = [_WORDS[i] for i in rng.integers(len(_WORDS), size=chunk_chars // 7)]
        documents = (
            f"Document {i + 1}:\nPlace {number}-{step}-{i}\n{' '.join(words[at : at + 80])}"
            for i, at in enumerate(range(0, len(words), 80))
        )
        seen = {**first.observation, "chunk": "\n\n".join(documents), "progress": [step, steps]}
        made.append(replace(first, observation=seen))
    return replace(trace, index=number, item=f"long/{number}", steps=tuple(made), reward=0.0)


ITEMS_OF_RUNS = 3


def play_runs(folder: Path) -> tuple[Path, Path]:
    """Two evaluations over the same items: a large memory, and one that has room for six entries."""
    runs = folder / "base", folder / "small"
    common = [
        "eval",
        "Synthetic",
        "--docs",
        "12",
        "20",
        "--episodes",
        str(ITEMS_OF_RUNS),
        "--agent",
        "keep_all",
        "tidy",
    ]
    common += ["--set", "store=numpy", "chunk_tokens=300"]
    assert main([*common, "-o", str(runs[0])]) == 0
    assert main([*common, "max_entries=6", "-o", str(runs[1])]) == 0
    return runs
