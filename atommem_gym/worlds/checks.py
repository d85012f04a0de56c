"""Checks that all generated worlds share: keyword arguments, ranges and shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from atommem_gym.config import EnvConfig
from atommem_gym.errors import ConfigError, check_integer


def check_generated(config: EnvConfig, env_id: str, why: str) -> None:
    """Check that ``source`` and ``order`` have their defaults; ``order="given"`` is accepted too and changes nothing.

    Args:
        config: The configuration.
        env_id: The environment, for messages.
        why: What decides the order of documents instead, for messages.

    Raises:
        ConfigError: another source or another order was given.
    """
    if config.source != "synthetic":
        raise ConfigError(f"source={config.source!r} contradicts {env_id}, which generates its documents; leave it out")
    if config.order not in ("shuffled", "given"):
        raise ConfigError(f"order={config.order!r} contradicts {env_id}: {why}; leave it out")


def check_integers(options: object, **ranges: tuple[int, int]) -> None:
    """Check that options are integers in their ranges, ends included.

    Args:
        options: An object with the options as attributes.
        ranges: The least and the greatest value of each option; checked in this order.

    Raises:
        ConfigError: one is not.
    """
    for name, (least, most) in ranges.items():
        check_integer(name, getattr(options, name), least, most)


def check_shares(options: object, **most: float) -> None:
    """Check that options are numbers from 0 to their maximum.

    Args:
        options: An object with the options as attributes.
        most: The greatest value of each option; checked in this order.

    Raises:
        ConfigError: one is not.
    """
    for name, end in most.items():
        check_share(name, getattr(options, name), end)


def kinds_by_share(shares: object, known: Sequence[str], example: Mapping[str, float]) -> dict[str, float]:
    """Check ``question_kinds=`` and return the shares above 0, divided by their sum.

    Args:
        shares: The value of ``question_kinds=``: kinds to numbers from 0.
        known: The kinds there are, in the order of the result.
        example: A valid value, for messages.

    Raises:
        ConfigError: it is not a mapping of known kinds to numbers from 0, or its sum is 0 or infinite.
    """
    if not isinstance(shares, Mapping) or not shares:
        raise ConfigError(f"question_kinds={shares!r} must give shares, such as {dict(example)}")
    for name, share in shares.items():
        if name not in known:
            raise ConfigError(f"question_kinds holds {name!r}; known are {', '.join(known)}")
        check_share(f"question_kinds[{name!r}]", share, float("inf"))
    total = sum(shares.values())
    if not 0 < total < float("inf"):
        raise ConfigError(f"question_kinds={dict(shares)} adds up to {total}; give some kind a share above 0")
    return {name: float(shares[name]) / total for name in known if shares.get(name)}


def check_share(name: str, value: object, most: float) -> None:
    """Check that the option ``name`` has a ``value`` that is a number from 0 to ``most``.

    Raises:
        ConfigError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= most:
        raise ConfigError(f"{name}={value!r} must be a number from 0 to {most:g}")
