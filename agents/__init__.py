"""Who plays: scripted agents, one file each, by name; ``play.py`` lets them play, ``playing.py`` is in every loop."""

from __future__ import annotations

from collections.abc import Callable

from atommem_gym.agents.agent import Agent
from atommem_gym.agents.scripted.keep_all import KeepAllAgent
from atommem_gym.agents.scripted.oracle import OracleAgent
from atommem_gym.agents.scripted.overwrite import OverwriteAgent
from atommem_gym.agents.scripted.random_agent import RandomAgent
from atommem_gym.agents.scripted.silent import SilentAgent
from atommem_gym.agents.scripted.tidy import TidyAgent
from atommem_gym.errors import ConfigError, suggestion

AGENTS: dict[str, Callable[[], Agent]] = {
    "random": RandomAgent,
    "silent": SilentAgent,
    "keep_all": KeepAllAgent,
    "overwrite": OverwriteAgent,
    "tidy": TidyAgent,
    "oracle": OracleAgent,
}
"""The scripted agents by name, from floor to ceiling."""


def make_agent(name: str) -> Agent:
    """The scripted agent of this name.

    Raises:
        ConfigError: there is none.
    """
    if name not in AGENTS:
        raise ConfigError(f"unknown agent {name!r}; {suggestion(name, AGENTS)}")
    return AGENTS[name]()


__all__ = ["AGENTS", "Agent", "make_agent"]
