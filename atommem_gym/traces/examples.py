"""A small trace for documentation and tests, recorded by playing."""

from __future__ import annotations

from typing import Any

import gymnasium as gym

from atommem_gym.traces.record import AgentTrace, EpisodeTrace
from atommem_gym.traces.recorder import TraceRecorder

ENV_ID = "AtomMem-Synthetic-v0"
KEYWORDS: dict[str, Any] = {"num_docs": 8, "chunk_tokens": 280, "store": "numpy"}


def example_trace(index: int = 3) -> EpisodeTrace:
    """The trace of an agent that stores the beginning of each chunk, reads once, and does not know the answer.

    >>> trace = example_trace()
    >>> trace.causes, trace.steps[0].operations[0].entry_id
    (('never stored',), 1)
    """
    env: gym.Env[Any, str] = gym.make(ENV_ID, disable_env_checker=True, **KEYWORDS)
    base: Any = env.unwrapped
    recorder = TraceRecorder(ENV_ID, KEYWORDS, AgentTrace("example", {"characters": 40}))
    observation, info = env.reset(options={"index": index})
    recorder.reset(base.episode, observation, info)
    while not recorder.over:
        if observation["phase"] == 0:
            action = f"<create>{observation['chunk'][:40]}</create>"
        elif not observation["memories"]:
            action = f"<read>{observation['question']}</read>"
        else:
            action = "<answer>I wish I knew</answer>"
        result = env.step(action)
        observation = result[0]
        recorder.step(action, *result)
    env.close()
    return recorder.finish()
