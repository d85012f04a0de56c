"""Which of ``--option``, ``--model-option`` and ``--set`` a key belongs to, and the server of ``OPENAI_BASE_URL``."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Collection, Iterable, Mapping
from dataclasses import fields

from atommem_gym.agents.players.language_model import Sampling
from atommem_gym.agents.players.roles import ROLES
from atommem_gym.config import EnvConfig
from atommem_gym.errors import ConfigError
from atommem_gym.trust import BASE_URL, base_url, masked

_MODELS = {
    "openai_model": "OpenAIModel",
    "transformers_model": "TransformersModel",
}


def server_of_environment() -> str | None:
    """The URL of a model's server out of the environment.

    Raises:
        ConfigError: what stands there is no URL.
    """
    url = base_url()
    if url is not None and not url.startswith(("http://", "https://")):
        shown = masked(url).rpartition("@")[2]
        raise ConfigError(
            f"the environment variable {BASE_URL} holds {shown!r}, which is no URL with a scheme; write for "
            f"instance {BASE_URL}=http://localhost:8000/v1, or give --model"
        )
    return url


def check_places(given: Mapping[str, Iterable[str]], own: Collection[str] = (), command: str = "") -> None:
    """Refuse keys that stand behind the wrong one of the three options.

    Args:
        given: The keys behind ``--option``, ``--model-option`` and ``--set``.
        own: Keyword arguments of the environment's task.
        command: Which command has the other options, if this one has not.

    Raises:
        ConfigError: one belongs to another option; the message says to which.

    >>> check_places({"--option": ["dtype"]})
    Traceback (most recent call last):
    atommem_gym.errors.ConfigError: --option dtype=…: dtype is a setting of the model; write --model-option dtype=…
    """
    known = {option: names() for option, (_, names) in _PLACES.items()}
    for option, keys in given.items():
        for key in keys:
            if key in known[option] or key in own:
                continue
            for other, (what, _) in _PLACES.items():
                if key in known[other]:
                    raise ConfigError(f"{option} {key}=…: {key} is {what}; write {other} {key}=…{command}")


def places_of(key: str) -> list[tuple[str, str]]:
    """Which of the three options take a key, and what it is there.

    >>> places_of("temperature")
    [('--option', 'an option of agents with a language model')]
    """
    return [(option, what) for option, (what, names) in _PLACES.items() if key in names()]


def _by_keyword(module: str, kind: str) -> list[str]:
    made = getattr(importlib.import_module(f"atommem_gym.agents.players.{module}"), kind)
    parameters = inspect.signature(made).parameters.values()
    return [one.name for one in parameters if one.kind is inspect.Parameter.KEYWORD_ONLY]


def _of_agents() -> set[str]:
    named = {name for role in ROLES.values() for name in _by_keyword(role.module, role.kind)}
    return {*named, *_by_keyword("llm_player", "LanguageModelPlayer"), *(one.name for one in fields(Sampling))}


def _of_models() -> set[str]:
    return {name for module, kind in _MODELS.items() for name in _by_keyword(module, kind)}


def _of_environments() -> set[str]:
    return {one.name for one in fields(EnvConfig)}


_PLACES = {
    "--option": ("an option of agents with a language model", _of_agents),
    "--model-option": ("a setting of the model", _of_models),
    "--set": ("a keyword argument of the environment", _of_environments),
}
