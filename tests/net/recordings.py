"""How recordings are kept and compared: plain text where it is short, else compressed, with hashes."""

from __future__ import annotations

import difflib
import gzip
import hashlib
import json
import lzma
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "recordings"
_EPISODES = FOLDER / "episodes.jsonl.gz"
_HASHES = FOLDER / "episodes.sha256"
_LINES = FOLDER / "lines.xz"
_LONGEST_DIFF = 100
_WIDTH = 140
ADVICE = "see tests/net/README.md for when a recording may be made anew"


def digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def write_text(name: str, text: str) -> None:
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / name).write_text(text + "\n", encoding="utf-8", newline="\n")


def read_text(name: str) -> str:
    path = FOLDER / name
    assert path.is_file(), f"there is no recording {name}; {ADVICE}"
    return path.read_bytes().decode("utf-8").removesuffix("\n")


def write_episodes(episodes: Mapping[str, Mapping[str, Any]]) -> None:
    """All scenarios: whole in a compressed file, and a hash of every step and line for reviews of what changed."""
    FOLDER.mkdir(exist_ok=True)
    lines = [json.dumps({"name": name, **episodes[name]}) for name in sorted(episodes)]
    _EPISODES.write_bytes(gzip.compress("".join(f"{line}\n" for line in lines).encode("ascii"), 9, mtime=0))
    hashes = []
    for name in sorted(episodes):
        for part in ("returned", "traces"):
            hashes += [f"{name} {part} {i} {digest(text)}" for i, text in enumerate(episodes[name][part])]
    _HASHES.write_text("\n".join(hashes) + "\n", encoding="ascii")


@lru_cache(maxsize=1)
def read_episodes() -> dict[str, dict[str, Any]]:
    assert _EPISODES.is_file(), f"there are no recorded episodes; {ADVICE}"
    records = map(json.loads, gzip.decompress(_EPISODES.read_bytes()).decode("ascii").splitlines())
    return {record.pop("name"): record for record in records}


def write_lines(lines: Mapping[str, str]) -> None:
    """The lines that transcripts only name by their hash, so that a difference can show them."""
    _LINES.write_bytes(lzma.compress(json.dumps(dict(sorted(lines.items()))).encode("ascii"), preset=9))


def read_lines() -> dict[str, str]:
    lines: dict[str, str] = json.loads(lzma.decompress(_LINES.read_bytes()))
    return lines


def transcripts_difference(name: str, recorded: str, now: str, lines: Mapping[str, str]) -> str:
    """The difference of two transcripts; of the lines that have another hash the first is shown before.

    Args:
        name: Of the recording.
        recorded: What is kept.
        now: What was said and written now.
        lines: The lines behind the hashes of now.
    """
    shown = difference(name, recorded, now)
    before, after = (re.findall(r"^[0-9a-f]{64}$", text, re.MULTILINE) for text in (recorded, now))
    changed = [(old, new) for old, new in zip(before, after, strict=False) if old != new]
    if not changed:
        return shown
    old, new = changed[0]
    behind = difference(f"line {new[:12]}…", _json_laid_out(read_lines()[old]), _json_laid_out(lines[new]))
    return f"{behind}\n\n{shown}"


def _json_laid_out(line: str) -> str:
    return json.dumps(json.loads(line), indent=1)


def difference(name: str, recorded: str, now: str) -> str:
    """What to say where the two differ: a unified diff, its beginning if it is long."""
    lines = list(
        difflib.unified_diff(_lines(recorded), _lines(now), f"{name}, recorded", f"{name}, now", "", "", 4, "")
    )
    rest = len(lines) - _LONGEST_DIFF
    shown = [*lines[:_LONGEST_DIFF], *([f"… and {rest} more lines"] if rest > 0 else [])]
    return "\n".join([f"{name} is not as recorded; {ADVICE}", *shown])


def episodes_difference(name: str, recorded: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The same for a scenario: its JSON is laid out, so that the diff shows fields and not endless lines."""
    ours, theirs = _laid_out(recorded), _laid_out(now)
    if ours != theirs:
        return difference(name, ours, theirs)
    for part in ("returned", "traces"):
        for number, (old, new) in enumerate(zip(recorded[part], now[part], strict=True)):
            if old != new:
                at = next(
                    (i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new))
                )
                around = slice(max(0, at - 60), at + 60)
                return (
                    f"{name}: the JSON of {part} {number} has the same values in another spelling; {ADVICE}\n"
                    f"- {old[around]}\n+ {new[around]}"
                )
    raise AssertionError("the two are equal")


def _laid_out(scenario: Mapping[str, Any]) -> str:
    parts = [f"environment: {json.dumps(scenario['made'], indent=1)}"]
    for part, title in (("returned", "call"), ("traces", "trace line")):
        for number, line in enumerate(scenario[part]):
            parts.append(f"== {title} {number}")
            parts.append(json.dumps(json.loads(line), indent=1))
    return "\n".join(parts)


def _lines(text: str) -> list[str]:
    """Lines, long ones broken, so that a change of one character does not show a whole chunk twice."""
    return [line[i : i + _WIDTH] for line in text.split("\n") for i in range(0, max(1, len(line)), _WIDTH)]
