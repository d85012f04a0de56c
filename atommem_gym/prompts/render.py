"""Loads a prompt template, a built-in or a custom one, and renders observations with it."""

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
"""The errors that a wrong template raises."""
_EXTENDS = re.compile(r"\{%[-+]?\s*extends\b")


def check_template_file(path: str | Path) -> None:
    """Refuse a template that is not there.

    Raises:
        ConfigError: it is no built-in one and no file.
    """
    if not is_built_in_template(str(path)) and not Path(path).is_file():
        raise ConfigError(f"there is no prompt template {str(path)!r}; name a Jinja2 file, or 'shared_prefix'")


class PromptTemplate:
    """The prompt of an environment: a system text, which depends on its configuration, and a user text per observation.

    A template is rendered twice, with ``part`` set to ``"system"`` and to ``"user"``. Its variables are every keyword
    argument of the environment, ``kinds`` (the kinds of operations that exist), ``tool_schemas``, ``abstention``
    (whether questions may have no answer), and in the user part every field of the observation. ``scratchpad`` is a
    flag in the system part and the text in the user part, where the flag is ``scratchpad_enabled``.

    A custom template may extend a built-in one, ``{% extends "crud.j2" %}``, and include other templates of its folder.
    A custom dialect has its own template, which ``{% extends dialect ~ ".j2" %}`` extends. Every template runs in a
    sandbox, within bounds (:mod:`atommem_gym.prompts.sandbox`), and reads no other file.

    **Prompts that share their prefix.** ``"shared_prefix"`` in place of a file is the dialect's prompt in another
    order: first what all sessions of a group see at a step (instructions, question, chunk), then what each session has
    made itself (scratchpad, memories, results, steps left). A server with a prefix cache computes the first part once
    per group. The texts are the same. A file of that name is written ``"./shared_prefix"``.

    Args:
        config: The environment's keyword arguments.
        path: A Jinja2 template file that replaces the dialect's template, or ``"shared_prefix"``; by default
            ``config.template``, if it is set.

    Raises:
        ConfigError: the template cannot be read or is not valid Jinja2; or ``"shared_prefix"`` is named for a custom
            dialect whose template does not extend ``base.j2``.
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
        """The user text for an observation.

        Raises:
            ConfigError: the template fails on this observation, or exceeds the bounds of the sandbox.
        """
        return self._render(part="user", **observation)

    def text(self, observation: Mapping[str, Any]) -> str:
        """System and user text in one string, for models without a chat format; raises as :meth:`user`."""
        return f"{self.system}\n\n{self.user(observation)}"

    def messages(self, observation: Mapping[str, Any]) -> list[dict[str, str]]:
        """System and user text as two chat messages; raises as :meth:`user`."""
        return [{"role": "system", "content": self.system}, {"role": "user", "content": self.user(observation)}]

    def _render(self, **values: Any) -> str:
        try:
            return self._environment.render_bounded(self._template, {**self._settings, **values}).strip()
        except _WRONG as error:
            raise ConfigError(
                f"the prompt template {self._template.name} failed: {type(error).__name__}: {error}"
            ) from error
