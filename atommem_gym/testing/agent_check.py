"""Checks an agent: it plays every kind of environment to the end, and repeats an episode with the same actions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import gymnasium as gym

from atommem_gym.episode import Episode
from atommem_gym.plugins.loading import check_form, load_plugin
from atommem_gym.step import Observation

ENVIRONMENTS: tuple[Mapping[str, Any], ...] = (
    {},
    {"questions_per_episode": 3, "question_visible": "end"},
    {"scratchpad": False, "max_entries": 3},
    {"storage": False},
    {"operations": ["create", "read"], "max_reads_per_question": 0},
    {"dialect": "tools", "max_action_chars": 300},
    {"preset": "released", "num_docs": 44},
)
"""Keyword arguments of the check's environments: defaults, several questions, ablations, tight limits, dialects."""
_COMMON = {"num_docs": 12, "chunk_tokens": 300, "store": "numpy"}


class AgentLike(Protocol):
    """The protocol of ``atommem_gym.agents.Agent``."""

    name: str

    def reset(self, episode: Episode, seed: int) -> None: ...

    def act(self, observation: Observation) -> str: ...


def check_agent(
    agent: str | Callable[[], AgentLike], *, environments: Sequence[Mapping[str, Any]] = ENVIRONMENTS, episodes: int = 2
) -> None:
    """Check an agent.

    In each environment it must play to the end, act in text, and repeat an episode with the same actions, both after
    another episode (``reset`` forgets everything) and from a second instance.

    Args:
        agent: ``"package.module:name"``, or a callable without arguments that returns an agent.
        environments: Keyword arguments of ``AtomMem-Synthetic-v0``.
        episodes: Number of episodes in each environment.

    Raises:
        AssertionError: a rule is broken.
        ConfigError: the agent does not exist, or does not have the form of an agent.
    """
    first, second = _made(agent), _made(agent)
    assert first.name == second.name, f"two instances are called {first.name!r} and {second.name!r}"
    for keywords in environments:
        env = gym.make("AtomMem-Synthetic-v0", disable_env_checker=True, **{**_COMMON, **keywords})
        try:
            played = [_play(env, first, index, keywords) for index in range(episodes)]
            for index in reversed(range(episodes)):
                for what, one in (("again", first), ("from a second instance", second)):
                    other = _play(env, one, index, keywords)
                    assert other == played[index], (
                        f"with {dict(keywords)} the agent's actions on item {index} were {played[index]}, and {what} "
                        f"{other}; the same seed, item and observations must give the same actions"
                    )
        finally:
            env.close()


def _made(agent: str | Callable[[], AgentLike]) -> AgentLike:
    if isinstance(agent, str):
        named: AgentLike = load_plugin("agent", agent)
        return named
    made = agent()
    check_form("agent", getattr(agent, "__qualname__", repr(agent)), made)
    return made


def _play(env: gym.Env[Any, str], agent: AgentLike, index: int, keywords: Mapping[str, Any]) -> list[str]:
    observation, _ = env.reset(options={"index": index})
    base: Any = env.unwrapped
    agent.reset(base.episode, 7)
    actions: list[str] = []
    over = False
    while not over:
        try:
            action = agent.act(observation)
        except Exception as error:  # whatever the agent's code raises
            raise AssertionError(
                f"with {dict(keywords)} act raised {type(error).__name__} at step {len(actions) + 1}: {error}"
            ) from error
        assert isinstance(action, str), f"act returned {action!r}; an action is a string"
        actions.append(action)
        observation, _, terminated, truncated, _ = env.step(action)
        over = terminated or truncated
    return actions
