"""Spaces of text: any string up to a length, and actions of a dialect (SPEC A7, E10)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
from gymnasium import spaces
from gymnasium.spaces import utils as space_utils
from gymnasium.vector.utils import create_shared_memory

from atommem_gym.actions.dialects import format_action, load_dialect
from atommem_gym.actions.operations import KINDS, Invalid, Kind, operation
from atommem_gym.errors import ConfigError

_WORDS = tuple(
    "amber basin cedar delta ember fjord grove harbour island juniper kiln lantern meadow north orchard prairie quarry "  # noqa: SIM905
    "river summit thicket upland valley willow yarrow zephyr".split()
)


class UnicodeText(spaces.Text):
    r"""Every ``str`` of at most ``max_length`` characters; membership is decided by length alone.

    ``gymnasium.spaces.Text`` knows a finite charset, looks at every character (1 ms for 16 kB) and draws samples of
    up to ``max_length`` characters; text of documents needs none of it. Samples here are a few words.

    Args:
        max_length: Characters, at least 0.
        seed: Of the samples.

    Raises:
        ConfigError: ``max_length`` is negative.

    >>> UnicodeText(10).contains("né ☃\n")
    True
    """

    def __init__(self, max_length: int, *, seed: int | np.random.Generator | None = None) -> None:
        if max_length < 0:
            raise ConfigError(f"max_length={max_length} must be at least 0")
        super().__init__(max_length, min_length=0, charset=" ", seed=seed)

    def contains(self, x: Any) -> bool:
        """Whether ``x`` is a string of at most ``max_length`` characters."""
        return isinstance(x, str) and len(x) <= self.max_length

    def sample(self, mask: Any = None, probability: Any = None) -> str:
        """A few random words (masks are not supported)."""
        if mask is not None or probability is not None:
            raise ValueError("UnicodeText.sample takes neither mask nor probability: its strings have no charset")
        return self._words()[: self.max_length]

    def _words(self) -> str:
        count = int(self.np_random.integers(1, 6))
        return " ".join(_WORDS[int(i)] for i in self.np_random.integers(len(_WORDS), size=count))

    def __eq__(self, other: object, /) -> bool:
        """Two spaces are equal if they are of one class and length."""
        return type(other) is type(self) and isinstance(other, UnicodeText) and other.max_length == self.max_length

    __hash__ = None  # type: ignore[assignment]

    def __deepcopy__(self, memo: dict[int, Any]) -> UnicodeText:
        """A space with a generator of its own; a vector environment makes some for each of its members."""
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        twin._np_random = copy.deepcopy(self._np_random, memo)
        return twin

    @property
    def is_np_flattenable(self) -> bool:
        """Strings without a charset do not flatten to arrays."""
        return False

    def __repr__(self) -> str:
        """The class and the length."""
        return f"{type(self).__name__}({self.max_length})"


# Gymnasium would make arrays of one number for every character that a text might have: 8 GiB for each field.
@space_utils.flatdim.register(UnicodeText)
@space_utils.flatten.register(UnicodeText)
@space_utils.flatten_space.register(UnicodeText)
@space_utils.unflatten.register(UnicodeText)
def _no_array(space: UnicodeText, *args: object) -> NoReturn:  # type: ignore[misc]  # two are for any Space[T]
    raise ConfigError(
        f"{space} holds texts of any characters, which have no form as an array, so it cannot be flattened; a "
        "language model takes the texts (PromptObservation, ChatObservation), and for a network there are numbers: "
        "MacroActions with EmbeddingObservation, in atommem_gym.envs.macro"
    )


@create_shared_memory.register(UnicodeText)
def no_shared_memory(space: spaces.Space[Any], *args: object, **kwargs: object) -> NoReturn:
    """What ``create_shared_memory`` does for spaces of texts.

    Raises:
        ConfigError: always; the message says what to type.
    """
    raise ConfigError(
        f"{space} holds texts of any characters, which do not fit into shared memory; say shared_memory=False: "
        "gymnasium.make_vec(…, vectorization_mode='async', vector_kwargs={'shared_memory': False}), or "
        "AsyncVectorEnv([…], shared_memory=False). Without vectorization_mode, make_vec makes one batched environment, "
        "which is faster"
    )


class ActionText(UnicodeText):
    """Actions: any text up to ``max_length`` characters; samples are well-formed actions of a dialect.

    Raises:
        ConfigError: there is no such dialect, or ``kinds`` is empty or names no operation.

    >>> space = ActionText(200, dialect="crud", seed=3)
    >>> action = space.sample()
    >>> action in space and action == ActionText(200, dialect="crud", seed=3).sample()
    True
    """

    def __init__(
        self,
        max_length: int,
        *,
        dialect: str = "crud",
        kinds: Sequence[Kind] = KINDS,
        seed: int | np.random.Generator | None = None,
    ) -> None:
        super().__init__(max_length, seed=seed)
        load_dialect(dialect)
        unknown = [kind for kind in kinds if kind not in KINDS]
        if unknown or not kinds:
            raise ConfigError(f"kinds={kinds!r} must be at least one of {', '.join(KINDS)} and nothing else")
        self.dialect = dialect
        self.kinds = tuple(kinds)

    def sample(self, mask: Any = None, probability: Any = None) -> str:
        """One to three random operations (masks are not supported); as many of them as fit ``max_length``.

        Where none of them fits there is a single one with one word; the empty action only where that is too long too.
        """
        if mask is not None or probability is not None:
            raise ValueError("ActionText.sample takes neither mask nor probability: its strings have no charset")
        action = ""
        for _ in range(int(self.np_random.integers(1, 4))):
            kind = self.kinds[int(self.np_random.integers(len(self.kinds)))]
            longer = f"{action}\n{self._operation(kind, self._words())}".strip()
            if len(longer) <= self.max_length:
                action = longer
        return action or self._short_operation()

    def _short_operation(self) -> str:
        word = min(_WORDS, key=len)
        for i in self.np_random.permutation(len(self.kinds)):
            action = self._operation(self.kinds[int(i)], word)
            if len(action) <= self.max_length:
                return action
        return ""

    def _operation(self, kind: Kind, text: str) -> str:
        made = operation(kind, text, int(self.np_random.integers(1, 9)))
        assert not isinstance(made, Invalid)
        return format_action([made], self.dialect)

    def __eq__(self, other: object, /) -> bool:
        """Two action spaces are equal if length, dialect and operations are."""
        return (
            super().__eq__(other)
            and isinstance(other, ActionText)
            and (other.dialect, other.kinds) == (self.dialect, self.kinds)
        )

    def __repr__(self) -> str:
        """The class, the length, the dialect and the operations that are drawn."""
        return f"ActionText({self.max_length}, dialect={self.dialect!r}, kinds={self.kinds!r})"
