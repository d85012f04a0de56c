"""Shows what Delete is worth where something is to be erased: ``python benchmarks/forget.py``.

Scripted agents play ``AtomMem-Forget-v0`` as it is by default, then ``tidy`` plays it with parts of the memory taken
away. Answers are the oracle reader's: the gold code if and only if the line that gives the code in force is in the last
read, else ``unknown``. A question does not count while memory keeps what was to be erased, whatever the answer is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
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
from atommem_gym.actions import Delete, Operation
from atommem_gym.agents import Agent, make_agent
from atommem_gym.agents.play import draw_items, play_episode
from atommem_gym.agents.scripted.keep_all import KeepAllAgent
from atommem_gym.evaluation.statistics import bootstrap
from atommem_gym.scoring import abstention_metrics
from atommem_gym.step import Observation

ENV_ID = "AtomMem-Forget-v0"
CREATE, READ, UPDATE, DELETE = "create", "read", "update", "delete"


class PurgingAgent(KeepAllAgent):
    """Keeps all that fits, and deletes all of it before the first answer."""

    def answer(self, observation: Observation) -> Sequence[Operation]:
        """Deletes for every id that there may be, then what the reading policy says."""
        most = self.config.max_entries or 1_000
        return [*map(Delete, range(1, most + 1)), *super().answer(observation)]


ROWS: tuple[tuple[str, str, Callable[[], Agent], dict[str, Any]], ...] = (
    ("silent", "no memory", lambda: make_agent("silent"), {}),
    ("keep_all", "ADD-only", lambda: make_agent("keep_all"), {}),
    ("keep_all", "ADD-only, no limit on entries", lambda: make_agent("keep_all"), {"max_entries": None}),
    ("keep_all", "deletes all at the end", PurgingAgent, {}),
    ("tidy", "all operations", lambda: make_agent("tidy"), {}),
    ("tidy", "without delete", lambda: make_agent("tidy"), {"operations": [CREATE, READ, UPDATE]}),
    ("tidy", "without update", lambda: make_agent("tidy"), {"operations": [CREATE, READ, DELETE]}),
    ("tidy", "without update and delete", lambda: make_agent("tidy"), {"operations": [CREATE, READ]}),
    ("oracle", "just the evidence", lambda: make_agent("oracle"), {}),
)


@dataclass(frozen=True, slots=True)
class Options:
    """Play Forget with every operation, and without some."""

    episodes: int = 60
    """Items, the same for all rows."""
    questions: int = 4
    """Questions an item."""
    out: Path = Path(__file__).parent / "results"


@dataclass(slots=True)
class Row:
    """What became of one agent with one set of operations."""

    agent: str
    what: str
    keywords: dict[str, Any]
    em: list[float]
    """One an episode."""
    answerable: float | None
    precision: float | None
    recall: float | None
    spoilt: float
    """Share of questions that did not count."""
    entries: float
    operations: dict[str, float]

    @property
    def label(self) -> str:
        """Agent and what it may do."""
        return f"{self.agent}: {self.what}"

    @property
    def interval(self) -> tuple[float, float, float]:
        """Mean exact match and its 95 % bootstrap interval over episodes."""
        found = bootstrap(self.em, range(len(self.em)), ("forget", self.label))
        return found.mean, found.low, found.high


def play(name: str, what: str, agent: Agent, keywords: dict[str, Any], options: Options) -> Row:
    """All episodes of one row."""
    env: Any = gym.make(ENV_ID, questions_per_episode=options.questions, store="numpy", **keywords)
    answers: list[dict[str, Any]] = []

    def note(action: str, observation: Observation, info: dict[str, Any]) -> None:
        answers.extend(info.get("episode_metrics", {}).get("answers", []))

    drawn = draw_items(env.unwrapped.num_items, options.episodes, 0)
    records = [play_episode(env, agent, index, shuffle_seed=seed, on_step=note) for index, seed in drawn]
    env.close()
    apart = abstention_metrics(answers)
    return Row(
        agent=name,
        what=what,
        keywords=keywords,
        em=[record.em for record in records],
        answerable=apart["em_answerable"],
        precision=apart["abstention_precision"],
        recall=apart["abstention_recall"],
        spoilt=fmean(answer["closed"] == "not_erased" for answer in answers),
        entries=fmean(record.peak_entries for record in records),
        operations={
            kind: fmean(record.operations.get(kind, 0) for record in records) for kind in (CREATE, UPDATE, DELETE, READ)
        },
    )


def markdown(rows: Sequence[Row], options: Options, made: dict[str, str]) -> str:
    """The table as a page."""
    heads = [
        *("agent", "memory", "EM", "95 % interval", "answerable EM", "abstention precision", "abstention recall"),
        *("spoilt", "entries", "create", "update", "delete"),
    ]
    lines = [
        "# Forget: what Delete is worth",
        "",
        f"`{ENV_ID}` as it is by default: 60 sessions in chunks of 500 tokens, questions hidden while reading, 20 "
        f"entries, no scratchpad. {options.episodes} items with {options.questions} questions each, the same for all "
        "rows; 95 % bootstrap intervals over items; embedder `hashing`, store `numpy`.",
        "",
        "**What is measured** is memory, not language: answers are an *oracle reader*'s, the gold code if and only if "
        "the line that gives the code in force is seen in the last read, else `unknown`. `unknown` is the right answer "
        "to a question about an erased code, so whoever knows nothing gets those. A question is *spoilt*, and scores "
        "0, if memory kept an erased code when it was answered, or an entry that ever held one: an update keeps an "
        "entry's history, only a delete removes it. `tidy` obeys a request by the words of its sentence: it deletes "
        "the entry that names the fact and creates the rest of it anew, and where there is no delete it rewrites the "
        "entry. *entries* is the peak; the last three are operations an episode.",
        "",
        f"{made['date']} · {made['cpu']} · Python {made['python']} · {made['versions']} · `{made['command']}`",
        "",
        "![Exact match by operations](forget.png)",
        "",
        f"| {' | '.join(heads)} |",
        f"|---|---|{'--:|' * (len(heads) - 2)}",
    ]
    for row in rows:
        mean, low, high = row.interval
        cells = [row.agent, row.what, f"**{mean:.2f}**", f"{low:.2f} to {high:.2f}"]
        cells += ["–" if one is None else f"{one:.2f}" for one in (row.answerable, row.precision, row.recall)]
        cells += [f"{row.spoilt:.2f}", f"{row.entries:.1f}"]
        cells += [f"{row.operations[kind]:.1f}" for kind in (CREATE, UPDATE, DELETE)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def plot(rows: Sequence[Row], path: Path) -> None:
    """Bars with intervals."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7.5, 4.0), layout="constrained")
    places = range(len(rows))[::-1]
    for place, row in zip(places, rows, strict=True):
        mean, low, high = row.interval
        axes.barh(place, mean, xerr=[[mean - low], [high - mean]], color=COLOURS[row.agent], height=0.65, capsize=3)
    axes.set_yticks(list(places), [row.label for row in rows])
    axes.set_xlim(0, 1)
    axes.set_xlabel("exact match (95 % bootstrap interval)")
    axes.set_title(f"{ENV_ID}: codes are to be erased, 20 entries")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150, metadata={"Software": None})


def main(options: Options) -> None:
    """Play all rows; write table, numbers and plot."""
    console = Console()
    rows = []
    for name, what, make, keywords in ROWS:
        rows.append(play(name, what, make(), keywords, options))
        mean, low, high = rows[-1].interval
        console.print(f"{rows[-1].label}: {mean:.2f} ({low:.2f} to {high:.2f})")
    how = provenance("python benchmarks/forget.py", ("atommem-gym", "gymnasium", "numpy"))
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "forget.md").write_text(markdown(rows, options, how), encoding="utf-8")
    values = {"made": how, "rows": [asdict(row) for row in rows]}
    (options.out / "forget.json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    plot(rows, options.out / "forget.png")


if __name__ == "__main__":
    main(tyro.cli(Options))
