"""Players by name: scripted agents and language models behind one interface."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import gymnasium as gym
import pytest

import atommem_gym  # noqa: F401  (registers the ids)
from atommem_gym.agents import AGENTS, make_agent
from atommem_gym.agents.players.language_model import Completion, Sampling
from atommem_gym.agents.players.player import make_player, player_keywords, player_names
from atommem_gym.agents.players.roles import ROLES
from atommem_gym.config import EnvConfig
from atommem_gym.errors import ConfigError


class Model:
    name = "none"

    async def complete(self, messages: Any, sampling: Sampling, *, tools: Any = ()) -> Completion:
        raise AssertionError("not asked")

    async def aclose(self) -> None:
        pass


@pytest.mark.parametrize("name", AGENTS)
def test_a_scripted_player_acts_as_its_agent(name: str) -> None:
    def actions(reset: Any, act: Any) -> list[str]:
        env = gym.make("AtomMem-Synthetic-v0", num_docs=20, chunk_tokens=400, store="numpy")
        observation, _ = env.reset(options={"index": 1})
        reset(env.unwrapped.episode, 5)  # type: ignore[attr-defined]
        done: list[str] = []
        over = False
        while not over:
            done.append(act(observation))
            observation, _, terminated, truncated, _ = env.step(done[-1])
            over = terminated or truncated
        env.close()
        return done

    agent, player = make_agent(name), make_player(name)()
    played = actions(player.reset, lambda observation: asyncio.run(player.act(observation)).action)
    assert played == actions(agent.reset, agent.act)
    assert player.name == name
    assert player.settings == {}


def test_a_scripted_turn_has_no_messages() -> None:
    env = gym.make("AtomMem-Synthetic-v0", num_docs=20, store="numpy")
    observation, _ = env.reset(seed=0)
    player = make_player("keep_all")()
    player.reset(env.unwrapped.episode, 0)  # type: ignore[attr-defined]
    turn = asyncio.run(player.act(observation))
    assert (turn.messages, turn.completions, turn.dropped) == (None, (), ())
    assert turn.response == turn.action
    env.close()


def test_every_player_is_known_and_makes_a_new_one_each_time() -> None:
    assert set(player_names()) == set(AGENTS) | set(ROLES)
    for name in (name for name in player_names() if name != "mem0"):  # which is not always installed
        make = make_player(name, Model() if name in ROLES else None)
        first, second = make(), make()
        assert first is not second
        assert first.name == name
        assert json.loads(json.dumps(first.settings)) == second.settings


@pytest.mark.parametrize("name", player_names())
@pytest.mark.parametrize("preset", ["paper", "released"])
def test_what_a_player_needs_of_its_environment_is_valid(name: str, preset: str) -> None:
    config = EnvConfig.from_keywords({"preset": preset, **player_keywords(name)})
    for key, value in player_keywords(name).items():
        given = getattr(config, key)
        assert (list(given) if isinstance(given, tuple) else given) == value


def test_settings_tell_players_apart() -> None:
    def settings(**options: Any) -> dict[str, Any]:
        return make_player("crud", Model(), **options)().settings

    assert settings(temperature=0.5) == settings(temperature=0.5)
    assert settings(temperature=0.5) != settings(temperature=0.6)
    assert settings(reading={"max_tokens": 5})["reading"]["max_tokens"] == 5
    assert settings(reading={"max_tokens": 5})["answering"]["max_tokens"] == 1024
    assert settings()["model"] == "none"


def test_wrong_names_and_options_raise_when_the_maker_is_made() -> None:
    with pytest.raises(ConfigError, match="did you mean 'crud'"):
        make_player("crudd", Model())
    with pytest.raises(ConfigError, match="did you mean 'long_context'"):
        player_keywords("longcontext")
    with pytest.raises(ConfigError, match="needs a language model"):
        make_player("crud")
    with pytest.raises(ConfigError, match="has no options"):
        make_player("tidy", temperature=1)
    with pytest.raises(ConfigError, match="unknown sampling setting 'temprature'; did you mean 'temperature'"):
        make_player("crud", Model(), temprature=1)
    with pytest.raises(ConfigError, match="top_p=2"):
        make_player("crud", Model(), answering={"top_p": 2})
    with pytest.raises(ConfigError, match="context_tokens=0"):
        make_player("long_context", Model(), context_tokens=0)
    with pytest.raises(ConfigError, match="passage_tokens=-1"):
        make_player("retrieve_then_read", Model(), passage_tokens=-1)
