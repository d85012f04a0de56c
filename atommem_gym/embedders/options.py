"""The settings of an embedder that ``embedder_options=`` takes."""

from __future__ import annotations

import hashlib
import re
from dataclasses import asdict, dataclass, fields
from typing import Any

from atommem_gym.errors import ConfigError, check_integer, options_by_name

_LARGEST = 10**6
"""No model's vectors are longer, nor are the texts that it reads."""


@dataclass(frozen=True, slots=True)
class EmbedderOptions:
    """Settings of an embedder; ``None`` leaves a setting to the model. Each setting given changes the embedder's name.

    >>> EmbedderOptions.from_mapping({"dimensions": 256})
    EmbedderOptions(instruction=None, dimensions=256, max_tokens=None)
    """

    instruction: str | None = None
    """Text before every query, ``""`` for none. Default: what the model was released with, if known."""
    dimensions: int | None = None
    """Keep only the first numbers of a vector, normalised again, for models trained for that (Matryoshka)."""
    max_tokens: int | None = None
    """Cut a text to this many tokens of the model; for a server, the length to which it silently cuts texts."""

    @classmethod
    def from_mapping(cls, given: object) -> EmbedderOptions:
        """Options from a mapping of their names to values; ``None`` sets none.

        Raises:
            ConfigError: an option is unknown or has an invalid value.
        """
        known = [field.name for field in fields(cls)]
        options = cls(**options_by_name("embedder_options", given, known, "{'dimensions': 256}"))
        if not (options.instruction is None or isinstance(options.instruction, str)):
            raise ConfigError(f"the embedder option instruction={options.instruction!r:.200} must be a text, or None")
        for name, value in (("dimensions", options.dimensions), ("max_tokens", options.max_tokens)):
            if value is not None:
                check_integer(f"the embedder option {name}", value, 1, or_else=", or None")
                if value > _LARGEST:
                    raise ConfigError(
                        f"the embedder option {name}={value!r:.40} is too large; it may be {_LARGEST} at most, or None"
                    )
        return options

    def given(self) -> dict[str, Any]:
        """The options that are not ``None``."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def named(self, name: str, instruction: str | None) -> str:
        """The name of an embedder with these options: every setting that changes its vectors changes its name.

        Args:
            name: The name of the model without options.
            instruction: The text before queries; ``None`` if it is the model's own.
        """
        if instruction is not None:
            name += f":query-{hashlib.blake2b(instruction.encode(errors='replace'), digest_size=4).hexdigest()}"
        if self.dimensions is not None:
            name += f":dimensions-{self.dimensions}"
        if self.max_tokens is not None:
            name += f":reads-{self.max_tokens}"
        return name


def split_name(recorded: str) -> tuple[str, dict[str, Any]]:
    """Split a name that :meth:`EmbedderOptions.named` made into the name of the model and the options.

    The instruction is left out, since the name holds only its hash.

    >>> split_name("minilm:query-0a1b2c3d:dimensions-128:reads-64")
    ('minilm', {'dimensions': 128, 'max_tokens': 64})
    """
    found = _NAMED.fullmatch(recorded)
    if found is None:
        return recorded, {}
    numbers = {"dimensions": found["dimensions"], "max_tokens": found["reads"]}
    return found["name"], {option: int(number) for option, number in numbers.items() if number is not None}


_NAMED = re.compile(
    r"(?P<name>.+?)(?::query-[0-9a-f]{8})?(?::dimensions-(?P<dimensions>\d{1,9}))?(?::reads-(?P<reads>\d{1,9}))?",
    re.DOTALL,
)
