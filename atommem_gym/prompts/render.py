"""Loads a template, ours or the user's, and renders observations with it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from atommem_gym.actions import tool_schemas
from atommem_gym.actions.dialects import dialect_template
from atommem_gym.config import EnvConfig
from atommem_gym.errors import ConfigError
from atommem_gym.prompts.sandbox import FolderLoader, PromptEnvironment
from atommem_gym.trust import is_built_in_template

_WRONG = (jinja2.TemplateError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What a template raises that calculates with the wrong things."""
_EXTENDS = re.compile(r"\{%[-+]?\s*extends\b")


def check_template_file(path: str | Path) -> None:
    """Refuse a template that is not there.

    Raises:
        ConfigError: it is no built-in one and no file.
    """
    if not is_built_in_template(str(path)) and not Path(path).is_file():
        raise ConfigError(f"there is no prompt template {str(path)!r}; name a Jinja2 file, or 'shared_prefix'")


class PromptTemplate:
    """The prompt of an environment: a system text that depends on its configuration, a user text on the observation.

    A template is rendered twice, with ``part`` set to ``"system"`` and to ``"user"``. It sees every keyword argument
    of the environment, ``kinds`` (the operations there are), ``tool_schemas``, ``abstention`` (whether questions may
    have no answer), and for the user part every field of
    the observation. ``scratchpad`` is a flag in the system part and the text in the user part, where the flag is
    ``scratchpad_enabled``. A user's template may extend ours, ``{% extends "crud.j2" %}``, and include others of
    its own folder; a dialect of the user's own brings its template with it, which ``{% extends dialect ~ ".j2" %}``
    means too. Each runs in a sandbox, within bounds (:mod:`atommem_gym.prompts.sandbox`), and reads no other file.

    **Prompts that share their prefix.** ``"shared_prefix"`` in place of a file is the dialect's own prompt in another
    order: what all members of a group see at a step comes first (instructions, question, chunk), what each has made
    itself (scratchpad, memories, results, what is left to it) last. A server that caches prefixes computes the first
    part once a group. The texts are the same; a file of that name is meant by ``"./shared_prefix"``.

    Args:
        config: The environment's configuration.
        path: A Jinja2 template file that replaces the dialect's, or ``"shared_prefix"``; by default the one that
            ``config`` names, if any.

    Raises:
        ConfigError: the template cannot be read or is not valid Jinja2, or the dialect is of the user's own and its
            prompt has no blocks that could be put into another order.
    """

    def __init__(self, config: EnvConfig, path: str | Path | None = None) -> None:
        ours = jinja2.PackageLoader("atommem_gym", "prompts")
        path = config.template if path is None else path
        name = f"{config.dialect}.j2"
        loaders: list[jinja2.BaseLoader] = [ours]
        own = dialect_template(config.dialect)
        if own is not None:
            loaders.insert(0, jinja2.DictLoader({name: own}))
        if path is not None and is_built_in_template(str(path)):
            name = f"{path}.j2"
            if own is not None and not _EXTENDS.search(own):
                raise ConfigError(
                    f"template={str(path)!r} puts the blocks of base.j2 into another order, but the prompt of "
                    f"dialect={config.dialect!r} does not extend it; write a template of your own"
                )
        elif path is not None:
            check_template_file(path)
            name = Path(path).name
            loaders.insert(0, FolderLoader(Path(path)))
        loader = jinja2.ChoiceLoader(loaders)
        self._environment = PromptEnvironment(loader)
        try:
            self._template = self._environment.get_template(name)
        except (jinja2.TemplateError, OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"the prompt template {path or name} cannot be used: {type(error).__name__}: {error}"
            ) from error
        self._settings: dict[str, Any] = {
            **config.as_keywords(),
            "kinds": config.kinds,
            "tool_schemas": tool_schemas(config.kinds),
            "scratchpad_enabled": config.scratchpad,
            "abstention": config.abstention,
        }
        self.system = self._render(part="system")

    def user(self, observation: Mapping[str, Any]) -> str:
        """The user text of one observation."""
        return self._render(part="user", **observation)

    def text(self, observation: Mapping[str, Any]) -> str:
        """System and user text in one, for models without a chat format."""
        return f"{self.system}\n\n{self.user(observation)}"

    def messages(self, observation: Mapping[str, Any]) -> list[dict[str, str]]:
        """System and user text as chat messages."""
        return [{"role": "system", "content": self.system}, {"role": "user", "content": self.user(observation)}]

    def _render(self, **values: Any) -> str:
        try:
            return self._environment.render_bounded(self._template, {**self._settings, **values}).strip()
        except _WRONG as error:
            raise ConfigError(
                f"the prompt template {self._template.name} failed: {type(error).__name__}: {error}"
            ) from error
