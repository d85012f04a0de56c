"""Reward shaping as small pure objects, so that all forms of the environment add the same numbers (SPEC R4)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Protocol, TypeAlias

from atommem_gym.episode import Episode
from atommem_gym.errors import ConfigError, suggestion
from atommem_gym.step import REASONS

FORMAT_REASONS = ("empty", "unclosed", "unknown_tag", "bad_id", "bad_json", "too_long")
"""Reason codes that are about the format of an action, not about what it asks for."""


class Shaping(Protocol):
    """A term added to the reward of each step; any callable of this form."""

    def __call__(self, info: Mapping[str, Any], episode: Episode) -> float:
        """The term for the step that returned ``info``.

        Args:
            info: The ``info`` of one environment, not batched.
            episode: The episode after the step; if it ended, not the one that an autoreset began.
        """
        ...


ShapingSpec: TypeAlias = Mapping[str, Mapping[str, Any]]
"""The JSON form: names with their arguments, for example ``{"MemoryCost": {"per_operation": 0.01}}``."""


@dataclass(frozen=True)
class _Named:
    """The base of the built-in terms: it checks their numbers."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type == "float" and (
                isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value)
            ):
                raise ConfigError(f"{type(self).__name__}: {field.name}={value!r} must be a finite number")


@dataclass(frozen=True)
class MemoryCost(_Named):
    """A cost of memory: a rent for each live entry at each step, and a price for each executed operation.

    >>> cost = MemoryCost(per_entry=0.01, per_operation=0.1)
    >>> cost({"applied": {"create": 2, "answer": 1}, "entries": 5}, None)
    -0.25
    """

    per_entry: float = 0.0
    """The cost of each entry that is live after the step."""
    per_operation: float = 0.0
    """The cost of each executed create, read, update, delete and scratchpad; answers are free."""

    def __call__(self, info: Mapping[str, Any], episode: Episode) -> float:
        """Minus rent and prices."""
        operations = sum(count for kind, count in info["applied"].items() if kind != "answer")
        return -float(self.per_entry * info["entries"] + self.per_operation * operations)


@dataclass(frozen=True)
class EvidenceReward(_Named):
    """A reward for evidence: ``weight`` times the increase of the evidence recall (SPEC E12, lenient).

    Over an episode it adds ``weight`` times ``episode_metrics["evidence_recall"]``, minus what the reset showed. It
    uses the gold evidence, so it is for training only.
    """

    weight: float = 0.5
    """The reward for complete evidence."""

    def __call__(self, info: Mapping[str, Any], episode: Episode) -> float:
        """The weight times the increase of the recall in this step."""
        return self.weight * episode.state.recall_gained


@dataclass(frozen=True)
class FormatPenalty(_Named):
    """A penalty for each operation that was rejected because of its format.

    >>> FormatPenalty(0.1)({"rejected": [{"reason": "unclosed"}, {"reason": "not_yet"}]}, None)
    -0.1
    """

    penalty: float = 0.1
    """The penalty per operation."""
    reasons: tuple[str, ...] = FORMAT_REASONS
    """The reason codes that count; by default those of malformed text."""

    def __post_init__(self) -> None:
        super().__post_init__()
        given: object = self.reasons
        if not isinstance(given, list | tuple):
            raise ConfigError(f"FormatPenalty: reasons={given!r} must be a list of reason codes")
        # JSON has no tuples.
        object.__setattr__(self, "reasons", tuple(self.reasons))
        unknown = [reason for reason in self.reasons if reason not in REASONS]
        if unknown:
            raise ConfigError(f"FormatPenalty: there is no reason {unknown[0]!r}; known are {', '.join(REASONS)}")

    def __call__(self, info: Mapping[str, Any], episode: Episode) -> float:
        """Minus the penalties."""
        return -self.penalty * sum(record["reason"] in self.reasons for record in info["rejected"])


SHAPINGS: dict[str, type[_Named]] = {kind.__name__: kind for kind in (MemoryCost, EvidenceReward, FormatPenalty)}
"""The built-in terms by their names in the JSON form."""


def shaped(reward: float, shaping: Iterable[Shaping], info: Mapping[str, Any], episode: Episode) -> float:
    """The reward of one step plus all shaping terms, added in order (the order decides the last bit)."""
    for one in shaping:
        reward += one(info, episode)
    return reward


def load_shaping(spec: ShapingSpec | Iterable[Shaping]) -> tuple[Shaping, ...]:
    """Make shaping from its JSON form.

    Args:
        spec: Names with their arguments, as below, or callables ``(info, episode) -> float``, which are returned as
            they are.

    >>> load_shaping({"MemoryCost": {"per_operation": 0.01}, "FormatPenalty": {}})[0]
    MemoryCost(per_entry=0.0, per_operation=0.01)

    Raises:
        ConfigError: there is no shaping of a name, it has no such argument, or a value is wrong.
    """
    if not isinstance(spec, Mapping):
        given: object = spec
        ready = tuple(spec) if isinstance(given, Iterable) else ()
        if not isinstance(given, Iterable) or not all(callable(one) for one in ready):
            raise ConfigError(f"shaping={spec!r} must be {{name: arguments}} or callables (info, episode) -> float")
        return ready
    return tuple(_made(name, arguments) for name, arguments in spec.items())


def dump_shaping(shaping: Iterable[Shaping]) -> dict[str, dict[str, Any]]:
    """The JSON form of built-in shaping: ``load_shaping(dump_shaping(s)) == s``.

    Raises:
        ConfigError: one is not built in, or occurs twice.
    """
    spec: dict[str, dict[str, Any]] = {}
    for one in shaping:
        name = type(one).__name__
        if not isinstance(one, _Named) or name in spec:
            why = "occurs twice" if name in spec else "is not built in"
            raise ConfigError(f"{one!r} {why}, so this shaping has no JSON form; known are {', '.join(SHAPINGS)}")
        spec[name] = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(one).items()}
    return spec


def _made(name: str, arguments: object) -> Shaping:
    if name not in SHAPINGS:
        raise ConfigError(f"unknown shaping {name!r}; {suggestion(name, SHAPINGS)}")
    kind = SHAPINGS[name]
    if not isinstance(arguments, Mapping):
        raise ConfigError(f"shaping {name!r}: its arguments {arguments!r} must be an object, such as {{}}")
    known = [field.name for field in fields(kind)]
    unknown = sorted(str(key) for key in arguments if key not in known)
    if unknown:
        raise ConfigError(f"shaping {name!r} has no argument {unknown[0]!r}; known are {', '.join(known)}")
    made: Any = kind(**arguments)
    shaping: Shaping = made
    return shaping
