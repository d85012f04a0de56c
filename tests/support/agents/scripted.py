"""Small environments and hand-made items for the tests of scripted agents and of the policies they are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias
from unittest.mock import patch

import gymnasium as gym

import atommem_gym  # noqa: F401
from atommem_gym.actions import Invalid, Operation, parse
from atommem_gym.agents import make_agent
from atommem_gym.agents.play import Env, EpisodeRecord, atommem_env, play_episode
from atommem_gym.records.record import Document, Evidence, Item, Record

Steps: TypeAlias = list[list[Operation | Invalid]]


class FixedItems:
    """One item, made by hand."""

    name = "fixed"
    num_items = 1

    def __init__(self, documents: Sequence[Document], *questions: Record) -> None:
        self.documents, self.questions = tuple(documents), questions

    def item(self, index: int, shuffle_seed: int = 0) -> Item:
        return Item("fixed/0", 0, shuffle_seed, self.questions, self.documents)


def make(**keywords: Any) -> Env:
    # The released preset asks up to ten questions in 41 steps.
    size = {"num_docs": 200, "chunk_tokens": 3000} if "preset" in keywords else {"num_docs": 24, "chunk_tokens": 300}
    settings = size | {"store": "numpy"} | keywords
    if "preset" not in keywords:
        settings["num_docs"] *= settings.get("questions_per_episode", 1)
    return gym.make("AtomMem-Synthetic-v0", disable_env_checker=True, **settings)


def fixed(items: FixedItems, **keywords: Any) -> Env:
    with patch("atommem_gym.envs.atommem_env.load_items", lambda *_: items):
        return make(**keywords)


def question(text: str, answer: str, *evidence: Evidence) -> Record:
    return Record("q", text, answer, (), (), evidence)


def trace(env: Env, agent_name: str, index: int = 0) -> tuple[EpisodeRecord, Steps, list[Any]]:
    """The record of an episode, the parsed actions, and all rejections."""
    actions: Steps = []
    rejected: list[Any] = []

    def note(action: str, observation: Any, info: dict[str, Any]) -> None:
        actions.append(parse(action, atommem_env(env).config.dialect))
        rejected.extend(info["rejected"])

    record = play_episode(env, make_agent(agent_name), index, on_step=note)
    return record, actions[1:], rejected
