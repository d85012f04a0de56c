"""One protocol for scripted agents and language models, and a maker of players by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from atommem_gym.agents import AGENTS, make_agent
from atommem_gym.agents.agent import Agent
from atommem_gym.agents.players.language_model import Completion, LanguageModel
from atommem_gym.agents.players.roles import ROLES
from atommem_gym.episode import Episode
from atommem_gym.errors import ConfigError, suggestion
from atommem_gym.plugins.loading import check_colon, is_plugin
from atommem_gym.step import Observation


@dataclass(frozen=True, slots=True)
class Dropped:
    """What a model was not shown, or not given, because its context was too small."""

    what: str
    """``chunk``, ``documents``, ``memories``, ``scratchpad``, ``feedback``, ``query`` or ``max_tokens``."""
    dropped: int
    of: int
    unit: str
    """``characters``, ``entries`` or ``tokens``."""

    @property
    def line(self) -> str:
        """One line for a log.

        >>> Dropped("chunk", 1200, 16000, "characters").line
        'chunk: 1200 of 16000 characters dropped'
        """
        return f"{self.what}: {self.dropped} of {self.of} {self.unit} dropped"


@dataclass(frozen=True, slots=True)
class Turn:
    """One step of a player: what it does, and what led to it."""

    action: str
    """For the environment's ``step``."""
    messages: list[dict[str, str]] | None = None
    """What the model was asked; ``None`` where no model was."""
    response: str = ""
    """What the model wrote; for scripted agents the action."""
    completions: tuple[Completion, ...] = ()
    """Every call to the model that the step took."""
    dropped: tuple[Dropped, ...] = ()
    """What did not fit the model's context and so was not shown to it."""


@dataclass(slots=True)
class Usage:
    """What an episode cost; :class:`~atommem_gym.agents.players.llm_player.LanguageModelPlayer` keeps count."""

    calls: int = 0
    tries: int = 0
    """Calls and the failed ones before them."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    """In the model, all calls added up."""
    cut_short: int = 0
    """Replies that ended at ``max_tokens`` or at the end of the context."""
    dropped: int = 0
    """Steps in which the model was not shown everything."""

    def add(self, turn: Turn) -> None:
        """Count a turn."""
        for completion in turn.completions:
            self.calls += 1
            self.tries += completion.tries
            self.prompt_tokens += completion.prompt_tokens
            self.completion_tokens += completion.completion_tokens
            self.seconds += completion.seconds
            self.cut_short += completion.finish_reason == "length"
        self.dropped += bool(turn.dropped)


class Player(Protocol):
    """Plays one episode at a time; a run of many at once has a player for each."""

    @property
    def name(self) -> str:
        """Who plays, for tables and traces."""
        ...

    @property
    def settings(self) -> dict[str, Any]:
        """What it was made with, as JSON values: two players with equal names and settings play alike."""
        ...

    def reset(self, episode: Episode, seed: int) -> None:
        """Forget everything and get ready for an episode; called after the environment's reset, before the first act.

        Args:
            episode: The running episode. Its item holds the answers: only the oracles look at it.
            seed: Of this episode.
        """
        ...

    async def act(self, observation: Observation) -> Turn:
        """What to do at an observation (SPEC E10).

        Raises:
            LanguageModelError: the model gave no usable reply. Nothing has changed: the same call may be repeated.
        """
        ...


class ScriptedPlayer:
    """A scripted agent as a player.

    >>> ScriptedPlayer(make_agent("tidy")).name
    'tidy'
    """

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.name = agent.name
        self.settings: dict[str, Any] = {}

    def reset(self, episode: Episode, seed: int) -> None:
        """See ``Agent.reset``."""
        self.agent.reset(episode, seed)

    async def act(self, observation: Observation) -> Turn:
        """See ``Agent.act``."""
        action = self.agent.act(observation)
        return Turn(action, response=action)


def player_names() -> tuple[str, ...]:
    """Every name that :func:`make_player` knows by now; it knows ``"package.module:name"`` besides.

    >>> "tidy" in player_names() and "crud" in player_names()
    True
    """
    return (*AGENTS, *ROLES)


def player_keywords(name: str) -> dict[str, Any]:
    """The keyword arguments with which a player's environment must be made; they win over others.

    >>> player_keywords("add_only")
    {'operations': ['create', 'read']}

    Args:
        name: Of the player, as :func:`make_player` takes it.

    Raises:
        ConfigError: there is no such player.
    """
    _check(name)
    return dict(ROLES[name].env_keywords) if name in ROLES else {}


def make_player(name: str, model: LanguageModel | None = None, **options: Any) -> Callable[[], Player]:
    """A maker of players of this name, one for each episode that is under way.

    >>> make_player("keep_all")().name
    'keep_all'

    Args:
        name: One of :func:`player_names`, or ``"package.module:name"``, a custom agent.
        model: Shared by all of them; scripted agents need none.
        **options: The player's own, such as ``temperature=0.7`` or ``answering={"max_tokens": 64}``.

    Raises:
        ConfigError: there is no such player, it needs a model, or an option is unknown or wrong.
    """
    _check(name)
    if name not in ROLES:
        if options:
            raise ConfigError(f"the scripted agent {name!r} has no options, but {', '.join(options)} was given")
        make_agent(name)  # what is wrong with it is an error now, not in the middle of the first episode
        return lambda: ScriptedPlayer(make_agent(name))
    if model is None:
        raise ConfigError(f"the agent {name!r} needs a language model, such as an OpenAI-compatible server's URL")
    import importlib

    # Only who plays with a language model pays for loading its players.
    kind = getattr(importlib.import_module(f"atommem_gym.agents.players.{ROLES[name].module}"), ROLES[name].kind)

    def make() -> Player:
        player: Player = kind(name, model, **options)
        return player

    make()  # a wrong option is an error now, not in the middle of the first episode
    return make


def _check(name: str) -> None:
    if is_plugin("agent", name) or name in player_names():
        return
    check_colon("agent", name)
    raise ConfigError(
        f"unknown agent {name!r}; {suggestion(name, player_names())} (one of your own is 'package.module:name', or "
        "registered by a module that --import names)"
    )
