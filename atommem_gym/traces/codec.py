"""Between records and JSON: a strict reader that says which field is wrong, and text that survives every round trip."""

from __future__ import annotations

import json
import math
import re
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import lru_cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from atommem_gym.traces.record import TRACE_VERSION, EpisodeTrace, Json, TraceError

T = TypeVar("T")
_SPLIT_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")


def plain(value: object) -> Json:
    """A value as JSON has it: arrays and tuples as lists, NumPy numbers as Python's.

    JSON cannot tell two surrogates side by side from the character that they form, so text gets the character.

    >>> plain({"progress": np.array([1, 9]), "score": np.float64(0.5)})
    {'progress': [1, 9], 'score': 0.5}

    Raises:
        TraceError: the value, or something in it, has no JSON form.
    """
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, str):
        return _SPLIT_PAIR.sub(_joined, value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise TraceError(f"{value} is no JSON number; a record holds finite numbers only")
        return float(value)
    if isinstance(value, (np.ndarray, np.generic)):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return {_key(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, (set, frozenset)):
        return sorted(map(plain, value))
    raise TraceError(f"{value!r} of type {type(value).__name__} has no JSON form; a record holds JSON values only")


def to_json(record: object) -> Json:
    """A record as JSON values."""
    if is_dataclass(record) and not isinstance(record, type):
        return {name: to_json(getattr(record, name)) for name in _names(type(record))}
    if isinstance(record, (list, tuple)):
        return [to_json(one) for one in record]
    return plain(record)


def dumps(trace: EpisodeTrace) -> str:
    """A trace as one line of ASCII: no reader can stumble over U+2028, NUL or half a surrogate pair."""
    return json.dumps(to_json(trace), ensure_ascii=True, allow_nan=False, separators=(",", ":"))


def loads(line: str | bytes, where: str = "the record") -> EpisodeTrace:
    """The trace of a line.

    Args:
        line: What :func:`dumps` wrote.
        where: File and line, for messages.

    Raises:
        TraceError: the line is not JSON, not a record, or a record of a version that this package does not read.
    """
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise TraceError(f"{where} is no JSON ({error}); every line must be one episode") from error
    if not isinstance(value, dict) or "version" not in value or "steps" not in value:
        raise TraceError(
            f"{where} is no record of an episode: it has no version and steps; `atommem run` writes others"
        )
    if value["version"] != TRACE_VERSION:
        raise TraceError(
            f"{where} has version {value['version']!r}, this package reads version {TRACE_VERSION}; install the "
            f"release of atommem-gym that wrote it ({_writer(value)}), or record the episode again"
        )
    try:
        trace = _read(value, EpisodeTrace, "")
    except _Mismatch as mismatch:
        raise TraceError(
            f"{where} is no record of version {TRACE_VERSION}: {mismatch}; it was changed by hand?"
        ) from None
    assert isinstance(trace, EpisodeTrace)
    return trace


def _writer(value: dict[str, Any]) -> str:
    versions = value.get("versions")
    return f"{versions.get('atommem_gym', 'unknown')}" if isinstance(versions, dict) else "unknown"


class _Mismatch(Exception):
    """A value that is not what its field's type says."""


def _read(value: Any, kind: Any, path: str) -> Any:
    """``value`` as the type ``kind`` says."""
    if is_dataclass(kind):
        return _read_record(value, kind, path)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is tuple:
        _expect(isinstance(value, list), "a list", value, path)
        return tuple(_read(one, arguments[0], f"{path}[{i}]") for i, one in enumerate(value))
    if origin is list:
        _expect(isinstance(value, list), "a list", value, path)
        return [_read(one, arguments[0], f"{path}[{i}]") for i, one in enumerate(value)]
    if origin is dict:
        _expect(isinstance(value, dict), "an object", value, path)
        return {key: _read(one, arguments[1], f"{path}.{key}") for key, one in value.items()}
    if origin in (Union, types.UnionType):
        return None if value is None else _read(value, next(a for a in arguments if a is not type(None)), path)
    if origin is Literal:
        _expect(value in arguments, f"one of {', '.join(map(repr, arguments))}", value, path)
    elif kind is float:
        _expect(isinstance(value, (int, float)) and not isinstance(value, bool), "a number", value, path)
        return float(value)
    elif kind is int:
        _expect(isinstance(value, int) and not isinstance(value, bool), "a whole number", value, path)
    elif kind is not Any:
        _expect(isinstance(value, kind), {str: "a text", bool: "true or false"}.get(kind, kind.__name__), value, path)
    return value


def _read_record(value: Any, kind: Any, path: str) -> Any:
    _expect(isinstance(value, dict), "an object", value, path)
    types_, required = _fields(kind)
    unknown, missing = value.keys() - types_.keys(), required - value.keys()
    if unknown or missing:
        name = min(unknown or missing)
        raise _Mismatch(f"{path or 'it'} has {'an unknown' if unknown else 'no'} field {name!r}")
    prefix = f"{path}." if path else ""
    return kind(**{name: _read(one, types_[name], f"{prefix}{name}") for name, one in value.items()})


def _expect(right: bool, rule: str, value: object, path: str) -> None:
    if not right:
        raise _Mismatch(f"{path} = {str(value)[:60]!r} must be {rule}")


@lru_cache(maxsize=64)
def _names(kind: Any) -> tuple[str, ...]:
    return tuple(one.name for one in fields(kind))


@lru_cache(maxsize=64)
def _fields(kind: Any) -> tuple[dict[str, Any], frozenset[str]]:
    """Types of a record's fields, and the names of those without a default."""
    required = (one.name for one in fields(kind) if one.default is MISSING and one.default_factory is MISSING)
    return get_type_hints(kind), frozenset(required)


def _key(key: object) -> str:
    if not isinstance(key, str):
        raise TraceError(f"the key {key!r} is no text; JSON objects have text keys only")
    return _SPLIT_PAIR.sub(_joined, key)


def _joined(pair: re.Match[str]) -> str:
    return pair.group().encode("utf-16", "surrogatepass").decode("utf-16")
