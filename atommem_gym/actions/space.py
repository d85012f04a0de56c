"""Spaces of texts: any string up to a length, and actions in a dialect (SPEC A7, E10)."""

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
    r"""Every ``str`` of at most ``max_length`` characters.

    Unlike ``gymnasium.spaces.Text`` it has no charset, so membership depends on the length alone and costs the same for
    a text of any length. Samples are a few words.

    Args:
        max_length: The most characters of a text, at least 0.
        seed: Seeds the samples.

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
        """Whether both spaces have the same class and length."""
        return type(other) is type(self) and isinstance(other, UnicodeText) and other.max_length == self.max_length

    __hash__ = None  # type: ignore[assignment]

    def __deepcopy__(self, memo: dict[int, Any]) -> UnicodeText:
        """A copy with its own generator; a vector environment makes one for each of its members."""
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        twin._np_random = copy.deepcopy(self._np_random, memo)
        return twin

    @property
    def is_np_flattenable(self) -> bool:
        """``False``: strings without a charset do not flatten to arrays."""
        return False

    def __repr__(self) -> str:
        """The class and the length."""
        return f"{type(self).__name__}({self.max_length})"


# Gymnasium would make arrays with a number for each possible character of a text: 8 GiB for each field.
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
    """Refuse shared memory for spaces of texts.

    Raises:
        ConfigError: always; the message names the alternatives.
    """
    raise ConfigError(
        f"{space} holds texts of any characters, which do not fit into shared memory; say shared_memory=False: "
        "gymnasium.make_vec(…, vectorization_mode='async', vector_kwargs={'shared_memory': False}), or "
        "AsyncVectorEnv([…], shared_memory=False). Without vectorization_mode, make_vec makes one batched environment, "
        "which is faster"
    )


class ActionText(UnicodeText):
    """Actions: any text of at most ``max_length`` characters; samples are well-formed actions in a dialect.

    Raises:
        ConfigError: there is no such dialect, or ``kinds`` is empty or holds something that is not an operation.

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
        """One to three random operations, or as many of them as fit ``max_length`` (masks are not supported).

        If none of them fits, the sample is one operation with one word; if that is too long as well, the empty action.
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
        """Whether both spaces have the same length, dialect and operations."""
        return (
            super().__eq__(other)
            and isinstance(other, ActionText)
            and (other.dialect, other.kinds) == (self.dialect, self.kinds)
        )

    def __repr__(self) -> str:
        """The class, the length, the dialect and the operations of samples."""
        return f"ActionText({self.max_length}, dialect={self.dialect!r}, kinds={self.kinds!r})"
