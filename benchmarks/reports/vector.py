"""Makes the figures of the vector benchmark readable: a Markdown page with targets and floors, a log-log plot."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Okabe and Ito's palette, which colour-blind readers can tell apart.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8b5a2b", "#999999", "#e69f00", "#56b4e9", "#000000")
MARKERS = "osD^Px+v*"


@dataclass(frozen=True, slots=True)
class Timing:
    """What one contestant's vector step costs with ``size`` environments."""

    size: int
    name: str
    wall_ms: float
    """Median of an environment's step."""
    ms: float
    """The same in processor time of this process."""


@dataclass(frozen=True, slots=True)
class Share:
    """Where the time of a step goes."""

    size: int
    store: str
    ms: float
    """An environment's step, prompt included."""
    parts: dict[str, float]


@dataclass
class Figures:
    """All that was measured."""

    made: dict[str, str]
    timings: list[Timing] = field(default_factory=list)
    shares: list[Share] = field(default_factory=list)
    memory: list[dict[str, float]] = field(default_factory=list)
    starts: dict[str, dict[str, float]] = field(default_factory=dict)
    minilm: dict[str, float] = field(default_factory=dict)
    floors: dict[str, float] = field(default_factory=dict)
    """Microseconds an environment step."""


def markdown(figures: Figures) -> str:
    """The report as a page."""
    made = figures.made
    parts = [
        "# The vector environment",
        "",
        "Episodes of 800 documents in chunks of 4,000 tokens; every step is 1 create (200 characters), 0.3 updates, "
        "0.1 deletes and 1 read in every environment. `none` embeds for nothing (384 dimensions), `hashing` is the "
        "built-in embedder. All contestants of a size take turns step by step, with the same texts and one cache of "
        "embeddings, so that `ours, numpy, hashing` embeds for all that come after it. Times are of the processor, in "
        "brackets of the wall, which is longer where others use the machine; of an AsyncVectorEnv, whose work is in "
        "other processes, only the wall tells.",
        "",
        f"{made['date']} · {made['cpu']}, load at the start {made['load']} · Python {made['python']} · "
        f"{made['versions']} · records: {made['records']} · `{made['command']}`",
        "",
        "![Cost of a step against the number of environments](vector.png)",
        "",
        "## Targets",
        "",
        *_targets(figures),
        "",
        "## Milliseconds an environment step, processor (wall), medians",
        "",
        *_timings(figures.timings),
        "",
        "## Where the time of a step goes, prompt included",
        "",
        *_shares(figures.shares),
        "",
        *_floors(figures),
        "",
        "## Start and reset",
        "",
        *_starts(figures.starts),
    ]
    return "\n".join(parts) + "\n"


def _targets(figures: Figures) -> list[str]:
    largest = max(timing.size for timing in figures.timings)
    size = 256 if any(timing.size == 256 for timing in figures.timings) else largest
    of = {timing.name: timing for timing in figures.timings if timing.size == size}
    bare, hashed = of["ours, numpy, none"], of["ours, numpy, hashing"]
    floor = of["Gymnasium alone (SyncVectorEnv of a 16 kB text)"].ms
    embedding = of["one batched call of the hashing embedder"].ms
    lines = ["| | target | measured | floor of the same run |", "|---|--:|--:|--:|"]
    lines += [
        f"| step, numpy, embedding apart, N = {size} | 0.1 ms | {bare.ms:.3f} ms (wall {bare.wall_ms:.3f}) "
        f"| {floor:.4f} ms (Gymnasium alone) |",
        f"| steps a second, numpy, hashing, N = {size} | 4,000 | {1000 / hashed.ms:,.0f} (wall "
        f"{1000 / hashed.wall_ms:,.0f}) | {1000 / embedding:,.0f} (embedder alone) |",
    ]
    for name, start in figures.starts.items():
        lines += [
            f"| reset at 800 documents, {name} | 5 ms | {start['warm_ms']:.2f} ms | |",
            f"| making 64 environments beyond the data, {name} | 20 ms | {start['beyond_ms']:.1f} ms | |",
        ]
    if len(figures.memory) == 2:
        one, many = figures.memory
        more = (many["resident_mb"] - one["resident_mb"]) / (many["size"] - one["size"])
        text = many["text_mb"] / many["size"]
        lines.append(f"| memory an environment | 0.5 MB beyond its text | {more:.2f} MB | {text:.2f} MB (its text) |")
    if figures.minilm:
        minilm = figures.minilm
        lines.append(
            f"| step with MiniLM, N = {minilm['size']:.0f}, to one call of the model | 1.15 | {minilm['ratio']:.2f} "
            f"({minilm['step_ms']:.0f} ms) | 1 ({minilm['call_ms']:.0f} ms) |"
        )
    return lines


def _timings(timings: list[Timing]) -> list[str]:
    sizes = sorted({timing.size for timing in timings})
    of = {(timing.name, timing.size): timing for timing in timings}
    lines = [f"| | {' | '.join(f'N = {size:,}' for size in sizes)} |", f"|---|{'--:|' * len(sizes)}"]
    for name in dict.fromkeys(timing.name for timing in timings):
        row = [
            f"{of[name, size].ms:.3g} ({of[name, size].wall_ms:.3g})" if (name, size) in of else "" for size in sizes
        ]
        lines.append(f"| {name} | {' | '.join(row)} |")
    return lines


def _shares(shares: list[Share]) -> list[str]:
    names = [name for name in dict.fromkeys(part for share in shares for part in share.parts) if name != "the rest"]
    names.append("the rest")
    lines = [f"| | ms a step | {' | '.join(names)} |", f"|---|--:|{'--:|' * len(names)}"]
    for share in shares:
        row = " | ".join(f"{share.parts.get(name, 0.0):.0%}" for name in names)
        lines.append(f"| N = {share.size}, {share.store} | {share.ms:.3f} | {row} |")
    return lines


def _floors(figures: Figures) -> list[str]:
    size = min(64, max(timing.size for timing in figures.timings))
    step = next(t.ms for t in figures.timings if (t.size, t.name) == (size, "ours, numpy, none"))
    parts = ", ".join(f"{what} {taken:.0f} µs" for what, taken in figures.floors.items())
    return [
        f"What a step over such chunks needs whoever drives it, each by itself in a loop, N = {size}: {parts}; "
        f"together {sum(figures.floors.values()) / 1000:.3f} of the {step:.3f} ms. A chunk is "
        "16 kB of text and more that no cache holds; with a letter beyond ASCII its bytes cannot just be copied. What "
        "the store takes is in [stores.md](stores.md); the rest is Python's calls and objects.",
    ]


_ROWS = (
    ("first environment, data found in the cache, s", "first_s", 2),
    ("64 environments beyond the data, ms", "beyond_ms", 1),
    ("reset, every document new, ms an environment", "cold_ms", 2),
    ("reset, pool warm, ms an environment", "warm_ms", 2),
    ("reset of one among 64, its vector result included, ms", "one_ms", 2),
    ("peak resident memory, mapped files included, MB", "peak_mb", 0),
    ("of it not mapped from files, MB", "anonymous_mb", 0),
)


def _starts(starts: dict[str, dict[str, float]]) -> list[str]:
    lines = [f"| | {' | '.join(starts)} |", f"|---|{'--:|' * len(starts)}"]
    for label, key, digits in _ROWS:
        lines.append(f"| {label} | {' | '.join(f'{start[key]:,.{digits}f}' for start in starts.values())} |")
    return lines


def plot(figures: Figures, path: Path) -> None:
    """Cost of an environment's step against the number of environments, both in logarithms, with the target."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8.4, 4.6), layout="constrained")
    for place, name in enumerate(dict.fromkeys(timing.name for timing in figures.timings)):
        line = [timing for timing in figures.timings if timing.name == name]
        look: dict[str, Any] = {"color": COLOURS[place], "marker": MARKERS[place], "markersize": 5}
        axes.plot(
            [t.size for t in line],
            [t.wall_ms if "Async" in name else t.ms for t in line],
            linewidth=1.5,
            label=name,
            **look,
        )
    axes.axhline(0.1, color="#666666", linestyle=":", linewidth=1.2, label="target, embedding apart")
    sizes = sorted({timing.size for timing in figures.timings})
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.minorticks_off()
    axes.set_xlabel("environments")
    axes.set_ylabel("ms an environment step")
    axes.grid(True, color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
