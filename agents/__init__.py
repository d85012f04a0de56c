"""Agents by name: the scripted ones, one file each, and custom ones. Every loop that plays uses ``playing.py``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from atommem_gym.agents.agent import Agent
from atommem_gym.agents.players.roles import ROLES
from atommem_gym.agents.scripted.keep_all import KeepAllAgent
from atommem_gym.agents.scripted.oracle import OracleAgent
from atommem_gym.agents.scripted.overwrite import OverwriteAgent
from atommem_gym.agents.scripted.random_agent import RandomAgent
from atommem_gym.agents.scripted.silent import SilentAgent
from atommem_gym.agents.scripted.tidy import TidyAgent
from atommem_gym.errors import ConfigError, suggestion
from atommem_gym.plugins.loading import check_colon, check_form, is_plugin, load_plugin

AGENTS: dict[str, Callable[[], Agent]] = {
    "random": RandomAgent,
    "silent": SilentAgent,
    "keep_all": KeepAllAgent,
    "overwrite": OverwriteAgent,
    "tidy": TidyAgent,
    "oracle": OracleAgent,
}
"""Makers of agents by name: the scripted agents, from the floor to the ceiling, then those that
:func:`register_agent` added."""

BUILT_IN = frozenset(AGENTS)
"""The names of the agents that come with this package."""


def make_agent(name: str) -> Agent:
    """Make the agent of this name; every call makes a new one.

    Args:
        name: A key of ``AGENTS``, or ``"package.module:name"``: a custom class or function that makes an
            agent without arguments.

    Raises:
        ConfigError: no agent has this name, or a custom one does not have the form of an agent
            (:mod:`atommem_gym.plugins`) or may not be imported (:mod:`atommem_gym.trust`).
    """
    if is_plugin("agent", name):
        agent: Agent = load_plugin("agent", name)
        return agent
    if name not in AGENTS:
        check_colon("agent", name)
        raise ConfigError(
            f"unknown agent {name!r}; {suggestion(name, AGENTS)} (one of your own is 'package.module:name', or "
            "registered by a module that --import names)"
        )
    made = AGENTS[name]()
    if name not in BUILT_IN:
        check_form("agent", name, made)
    return made


def register_agent(name: str, make: Callable[[], Agent]) -> None:
    """Give a custom agent a short name that every command takes; ``--import`` names the module that calls this.

    >>> register_agent("mine", KeepAllAgent)
    >>> make_agent("mine").name
    'keep_all'
    >>> del AGENTS["mine"]

    Args:
        name: Letters, digits, ``_`` and ``-``. A second registration of a name replaces the first.
        make: A class or function that makes an agent without arguments.

    Raises:
        ConfigError: an agent or player of this package has the name, the name holds other characters, or ``make``
            cannot be called.
    """
    if not isinstance(name, str) or not name.replace("_", "").replace("-", "").isalnum():
        raise ConfigError(f"the agent's name {name!r} must be letters, digits, '-' and '_'")
    if name in BUILT_IN or name in ROLES:
        raise ConfigError(f"the name {name!r} is an agent's of this package; choose another one")
    if not callable(make):
        raise ConfigError(f"the agent {name!r} is {make!r}; give what makes one, such as its class")
    AGENTS[name] = make


if TYPE_CHECKING:
    from . import learn as learn
    from . import play as play
    from . import players as players
    from . import rollout as rollout
    from . import session as session
    from . import shared_pools as shared_pools
    from . import team as team
    from . import team_play as team_play
    from . import token_policy as token_policy
else:
    import lazy_loader

    _ROOMS = ("learn", "play", "players", "rollout", "session", "shared_pools", "team", "team_play", "token_policy")
    __getattr__ = lazy_loader.attach(__name__, _ROOMS)[0]

    def __dir__() -> list[str]:  # without what needs an extra: help() loads what dir() lists
        return sorted({*globals(), *_ROOMS} - {"team", "team_play"})


__all__ = ["AGENTS", "BUILT_IN", "Agent", "make_agent", "register_agent"]
