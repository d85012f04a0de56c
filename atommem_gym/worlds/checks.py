"""What generated worlds check alike: settings that contradict a world of their own making."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from atommem_gym.config import EnvConfig
from atommem_gym.errors import ConfigError, check_integer


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


def check_integers(options: object, **ranges: tuple[int, int]) -> None:
    """Check, in the order given, that each of these options is a whole number in its range, ends included.

    Raises:
        ConfigError: one is not.
    """
    for name, (least, most) in ranges.items():
        check_integer(name, getattr(options, name), least, most)


def check_shares(options: object, **most: float) -> None:
    """Check, in the order given, that each of these options is a number from 0 to what is given for it.

    Raises:
        ConfigError: one is not.
    """
    for name, end in most.items():
        check_share(name, getattr(options, name), end)


def kinds_by_share(shares: object, known: Sequence[str], example: Mapping[str, float]) -> dict[str, float]:
    """What ``question_kinds=`` says: the shares above 0 of some of the ``known`` kinds, divided by their sum.

    Raises:
        ConfigError: it is no mapping of such kinds to numbers from 0, or its sum is 0 or infinite.
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
    """Check that an option is a number from 0 to ``most``.

    Raises:
        ConfigError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= most:
        raise ConfigError(f"{name}={value!r} must be a number from 0 to {most:g}")
