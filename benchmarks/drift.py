"""Shows what Update and Delete are worth where facts change: ``python benchmarks/drift.py``.

Scripted agents play ``AtomMem-Drift-v0`` as it is by default, then ``tidy`` plays it with parts of the memory taken
away. Answers are the oracle reader's: the gold answer if and only if every notice that decides it stands word for word
in the last read or the scratchpad. A reader that sees stale notices as well knows their dates, so what is measured is
whether memory still holds what is true, not whether a model can tell the newer of two notices.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import gymnasium as gym
import tyro
from reports.leaderboard import COLOURS
from reports.machine import provenance
from rich.console import Console

import atommem_gym  # noqa: F401  (registers the ids)
from atommem_gym.agents import make_agent
from atommem_gym.agents.play import draw_items, play_episode
from atommem_gym.evaluation.statistics import bootstrap
from atommem_gym.step import Observation
from atommem_gym.worlds.drift import QUESTION_KINDS

ENV_ID = "AtomMem-Drift-v0"
CREATE, READ, UPDATE, DELETE = "create", "read", "update", "delete"
ROWS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("silent", "no memory", {}),
    ("keep_all", "ADD-only", {}),
    ("overwrite", "scratchpad only", {}),
    ("tidy", "all operations", {}),
    ("tidy", "without update", {"operations": [CREATE, READ, DELETE]}),
    ("tidy", "without delete", {"operations": [CREATE, READ, UPDATE]}),
    ("tidy", "without update and delete", {"operations": [CREATE, READ]}),
    ("tidy", "without scratchpad", {"scratchpad": False}),
    ("tidy", "without storage", {"storage": False}),
    ("oracle", "just the evidence", {}),
)


@dataclass(frozen=True, slots=True)
class Options:
    """Play Drift with every operation, and without some."""

    episodes: int = 60
    """Items, the same for all rows."""
    questions: int = 4
    """Questions an item."""
    notices: int = 200
    out: Path = Path(__file__).parent / "results"


@dataclass(slots=True)
class Row:
    """What became of one agent with one set of operations."""

    agent: str
    what: str
    keywords: dict[str, Any]
    em: list[float]
    """One an episode."""
    by_kind: dict[str, list[float]]
    """One a question."""
    recall: float
    entries: float
    operations: dict[str, float]

    @property
    def label(self) -> str:
        """Agent and what it may do."""
        return f"{self.agent}: {self.what}"

    @property
    def interval(self) -> tuple[float, float, float]:
        """Mean exact match and its 95 % bootstrap interval over episodes."""
        found = bootstrap(self.em, range(len(self.em)), ("drift", self.label))
        return found.mean, found.low, found.high


def play(agent_name: str, what: str, keywords: dict[str, Any], options: Options) -> Row:
    """All episodes of one row."""
    env = gym.make(ENV_ID, num_docs=options.notices, questions_per_episode=options.questions, store="numpy", **keywords)
    agent, by_kind, records = make_agent(agent_name), {kind: [] for kind in QUESTION_KINDS}, []

    def note(action: str, observation: Observation, info: dict[str, Any]) -> None:
        for answer in info.get("episode_metrics", {}).get("answers", []):
            by_kind[answer["type"]].append(answer["em"])

    for index, shuffle_seed in draw_items(env.unwrapped.num_items, options.episodes, 0):  # type: ignore[attr-defined]
        records.append(play_episode(env, agent, index, shuffle_seed=shuffle_seed, on_step=note))
    env.close()
    return Row(
        agent=agent_name,
        what=what,
        keywords=keywords,
        em=[record.em for record in records],
        by_kind=by_kind,
        recall=fmean(record.evidence_recall_exact for record in records),
        entries=fmean(record.peak_entries for record in records),
        operations={
            kind: fmean(record.operations.get(kind, 0) for record in records)
            for kind in (CREATE, UPDATE, DELETE, READ, "scratchpad")
        },
    )


def markdown(rows: Sequence[Row], options: Options, made: dict[str, str]) -> str:
    """The table as a page."""
    unknown = len(rows[0].by_kind["known"]) / sum(map(len, rows[0].by_kind.values()))
    heads = [
        "agent",
        "memory",
        "EM",
        "95 % interval",
        *QUESTION_KINDS,
        "evidence",
        "entries",
        "create",
        "update",
        "delete",
    ]
    lines = [
        "# Drift: what Update and Delete are worth",
        "",
        f"`{ENV_ID}` as it is by default: {options.notices} notices in chunks of 500 tokens, questions hidden while "
        f"reading, 12 entries, a scratchpad of 512 tokens. {options.episodes} items with {options.questions} questions "
        "each, the same for all rows; 95 % bootstrap intervals over items; embedder `hashing`, store `numpy`.",
        "",
        "**What is measured** is memory, not language: answers are an *oracle reader*'s, the gold answer if and only "
        "if every notice that decides it is seen word for word in the last read or the scratchpad, else `unknown`. A "
        "reader who sees stale notices as well is taken to know which is the newest. `unknown` is the right answer to "
        f"the questions of kind *known* ({unknown:.0%} of all), so whoever knows nothing gets those. *latest*, "
        "*as_of*, *count* and *known* are exact match by kind of question; *evidence* is the share of deciding notices "
        "seen; *entries* the peak; the last three are operations an episode. `tidy` evicts by an update where there is "
        "no delete, so taking only Delete away costs it nothing.",
        "",
        f"{made['date']} · {made['cpu']} · Python {made['python']} · {made['versions']} · `{made['command']}`",
        "",
        "![Exact match by operations](drift.png)",
        "",
        f"| {' | '.join(heads)} |",
        f"|---|---|{'--:|' * (len(heads) - 2)}",
    ]
    for row in rows:
        mean, low, high = row.interval
        cells = [row.agent, row.what, f"**{mean:.2f}**", f"{low:.2f} to {high:.2f}"]
        cells += [f"{fmean(row.by_kind[kind]):.2f}" if row.by_kind[kind] else "" for kind in QUESTION_KINDS]
        cells += [f"{row.recall:.2f}", f"{row.entries:.1f}"]
        cells += [f"{row.operations[kind]:.1f}" for kind in (CREATE, UPDATE, DELETE)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def plot(rows: Sequence[Row], path: Path) -> None:
    """Bars with intervals."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7.5, 4.2), layout="constrained")
    places = range(len(rows))[::-1]
    for place, row in zip(places, rows, strict=True):
        mean, low, high = row.interval
        axes.barh(place, mean, xerr=[[mean - low], [high - mean]], color=COLOURS[row.agent], height=0.65, capsize=3)
    axes.set_yticks(list(places), [row.label for row in rows])
    axes.set_xlim(0, 1)
    axes.set_xlabel("exact match (95 % bootstrap interval)")
    axes.set_title(f"{ENV_ID}: facts change, 12 entries")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150, metadata={"Software": None})


def main(options: Options) -> None:
    """Play all rows; write table, numbers and plot."""
    console = Console()
    rows = []
    for agent, what, keywords in ROWS:
        rows.append(play(agent, what, keywords, options))
        mean, low, high = rows[-1].interval
        console.print(f"{rows[-1].label}: {mean:.2f} ({low:.2f} to {high:.2f})")
    how = provenance("python benchmarks/drift.py", ("atommem-gym", "gymnasium", "numpy"))
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "drift.md").write_text(markdown(rows, options, how), encoding="utf-8")
    values = {"made": how, "rows": [asdict(row) for row in rows]}
    (options.out / "drift.json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    plot(rows, options.out / "drift.png")


if __name__ == "__main__":
    main(tyro.cli(Options))
