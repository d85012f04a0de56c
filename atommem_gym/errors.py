"""Every exception that the package raises on purpose; each message names the value, the rule and the remedy.

What many of them say alike has its one wording here: :func:`suggestion`, :func:`check_choice`, :func:`check_integer`.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Iterable, Mapping
from numbers import Integral
from typing import Any, TypeGuard


class AtomMemError(Exception):
    """Base of all errors of this package."""

    refused: int | None = None
    """The HTTP status with which a server refused the request that failed, if one did."""


class ConfigError(AtomMemError, ValueError):
    """An unknown, invalid or contradictory keyword argument."""


class DatasetUnavailableError(AtomMemError, RuntimeError):
    """A data source could not be read; the message lists what was tried and the commands that help."""


class RecordError(AtomMemError, ValueError):
    """A record of a data file is malformed; the message names the file, the line and what is wrong."""


class EmbedderError(AtomMemError, RuntimeError):
    """Texts could not be embedded: the model is missing or the endpoint failed after all retries."""


class StoreError(AtomMemError, RuntimeError):
    """A store could not be opened, read or written."""


class StoreLockedError(StoreError):
    """The database folder is held by another process."""


class JudgeError(AtomMemError, RuntimeError):
    """The judge endpoint gave no usable verdict after all retries; nothing of the episode has changed (SPEC R3)."""


class ReaderError(AtomMemError, RuntimeError):
    """A frozen reader gave no usable answer after all retries; nothing of the episode has changed (SPEC E13)."""


class LanguageModelError(AtomMemError, RuntimeError):
    """A language model gave no usable reply; nothing of the episode has changed, the same act may be repeated."""


class ModelUnavailableError(LanguageModelError):
    """The server of a language model was gone, or too busy, for longer than the patience allows."""


class ContextLengthError(LanguageModelError):
    """A prompt does not fit a language model's context.

    Args:
        message: What the user reads.
        prompt_tokens: Tokens of the prompt, ``None`` if unknown.
        limit: Tokens that the context holds, ``None`` if unknown.
    """

    def __init__(self, message: str, prompt_tokens: int | None = None, limit: int | None = None) -> None:
        super().__init__(message)
        self.prompt_tokens = prompt_tokens
        self.limit = limit


class SnapshotError(AtomMemError, ValueError):
    """A snapshot does not belong to this environment's configuration or version."""


class StepFailedError(AtomMemError, RuntimeError):
    """A step or reset of a pool's environment failed; its episode is as it was.

    Args:
        env_id: Which environment of the pool.
        cause: Why it failed.
    """

    def __init__(self, env_id: int, cause: BaseException) -> None:
        super().__init__(
            f"the step of env_id {env_id} failed ({type(cause).__name__}: {cause}); its episode is as it was: "
            "send to it again, or reset it"
        )
        self.env_id = env_id


def refused_for_good(error: BaseException) -> bool:
    """Whether a server refuses the key or does not know the model, as it will at every other call, too.

    >>> error = LanguageModelError("refused")
    >>> error.refused = 401
    >>> refused_for_good(error), refused_for_good(LanguageModelError("gone"))
    (True, False)
    """
    cause: BaseException | None = error
    seen: set[int] = set()
    # gRPC's errors are their own cause.
    while cause is not None and id(cause) not in seen:
        if isinstance(cause, AtomMemError) and cause.refused in (401, 403, 404):
            return True
        seen.add(id(cause))
        cause = cause.__cause__
    return False


def options_by_name(keyword: str, given: object, known: Collection[str], example: str) -> dict[str, Any]:
    """What a keyword argument such as ``embedder_options`` gives by name; ``None`` gives nothing.

    Args:
        keyword: What it is called in messages.
        given: Its value.
        known: The names that there are.
        example: A right value, as it is written.

    Raises:
        ConfigError: it is no dictionary, or a name is unknown.

    >>> options_by_name("embedder_options", {"dimensions": 256}, ["dimensions"], "{'dimensions': 64}")
    {'dimensions': 256}
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise ConfigError(f"{keyword}={given!r:.200} must be a dictionary of {', '.join(known)}, such as {example}")
    for name in given:
        if name not in known:
            raise ConfigError(f"{keyword} has no option {name!r:.200}; {suggestion(name, known)}")
    return dict(given)


def suggestion(
    name: object, known: Iterable[str], *, meant: Mapping[str, str] | None = None, of_task: Iterable[str] = ()
) -> str:
    """What an error about an unknown name proposes: the known name that is spelt most alike, or else all known names.

    Args:
        name: What was given.
        known: The names.
        meant: What some of them are other spellings of.
        of_task: More names, which a task adds.

    >>> suggestion("tidi", ["tidy", "oracle"])
    "did you mean 'tidy'?"
    >>> suggestion("tidy,oracle", ["tidy", "oracle"])
    'several are separated by spaces: tidy oracle'
    >>> suggestion("x", ["tidy", "oracle"])
    'known are tidy, oracle'
    >>> suggestion("drfit", ["drift"], meant={"drift": "AtomMem-Drift-v0"})
    "did you mean 'AtomMem-Drift-v0'?"
    """
    names, own, meant = list(known), list(of_task), meant or {}
    parts = str(name).replace(" ", "").split(",")
    if len(parts) > 1 and all(part in names for part in parts):
        return f"several are separated by spaces: {' '.join(parts)}"
    close = nearest(str(name), [*names, *own])
    if close is not None:
        return f"did you mean {meant.get(close, close)!r}?"
    listed = f"known are {', '.join(dict.fromkeys(meant.get(one, one) for one in names))}"
    return f"{listed}; and of this task {', '.join(own)}" if own else listed


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known name that a misspelt one is most like, if it is like enough or has the same letters in another order.

    >>> nearest("hashin", ["hashing", "random"]), nearest("hashin", ["random"])
    ('hashing', None)
    >>> nearest("tydi", ["oracle", "tidy"])
    'tidy'
    """
    names = list(known)
    # Letters that changed places are the commonest slip, of which the ratio makes much in a short name.
    swapped = [one for one in names if sorted(one) == sorted(name)]
    close = swapped or difflib.get_close_matches(name, names, n=1, cutoff=cutoff)
    return close[0] if close else None


def counted(count: int, one: str, several: str | None = None) -> str:
    """A number with its noun.

    >>> counted(1, "file"), counted(1200, "file"), counted(0, "entry", "entries")
    ('1 file', '1,200 files', '0 entries')
    """
    return f"{count:,} {one if count == 1 else several or f'{one}s'}"


def check_choice(name: str, value: object, choices: Iterable[str], *, or_else: str = "") -> None:
    """An argument that must be one of some names.

    Args:
        name: Of the argument.
        value: What was given.
        choices: The names.
        or_else: What else the caller takes, for the message.

    >>> check_choice("order", "given", ["given", "shuffled"])
    >>> check_choice("order", "shufled", ["given", "shuffled"])
    Traceback (most recent call last):
    atommem_gym.errors.ConfigError: order='shufled' must be one of 'given', 'shuffled'; did you mean 'shuffled'?

    Raises:
        ConfigError: it is none of them; the message proposes the one that is spelt most alike.
    """
    names = list(choices)
    if isinstance(value, str) and value in names:
        return
    meant = nearest(value, names) if isinstance(value, str) else None
    proposed = "" if meant is None else f"; did you mean {meant!r}?"
    raise ConfigError(f"{name}={value!r:.200} must be one of {', '.join(map(repr, names))}{or_else}{proposed}")


def reason_of(error: OSError | UnicodeDecodeError) -> str:
    """Why a file of text cannot be read, without its name and without numbers of the system.

    >>> reason_of(FileNotFoundError(2, "No such file or directory", "plan.yaml"))
    'No such file or directory'
    >>> reason_of(UnicodeDecodeError("utf-8", b"?", 0, 1, "invalid start byte"))
    'it is no UTF-8 text'
    """
    if isinstance(error, UnicodeDecodeError):
        return "it is no UTF-8 text"
    return error.strerror or str(error)


def check_number(name: str, value: object, *, above: bool = False, of: str = "") -> None:
    """An argument that must be a finite number of at least 0.

    Args:
        name: Of the argument.
        value: What was given.
        above: Whether 0 itself is too little.
        of: What it is an argument of, for the message.

    >>> check_number("timeout", 2.5, above=True)
    >>> check_number("timeout", "x", above=True, of=" of the server")
    Traceback (most recent call last):
    atommem_gym.errors.ConfigError: timeout='x' of the server must be a finite number above 0

    Raises:
        ConfigError: it is no number, or out of range.
    """
    number = is_integer(value) or (isinstance(value, float) and math.isfinite(value))
    if not (number and (value > 0 if above else value >= 0)):  # type: ignore[operator]  # a number by now
        raise ConfigError(f"{name}={value!r:.200}{of} must be a finite number {'above' if above else 'of at least'} 0")


def is_integer(value: object) -> TypeGuard[int]:
    """Whether a value is an integer as JSON has it: ``True`` is none, nor is ``1.0`` or one of NumPy's."""
    return isinstance(value, int) and not isinstance(value, bool)


def check_integer(
    name: str,
    value: object,
    least: int | None = None,
    most: int | None = None,
    *,
    or_else: str = "",
    numpy: bool = False,
) -> int:
    """An argument that must be an integer.

    Args:
        name: Of the argument.
        value: What was given.
        least: It may not be less.
        most: It may not be more.
        or_else: What else the caller takes, for the message.
        numpy: Whether it may be one of NumPy's, such as a generator draws; for callers that go on with what is
            returned, since JSON has no such number.

    >>> check_integer("top_k", 3, 1)
    3
    >>> check_integer("top_k", True, 1, or_else=", or None")
    Traceback (most recent call last):
    atommem_gym.errors.ConfigError: top_k=True must be an integer of at least 1, or None

    Returns:
        It, as one of Python's.

    Raises:
        ConfigError: it is no integer, or out of range.
    """
    if isinstance(value, (int, Integral) if numpy else int) and not isinstance(value, bool):
        number = int(value)
        if (least is None or number >= least) and (most is None or number <= most):
            return number
    bounds = "" if least is None else f" of at least {least}" if most is None else f" from {least} to {most}"
    raise ConfigError(f"{name}={value!r:.200} must be an integer{bounds}{or_else}")
