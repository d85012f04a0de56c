"""Converts traces to JSON and back: a strict reader that names the wrong field, and lossless text."""

from __future__ import annotations

import datetime
import decimal
import json
import math
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from atommem_gym.files.strict_json import strict_json
from atommem_gym.traces.record import READ_VERSIONS, SINCE_2, TRACE_VERSION, EpisodeTrace, Json, TraceError

_SPLIT_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_NOT_JSON = (
    *(bytes, bytearray, decimal.Decimal, uuid.UUID),
    *(datetime.datetime, datetime.date, datetime.time, datetime.timedelta),
)
"""Types that msgspec would write as texts, which a reader could not tell from texts."""
_LEAVES = frozenset({str, int, float, bool, type(None)})
MOST_SHOWN = 200
"""Most characters of a field's name or place in a message, since a file may come from anywhere."""
_PLACE = re.compile(r"(?P<what>.*?)(?: - at `\$\.?(?P<path>.*)`)?", re.DOTALL)
_STEPS = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


def plain(value: object) -> Json:
    """Convert a value to JSON values: arrays and tuples to lists, NumPy numbers to Python's.

    JSON cannot distinguish a pair of surrogates from the character that they form, so text gets the character.

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
            raise TraceError(f"{value} is not a JSON number; a record holds finite numbers only")
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
    """Convert a trace, or an object with parts of traces, to JSON values; tuples stay, which JSON writes as lists.

    Raises:
        TraceError: something in it has no JSON form.
    """
    try:
        values = msgspec.to_builtins(record, builtin_types=_NOT_JSON, enc_hook=plain)
        _check((values,))
    except RecursionError as error:
        raise TraceError(f"the record is nested too deeply to be written ({error})") from None
    return values


def dumps(trace: EpisodeTrace) -> str:
    """Write a trace as one line of ASCII, so that U+2028, NUL and lone surrogates do no harm.

    Raises:
        TraceError: something in it has no JSON form, or it has a field that its version does not know.
    """
    values = to_json(trace)
    for part, names in _parts(values):
        for name in names:
            if not part[name]:
                del part[name]
    _check_version(values, "the record")
    try:
        return json.dumps(values, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    except ValueError as error:
        raise TraceError(f"the record cannot be written ({error}); it holds finite numbers only") from error


def loads(line: str | bytes, where: str = "the record") -> EpisodeTrace:
    """Read a trace from a line.

    Args:
        line: What :func:`dumps` wrote, in this version or an earlier one of ``READ_VERSIONS``.
        where: The file and line, for messages.

    Raises:
        TraceError: the line is not JSON, not a trace, or a trace of a version that this package does not read.
    """
    try:
        value = strict_json(line)
    except ValueError as error:
        raise TraceError(f"{where} is not JSON ({error}); every line must be one episode") from error
    if not isinstance(value, dict) or "version" not in value or "steps" not in value:
        raise TraceError(
            f"{where} is not a record of an episode: it has no version and steps; `atommem run` writes others"
        )
    version = value["version"]
    if type(version) is not int or version not in READ_VERSIONS:
        raise TraceError(
            f"{where} has version {repr(version)[:20]}, this package reads {' and '.join(map(str, READ_VERSIONS))}; "
            f"install the release of atommem-gym that wrote it ({_writer(value)}), or record the episode again"
        )
    try:
        trace = msgspec.convert(value, EpisodeTrace)
    except (msgspec.ValidationError, OverflowError, RecursionError, UnicodeEncodeError) as error:
        # msgspec cannot say which text with half a surrogate pair stands where something else should.
        what = _mismatch(value, str(error)) if isinstance(error, msgspec.ValidationError) else str(error)[:MOST_SHOWN]
        raise TraceError(f"{where} is not a record of version {version}: {what}; was it changed by hand?") from None
    _check_version(value, where)
    lacks = _missing(trace)
    if lacks:
        raise TraceError(
            f"{where} lacks what every played episode has ({lacks[:MOST_SHOWN]}); leave it out, or play the episode "
            "again"
        )
    return trace


class _Answer(Struct):
    answer: str
    closed: str
    score: float
    em: float
    f1: float
    answerable: bool = True


class _Metrics(Struct):
    answers: tuple[_Answer, ...]
    em: float | None
    f1: float | None
    evidence_recall: float | None


class _Observation(Struct):
    phase: int
    chunk: str


def _missing(trace: EpisodeTrace) -> str:
    """What a trace lacks, or has in another form, that every played episode has where the trace holds free JSON.

    >>> from msgspec.structs import replace
    >>> from atommem_gym.traces.examples import example_trace
    >>> trace = example_trace()
    >>> _missing(trace), _missing(replace(trace, metrics={}))
    ('', 'metrics: Object missing required field `answers`')
    """
    where = "metrics"
    try:
        answers = msgspec.convert(trace.metrics, _Metrics).answers
        for number, step in enumerate(trace.steps):
            where = f"steps[{number}].observation"
            msgspec.convert(step.observation, _Observation)
    except (msgspec.ValidationError, OverflowError, UnicodeEncodeError) as error:
        return f"{where}: {error}"
    counts = {"questions": len(trace.questions), "metrics.answers": len(answers), "causes": len(trace.causes)}
    if len(set(counts.values())) > 1 or not answers:
        return ", ".join(f"{count} {name}" for name, count in counts.items())
    return ""


def _parts(values: dict[str, Json]) -> Iterator[tuple[dict[str, Json], tuple[str, ...]]]:
    """The parts of a trace that may have fields of version 2, each with the names of these fields."""
    yield values, SINCE_2["episode"]
    for held in ("questions", "steps"):
        for part in values[held]:
            yield part, SINCE_2[held]


def _check_version(values: dict[str, Json], where: str) -> None:
    """Refuse fields of version 2 in a trace of version 1."""
    if values["version"] >= 2:
        return
    for part, names in _parts(values):
        for name in names:
            if name in part:
                raise TraceError(
                    f"{where} is not a record of version 1: it has the field {name!r}, which came with version 2; "
                    f"give it version={TRACE_VERSION}"
                )


def _check(held: Iterable[object]) -> None:
    """Refuse values that JSON does not have, and keys that are not texts."""
    for value in held:
        kind = type(value)
        if kind in _LEAVES:
            continue
        if kind is dict:
            for key in value:  # type: ignore[attr-defined]
                if type(key) is not str:
                    _key(key)
            _check(value.values())  # type: ignore[attr-defined]
        elif kind is list or kind is tuple:
            _check(value)  # type: ignore[arg-type]
        else:
            plain(value)


def _mismatch(value: Json, error: str) -> str:
    """The error of msgspec, with the value that is wrong.

    >>> _mismatch({"steps": [{"reward": "high"}]}, "Expected `float`, got `str` - at `$.steps[0].reward`")
    "steps[0].reward = 'high': Expected `float`, got `str`"
    """
    found = _PLACE.fullmatch(error)
    if found is None or not found["path"]:
        return error[:MOST_SHOWN]
    path, what = found["path"][:MOST_SHOWN], found["what"][:MOST_SHOWN]
    for name, index in _STEPS.findall(path):
        try:
            value = value[int(index) if index else name]
        except (LookupError, TypeError):
            return f"{path}: {what}"
    return f"{path}: {what}" if isinstance(value, (dict, list)) else f"{path} = {str(value)[:60]!r}: {what}"


def _writer(value: dict[str, Any]) -> str:
    versions = value.get("versions")
    said = versions.get("atommem_gym") if isinstance(versions, dict) else None
    return said[:40] if isinstance(said, str) else "unknown"


def _key(key: object) -> str:
    if not isinstance(key, str):
        raise TraceError(f"the key {key!r} is not a string; keys of JSON objects are strings")
    return _SPLIT_PAIR.sub(_joined, key)


def _joined(pair: re.Match[str]) -> str:
    return pair.group().encode("utf-16", "surrogatepass").decode("utf-16")
