"""The options of the needle family, and how ``difficulty=`` sets them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from atommem_gym.config import EnvConfig
from atommem_gym.errors import ConfigError, check_choice, check_integer

NEEDLE_KINDS: Final = ("single", "multi_key", "multi_value", "multi_query")
"""The values of ``kind=``."""
HAYSTACKS: Final = ("synthetic", "noise", "text")
"""The values of ``haystack=``."""
VALUE_TYPES: Final = ("numbers", "words", "uuids")
"""The values of ``value_type=``."""
MOST_TOKENS: Final = 10_000_000
MOST_NEEDLES: Final = 200
_SEVERAL: Final = ("multi_value", "multi_query")


@dataclass(frozen=True, kw_only=True, slots=True)
class NeedleOptions:
    """Keyword arguments of ``AtomMem-Needle-v0`` besides those of all environments.

    Raises:
        ConfigError: a value is out of its range, or contradicts another one.
    """

    kind: str = "single"
    """``"single"``: one key, one value. ``"multi_key"``: the same among needles of other keys. ``"multi_value"``: one
    key with ``needles`` values, all asked for at once. ``"multi_query"``: ``needles`` keys, a question for each."""
    haystack: str = "synthetic"
    """``"synthetic"``: documents of the synthetic world. ``"noise"``: pages of meaningless sentences. ``"text"``: the
    text of the file ``text``."""
    text: str | None = None
    """Path of a UTF-8 text file; each item starts at another place of it, and continues at its beginning."""
    length: int | tuple[int, ...] | None = None
    """Tokens of the stream, rounded to whole documents; ``None``: ``num_docs`` documents. A list makes a grid, see
    ``depth``."""
    depth: float | str | tuple[float, ...] = "random"
    """Where the needles asked for are, from 0 (beginning) to 1 (end): several are in neighbouring documents; with
    ``"random"`` each is anywhere. A list makes a grid: item ``i`` has depth ``i % depths`` and length
    ``i // depths % lengths``."""
    needles: int | None = None
    """Values of the key (``multi_value``) or keys (``multi_query``), 4 if ``None``; 1 for the other kinds."""
    distractors: int | None = None
    """Needles of other keys; ``None``: 3 with ``multi_key``, otherwise 0."""
    value_type: str = "numbers"
    """``"numbers"`` of seven digits, ``"words"`` (an invented word) or ``"uuids"``."""

    def __post_init__(self) -> None:
        for name, choices in (("kind", NEEDLE_KINDS), ("haystack", HAYSTACKS), ("value_type", VALUE_TYPES)):
            check_choice(name, getattr(self, name), choices)
        if (self.text is not None) != (self.haystack == "text"):
            raise ConfigError(
                f"text={self.text!r} contradicts haystack={self.haystack!r}: give haystack='text' and text='FILE'"
            )
        object.__setattr__(self, "needles", self._needles())
        object.__setattr__(self, "distractors", self._distractors())
        object.__setattr__(self, "length", _lengths(self.length))
        object.__setattr__(self, "depth", _depths(self.depth))

    @property
    def count(self) -> int:
        """``needles``, resolved: values of the key (``multi_value``) or keys of an episode (``multi_query``)."""
        assert self.needles is not None
        return self.needles

    @property
    def others(self) -> int:
        """``distractors``, resolved: needles of keys that are not asked for."""
        assert self.distractors is not None
        return self.distractors

    def place(self, index: int) -> tuple[int | None, float | None]:
        """Length in tokens and depth of item ``index``; ``None`` stands for ``num_docs`` and for a random depth."""
        depths = self.depth if isinstance(self.depth, tuple) else (self.depth,)
        lengths = self.length if isinstance(self.length, tuple) else (self.length,)
        depth = depths[index % len(depths)]
        return lengths[index // len(depths) % len(lengths)], None if isinstance(depth, str) else depth

    def _needles(self) -> int:
        default = 4 if self.kind in _SEVERAL else 1
        value = default if self.needles is None else self.needles
        check_integer("needles", value, 1, MOST_NEEDLES)
        if value > 1 and self.kind not in _SEVERAL:
            raise ConfigError(
                f"needles={value} contradicts kind={self.kind!r}; use kind='multi_value', 'multi_query' or distractors"
            )
        return value

    def _distractors(self) -> int:
        default = 3 if self.kind == "multi_key" else 0
        value = default if self.distractors is None else self.distractors
        check_integer("distractors", value, 0, MOST_NEEDLES)
        if not value and self.kind == "multi_key":
            raise ConfigError("distractors=0 contradicts kind='multi_key'; use kind='single'")
        return value


def at_difficulty(difficulty: float, config: EnvConfig) -> dict[str, Any]:
    """What ``difficulty=`` sets: 1,000 to 128,000 tokens (seven doublings), 2 to 8 needles or 1 to 16 distractors."""
    kind = config.options.kind
    knobs: dict[str, Any] = {"length": round(1000 * 2 ** (7 * difficulty))}
    if kind in _SEVERAL:
        knobs["needles"] = 2 + round(6 * difficulty)
    if kind == "multi_key":
        knobs["distractors"] = 1 + round(15 * difficulty)
    return knobs


def _lengths(value: object) -> int | tuple[int, ...] | None:
    if isinstance(value, (list, tuple)) and value:
        return tuple(check_integer("length", one, 1, MOST_TOKENS) for one in value)
    return None if value is None else check_integer("length", value, 1, MOST_TOKENS)


def _depths(value: object) -> float | str | tuple[float, ...]:
    if value == "random":
        return "random"
    values = value if isinstance(value, (list, tuple)) else (value,)
    numbers = [one for one in values if isinstance(one, (int, float)) and not isinstance(one, bool) and 0 <= one <= 1]
    if not values or len(numbers) < len(values):
        raise ConfigError(f"depth={value!r} must be a number from 0 to 1, a list of these, or 'random'")
    return tuple(map(float, numbers)) if isinstance(value, (list, tuple)) else float(numbers[0])
