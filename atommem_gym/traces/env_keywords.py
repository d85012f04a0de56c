"""The keyword arguments from which an environment can be made again if it has no Gymnasium id."""

from __future__ import annotations

from typing import Any

from atommem_gym.config import EnvConfig

CUSTOM_ID = "AtomMem-Custom"
"""The id in traces of environments that were made over custom items or whose id is not known."""


def config_keywords(config: EnvConfig) -> dict[str, Any]:
    """The keyword arguments of a configuration that its preset does not imply.

    A value that equals the package's default is kept if the preset implies another one. A task's own keyword
    arguments, which made the items, are left out, since an environment over given items does not take them.

    >>> config = EnvConfig.from_keywords({"preset": "released", "max_steps": None, "top_k": 6})
    >>> sorted(config_keywords(config).items())
    [('max_steps', None), ('preset', 'released')]
    >>> EnvConfig.from_keywords(config_keywords(config)) == config
    True
    """
    implied = EnvConfig.from_keywords({"preset": config.preset}).as_keywords()
    implied["preset"] = EnvConfig().preset
    return {name: value for name, value in config.as_keywords().items() if value != implied.get(name, value)}
