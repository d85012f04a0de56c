"""What users can type: ids and their specs, keyword arguments, options, manual pages, signatures."""

from __future__ import annotations

import inspect
import json
import re
from dataclasses import fields
from typing import Any

import gymnasium as gym

import atommem_gym  # noqa: F401  (registers the ids)
from net.commands import COMMANDS
from net.paths import PUBLIC, public
from net.recordings import digest

_SPEC = (
    "id",
    "entry_point",
    "vector_entry_point",
    "reward_threshold",
    "nondeterministic",
    "max_episode_steps",
    "order_enforce",
    "disable_env_checker",
    "kwargs",
    "additional_wrappers",
)
"""Fields of a spec that the package decides on; another Gymnasium may have further ones."""


def surface(help_pages: str) -> str:
    """All of it as JSON.

    Args:
        help_pages: The transcript of ``--help`` of every command.
    """
    found = {
        "specs": specs(),
        "keywords": keywords(),
        "keywords of each id": resolved_keywords(),
        "options": options(help_pages),
        "manual pages": manual_pages(),
        "signatures": signatures(),
    }
    return json.dumps(found, indent=1, ensure_ascii=False)


def generated_ids() -> list[str]:
    """The ids that need no file: contexts of data sets (SPEC E14) come from files alone."""
    contexts = {task.env_id for task in public("TASKS").values() if task.contexts and task.dataset}
    return [name for name in env_ids() if name not in contexts]


def _counted() -> set[str]:
    """The ids whose documents are counted; a context comes whole."""
    return {task.env_id for task in public("TASKS").values() if not task.contexts}


def env_ids() -> list[str]:
    return sorted(name for name in gym.registry if name.startswith("AtomMem-"))


def specs() -> dict[str, Any]:
    """``env.spec.to_json()`` of every id; HotpotQA and its kind are made over generated records."""
    found = {}
    for name in generated_ids():
        size = {"num_docs": 40} if name in _counted() else {}
        env = gym.make(name, source="synthetic", **size, store="numpy")
        assert env.spec is not None
        spec = json.loads(env.spec.to_json())
        env.close()
        found[name] = {field: spec[field] for field in _SPEC}
        found[name]["registered kwargs"] = json.loads(gym.spec(name).to_json())["kwargs"]
    return found


def resolved_keywords() -> dict[str, dict[str, str]]:
    """Every keyword argument of every id, the task's own among them, with what it is if nobody says otherwise."""
    found = {}
    for name in generated_ids():
        env: Any = gym.make(name, source="synthetic", store="numpy")
        found[name] = {key: repr(value) for key, value in env.unwrapped.config.as_keywords().items()}
        env.close()
    return found


def keywords() -> dict[str, str]:
    """Every keyword argument of ``EnvConfig`` with its default."""
    config = public("EnvConfig")
    return {field.name: repr(getattr(config(), field.name)) for field in fields(config)}


def options(help_pages: str) -> dict[str, list[str]]:
    """Names of the options of every command."""
    found = {}
    for command in COMMANDS:
        title = " ".join(["$ atommem", *command, "--help"])
        page = help_pages.split(f"{title}\n", 1)[1].split("\n$ atommem", 1)[0]
        lines = re.findall(r"^  (-.*?)(?:  |$)", page, re.MULTILINE)
        found[" ".join(command)] = [name for line in lines for name in re.findall(r"(?<![\w-])--?[a-z][\w-]*", line)]
    return found


def manual_pages() -> dict[str, str]:
    """A hash of the docstring of every environment class."""
    names = [name for name in PUBLIC["atommem_gym.envs"] if name.endswith("Env")]
    # Python 3.13 takes the indentation away when it compiles; cleandoc does so everywhere.
    return {name: digest(inspect.cleandoc(public(f"atommem_gym.envs:{name}").__doc__)) for name in names}


def signatures() -> dict[str, str]:
    """Parameters and plain defaults of what ``atommem_gym.envs`` and ``atommem_gym.testing`` offer."""
    found = {}
    for module in ("atommem_gym.envs", "atommem_gym.testing"):
        for name in PUBLIC[module]:
            one = public(f"{module}:{name}")
            if callable(one):
                parameters = inspect.signature(one).parameters.values()
                found[name] = ", ".join(map(_parameter, parameters))
    return found


def _parameter(parameter: inspect.Parameter) -> str:
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
    only = " (by keyword)" if parameter.kind is inspect.Parameter.KEYWORD_ONLY else ""
    plain = parameter.default is None or isinstance(parameter.default, (str, bool, int, float, tuple))
    default = f"={parameter.default!r}" if plain else "=…"
    return f"{stars}{parameter.name}{'' if parameter.default is parameter.empty else default}{only}"
