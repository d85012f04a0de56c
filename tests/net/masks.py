"""What cannot be the same twice, and what stands in its place in the recordings."""

from __future__ import annotations

import json
import re
from pathlib import Path

_KEY = (r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])", "<key>")
"""Of a memory: a random UUID in hexadecimal."""
_TRACE: tuple[tuple[str, str], ...] = (
    # A quotation mark inside a text is escaped, so none of these can match inside one.
    (r'"(seconds|agent|env)":-?[0-9][0-9.e+-]*', r'"\1":0'),
    (r'"versions":\{[^{}]*\}', '"versions":{}'),
    (r'"started":"[^"]*"', '"started":"<time>"'),
    # A function of the package that is a keyword argument is recorded with its module.
    (r'"atommem_gym(?:\.\w+)+:(\w+)"', r'"<module>:\1"'),
    _KEY,
)
_TIMES = "<t>"
_OUTPUT: tuple[tuple[str, str], ...] = (
    _KEY,
    (r"\b[0-9a-f]{8,31}…", "<key>…"),
    (r"\b20\d\d-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(\+00:00)?", "<time>"),
    (r"^20\d\d-\d\d-\d\d · .*$", "<date, machine, versions>"),
    (r'("(?:agent_ms|env_ms|seconds)": )[0-9.e+-]+', rf"\g<1>{_TIMES}"),
    (r'("(?:agent_ms|env_ms)": )\[[^]]*\]', rf"\g<1>[{_TIMES}]"),
    (r'("(?:atommem_gym|pyarrow|python)": )"[^"]*"', r'\g<1>"<version>"'),
    (r"\bin [0-9.]+ s\b", f"in {_TIMES} s"),
    (r"\b[0-9.]+ (KiB|MiB|GiB)\b", "<size>"),
    (r"\b[0-9.]+ episodes/s", f"{_TIMES} episodes/s"),
    (r"(<time>: \d+ episodes) .*$", r"\1 <seconds>"),
)


def trace_line(line: bytes) -> str:
    """One line of a file of traces, every byte as it was but for times, versions and memory keys."""
    text = line.decode("ascii")
    for pattern, mask in _TRACE:
        text = re.sub(pattern, mask, text)
    return text


def output(text: str, folder: Path) -> str:
    """What a command printed or wrote, in the folder it ran in."""
    for path in sorted({str(folder), str(folder.resolve())}, key=len, reverse=True):
        text = text.replace(path, "<folder>")
    for pattern, mask in _OUTPUT:
        text = re.sub(pattern, mask, text, flags=re.MULTILINE)
    return "\n".join(line.rstrip() for line in text.split("\n"))


def results_table(text: str) -> str:
    """The table of `atommem run` without its last column, milliseconds, which decides the widths of rule and title."""
    text = re.sub(r"^─{20,}$", "<rule>", text, flags=re.MULTILINE)
    return re.sub(r"^(agent|\w+)( +EM| +\d\.\d\d)(.*?) +(step|[0-9.]+)$", r"\1\2\3 <ms>", text, flags=re.MULTILINE)


def time_tables(text: str) -> str:
    """A report in which the two sections on time keep their titles, and what stands in a row besides numbers."""
    kept: list[str] = []
    inside = rows = False
    for line in text.split("\n"):
        if line.lstrip("# ").startswith("Where the "):
            inside, rows = True, False
        elif inside and (line.startswith(("## ", "Why ", "EM and "))):
            inside = False
        if not inside or line.lstrip("# ").startswith("Where the ") or not line or line.startswith("<time>"):
            kept.append(line)
        elif line.startswith("|"):
            # Markdown: cells, none of which wraps.
            line = re.sub(r" \([^()|]*[0-9.]+\)", "", line)
            kept.append(re.sub(r"[0-9.]+%?|<time>|(?<=\| )–(?= \|)", "<n>", line))
        elif line.startswith("─"):
            rows = True
        elif rows:
            # A terminal's table: how its header wraps depends on the numbers; the Markdown has the same header.
            kept.append(" ".join(re.sub(r"(?<![\w])[0-9.]+%?(?!\w)", "<n>", line).split()))
    return "\n".join(kept)


def cells_csv(text: str) -> str:
    """A table of cells without the columns of times."""
    header, *rows = text.rstrip("\n").split("\n")
    timed = {i for i, name in enumerate(header.split(",")) if re.match(r"(agent|env)_(ms|share)", name)}
    return "\n".join(
        ",".join(_TIMES if i in timed and line is not header else cell for i, cell in enumerate(line.split(",")))
        for line in (header, *rows)
    )


def information(text: str) -> str:
    """The first columns of the tables of `atommem info`; the rest says what is installed here."""
    text = re.split(r"\n(?:What is missing|Nothing is missing)", text)[0]
    lines = (re.split(" {2,}", line)[0] for line in text.split("\n"))
    return "\n".join(line for line in lines if not line.startswith("─"))


def viewer_data(value: object) -> str:
    """A data block of a viewer's page, unpacked."""
    return trace_line(json.dumps(value, ensure_ascii=True, separators=(",", ":")).encode("ascii"))


def page(text: str) -> str:
    """The skeleton of a viewer's page and the names of its data blocks; not scripts, styles and packed data."""
    text = re.sub(r"(<script[^>]*>).*?(</script>)", r"\1…\2", text, flags=re.DOTALL)
    text = re.sub(r"(<style>).*?(</style>)", r"\1…\2", text, flags=re.DOTALL)
    return re.sub(r"'sha256-[^']*'", "'sha256-…'", text)
