"""Records for the tests of traces: of scripted agents, and of episodes whose every text is written here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import gymnasium as gym
from support.fixed_items import fixed_env

from atommem_gym.agents import make_agent
from atommem_gym.records.record import Document, Evidence, Record
from atommem_gym.traces import EpisodeTrace, TraceRecorder

SYNTHETIC = "AtomMem-Synthetic-v0"
SMALL = {"num_docs": 12, "chunk_tokens": 500, "store": "numpy"}

BORN = Evidence("Ada Lovelace", "Ada Lovelace was born in London.", "London")
RIVER = Evidence("London", "London lies on the Thames.", "Thames")
DOCUMENTS = (Document(BORN.title, BORN.text), Document(RIVER.title, RIVER.text), Document("Skive", "Skive is a town."))
QUESTION = Record("q1", "On which river was Ada Lovelace born?", "Thames", DOCUMENTS, (0, 1), (BORN, RIVER))
OTHER = Record("q2", "Where was Ada Lovelace born?", "London", DOCUMENTS, (0,), (BORN,), aliases=("London, England",))


def played(agent: str, indices: Iterable[int], env_id: str = SYNTHETIC, **keywords: Any) -> Iterator[EpisodeTrace]:
    """Records of a scripted agent."""
    env = gym.make(env_id, disable_env_checker=True, **keywords)
    recorder = TraceRecorder(env_id, keywords, agent)
    player = make_agent(agent)
    for index in indices:
        observation, info = env.reset(options={"index": index})
        base: Any = env.unwrapped
        player.reset(base.episode, index)
        recorder.reset(base.episode, observation, info)
        while not recorder.over:
            action = player.act(observation)
            result = env.step(action)
            observation = result[0]
            recorder.step(action, *result)
        yield recorder.finish()
    env.close()


def written(actions: Sequence[str], questions: Sequence[Record] = (QUESTION,), **keywords: Any) -> EpisodeTrace:
    """The record of these actions on the fixed documents, in one chunk; the last one is repeated until the end."""
    env = fixed_env(questions, DOCUMENTS, **keywords)
    recorder = TraceRecorder("AtomMem-Custom", keywords, "hand")
    observation, info = env.reset(options={"index": 0})
    recorder.reset(env.episode, observation, info)
    number = 0
    while not recorder.over:
        action = actions[min(number, len(actions) - 1)]
        recorder.step(action, *env.step(action))
        number += 1
    env.close()
    return recorder.finish()
