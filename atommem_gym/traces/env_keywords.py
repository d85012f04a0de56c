"""What makes an environment again where no Gymnasium id does: the keyword arguments that its config stands for."""

from __future__ import annotations

from typing import Any

from atommem_gym.config import EnvConfig

CUSTOM_ID = "AtomMem-Custom"
"""In place of a Gymnasium id where an environment was made over custom items, or its id is not known."""


def config_keywords(config: EnvConfig) -> dict[str, Any]:
    """The keyword arguments of a config, without those that are as its preset has them anyway.

    An explicit value that equals the package's default is kept where the preset says otherwise. A task's own keyword
    arguments, which made the items, are left out: an environment over given items knows none of them.

    >>> config = EnvConfig.from_keywords({"preset": "released", "max_steps": None, "top_k": 6})
    >>> sorted(config_keywords(config).items())
    [('max_steps', None), ('preset', 'released')]
    >>> EnvConfig.from_keywords(config_keywords(config)) == config
    True
    """
    implied = EnvConfig.from_keywords({"preset": config.preset}).as_keywords()
    implied["preset"] = EnvConfig().preset
    return {name: value for name, value in config.as_keywords().items() if value != implied.get(name, value)}
