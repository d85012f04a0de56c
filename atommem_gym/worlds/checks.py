"""What generated worlds check alike: settings that contradict a world of their own making."""

from __future__ import annotations

from atommem_gym.config import EnvConfig
from atommem_gym.errors import ConfigError


def check_generated(config: EnvConfig, env_id: str, why: str) -> None:
    """Check that ``source`` and ``order`` are as they were, or ``order="given"``, which changes nothing here.

    ``why`` says what the order of documents is instead.

    Raises:
        ConfigError: ``env_id`` was given records, or another order.
    """
    if config.source != "synthetic":
        raise ConfigError(f"source={config.source!r} contradicts {env_id}, which generates its documents; leave it out")
    if config.order not in ("shuffled", "given"):
        raise ConfigError(f"order={config.order!r} contradicts {env_id}: {why}; leave it out")


def check_share(name: str, value: object, most: float) -> None:
    """Check that an option is a number from 0 to ``most``.

    Raises:
        ConfigError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= most:
        raise ConfigError(f"{name}={value!r} must be a number from 0 to {most:g}")
