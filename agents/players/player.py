"""The protocol of players, which scripted agents and language models share, and a maker of players by name."""

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
    """One part of a prompt, or of ``max_tokens``, that was dropped because the model's context was too small."""

    what: str
    """``chunk``, ``documents``, ``memories``, ``scratchpad``, ``feedback``, ``query`` or ``max_tokens``."""
    dropped: int
    """How many units were dropped."""
    of: int
    """How many units there were."""
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
    """One step of a player: the action, and the calls of the model that led to it."""

    action: str
    """The action text for the environment's ``step``."""
    messages: list[dict[str, str]] | None = None
    """The prompt of the model; ``None`` if no model was called."""
    response: str = ""
    """The model's text, or the action if no model was called."""
    completions: tuple[Completion, ...] = ()
    """Every completion of the step, in order."""
    dropped: tuple[Dropped, ...] = ()
    """What the prompts of the step lost to fit the model's context."""


@dataclass(slots=True)
class Usage:
    """Cost of an episode; :class:`~atommem_gym.agents.players.llm_player.LanguageModelPlayer` keeps count."""

    calls: int = 0
    """Completions of the model."""
    tries: int = 0
    """Requests that these took, failed ones included."""
    prompt_tokens: int = 0
    """Tokens of all prompts."""
    completion_tokens: int = 0
    """Tokens of all completions."""
    seconds: float = 0.0
    """Seconds in the model, added up over all calls."""
    cut_short: int = 0
    """Completions that ended at ``max_tokens`` or at the end of the context."""
    dropped: int = 0
    """Steps in which something was dropped from a prompt."""

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
    """Plays one episode at a time; a run that plays many at once has one player for each."""

    @property
    def name(self) -> str:
        """Name of the player, for tables and traces."""
        ...

    @property
    def settings(self) -> dict[str, Any]:
        """Its arguments as JSON values: players with equal names and settings play alike."""
        ...

    def reset(self, episode: Episode, seed: int) -> None:
        """Forget everything and get ready for an episode; called after the environment's reset, before the first act.

        Args:
            episode: The running episode. Its item holds the answers: only the oracles look at it.
            seed: Seed for this episode.
        """
        ...

    async def act(self, observation: Observation) -> Turn:
        """Choose the action for an observation (SPEC E10).

        Raises:
            LanguageModelError: the model gave no usable reply. The player is unchanged, so the call may be repeated.
        """
        ...


class ScriptedPlayer:
    """Makes a player of a scripted agent.

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
    """The names that :func:`make_player` takes, registered agents included; it takes ``"package.module:name"`` as well.

    >>> "tidy" in player_names() and "crud" in player_names()
    True
    """
    return (*AGENTS, *ROLES)


def player_keywords(name: str) -> dict[str, Any]:
    """The keyword arguments that a player demands of its environment; they win over the user's.

    >>> player_keywords("add_only")
    {'operations': ['create', 'read']}

    Args:
        name: Name of the player, as for :func:`make_player`.

    Raises:
        ConfigError: there is no such player.
    """
    _check(name)
    return dict(ROLES[name].env_keywords) if name in ROLES else {}


def make_player(name: str, model: LanguageModel | None = None, **options: Any) -> Callable[[], Player]:
    """A function without arguments that makes players of this name; make one for each episode that is under way.

    >>> make_player("keep_all")().name
    'keep_all'

    Args:
        name: One of :func:`player_names`, or ``"package.module:name"``, a custom agent.
        model: The model that all of them share; scripted agents need none.
        **options: Options of the player, such as ``temperature=0.7`` or ``answering={"max_tokens": 64}``.

    Raises:
        ConfigError: there is no such player, it needs a model, or an option is unknown or wrong.
    """
    _check(name)
    if name not in ROLES:
        if options:
            raise ConfigError(f"the scripted agent {name!r} has no options, but {', '.join(options)} was given")
        make_agent(name)  # raises now, not in the middle of the first episode, if something is wrong with it
        return lambda: ScriptedPlayer(make_agent(name))
    if model is None:
        raise ConfigError(f"the agent {name!r} needs a language model, such as an OpenAI-compatible server's URL")
    import importlib

    # Imported here, so that scripted agents do not load the players of language models.
    kind = getattr(importlib.import_module(f"atommem_gym.agents.players.{ROLES[name].module}"), ROLES[name].kind)

    def make() -> Player:
        player: Player = kind(name, model, **options)
        return player

    make()  # raises now, not in the middle of the first episode, if an option is wrong
    return make


def _check(name: str) -> None:
    if is_plugin("agent", name) or name in player_names():
        return
    check_colon("agent", name)
    raise ConfigError(
        f"unknown agent {name!r}; {suggestion(name, player_names())} (one of your own is 'package.module:name', or "
        "registered by a module that --import names)"
    )
