"""``atommem rescore``: another scorer for recorded answers, with the means before and after."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from os.path import realpath
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from rich.console import Console
from rich.text import Text

from atommem_gym.commands.consoles import output, progress_bar
from atommem_gym.errors import ConfigError, counted
from atommem_gym.evaluation.statistics import bootstrap
from atommem_gym.scoring import load_scorer
from atommem_gym.scoring.judge import JudgeScorer
from atommem_gym.terminal import Column, Table, printable
from atommem_gym.traces import CAUSES, EpisodeTrace, TraceWriter, count_traces, read_traces
from atommem_gym.traces.record import SELDOM
from atommem_gym.traces.rescore import recorded_scores, rescore


@dataclass
class Rescore:
    """Score recorded answers with another scorer. The records keep the old scores beside the new ones.

    Neither the model nor the environment is needed. For the scorer judge, set the environment variables
    ATOMMEM_JUDGE_URL and ATOMMEM_JUDGE_MODEL.

    Example: atommem rescore traces.jsonl --reward f1 -o traces.f1.jsonl
    """

    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """A file of traces: .jsonl, .jsonl.gz or .parquet."""
    reward: Annotated[str, tyro.conf.arg(metavar="NAME")]
    """The scorer: em, f1, subem, released, judge, or a function of yours, package.module:function, called with
    (prediction, answers, question)."""
    out: Annotated[Path, tyro.conf.arg(name="output", aliases=("-o",), metavar="FILE")]
    """The file to write the rescored records to."""
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Continue an output that was not finished (JSON Lines only)."""

    def run(self) -> int:
        """Rescore, write, and print the means; the exit status."""
        if realpath(self.out) == realpath(self.file):
            raise ConfigError(f"-o {self.out} is the file itself; name another one, so that no record is lost")
        total = count_traces(self.file)
        means = Means()
        self._take_up(means)
        done = means.episodes
        scorer = load_scorer(self.reward)
        try:
            with progress_bar() as progress, TraceWriter(self.out) as writer:
                task = progress.add_task(f"scored by {self.reward}", total=total, completed=done)
                for trace in rescore(islice(read_traces(self.file), done, None), scorer, self.reward):
                    writer.write(trace)
                    means.add(trace, self.reward)
                    progress.advance(task)
        finally:
            if isinstance(scorer, JudgeScorer):
                scorer.close()
        means.show(output(), self.reward)
        output().print(Text(printable(f"{means.episodes} of {total} records are in {self.out}")))
        return 0

    def _take_up(self, means: Means) -> None:
        """Count the records that the output holds already, the same ones in the same order."""
        if not self.out.is_file():
            return
        if not self.resume:
            raise ConfigError(f"-o {self.out} is there already; add --resume to go on with it, or name another file")
        # The last line may be torn: then there is one record less, and the writer cuts the rest away.
        for ours, theirs in zip(read_traces(self.out), read_traces(self.file), strict=False):
            if (ours.item, ours.started, ours.agent) != (theirs.item, theirs.started, theirs.agent):
                number = means.episodes
                raise ConfigError(f"--resume: record {number} of {self.out} is not record {number} of {self.file}")
            means.add(ours, self.reward)


@dataclass
class Means:
    """What the old and the new scores of the episodes are on average."""

    before: list[float] = field(default_factory=list)
    """The old score of each episode."""
    after: list[float] = field(default_factory=list)
    """The new score of each episode."""
    items: list[str] = field(default_factory=list)
    """The item of each episode."""
    gained: int = 0
    """Questions whose score rose."""
    lost: int = 0
    """Questions whose score fell."""
    old_rewards: Counter[str] = field(default_factory=Counter)
    """Episodes by the name of the old reward."""
    causes: Counter[str | None] = field(default_factory=Counter)
    """Questions by their old cause of failure."""
    new_causes: Counter[str | None] = field(default_factory=Counter)
    """Questions by their new cause of failure."""

    @property
    def episodes(self) -> int:
        """How many there were."""
        return len(self.after)

    def add(self, trace: EpisodeTrace, reward: str) -> None:
        """Count an episode that has been rescored."""
        old, new = recorded_scores(trace), recorded_scores(trace, reward)
        self.before.append(float(np.mean(old)))
        self.after.append(float(np.mean(new)))
        self.items.append(f"{trace.env.id} {trace.item}")
        self.gained += sum(a > b for a, b in zip(new, old, strict=True))
        self.lost += sum(a < b for a, b in zip(new, old, strict=True))
        preset = trace.env.keywords.get("preset", "paper")
        self.old_rewards[trace.env.keywords.get("reward", "released" if preset == "released" else "em")] += 1
        self.causes.update(trace.causes)
        self.new_causes.update(next(one.causes for one in trace.rescores if one.scorer == reward))

    def show(self, console: Console, reward: str) -> None:
        """Print the means with 95 % bootstrap intervals over items, and the causes."""
        if not self.episodes:
            console.print("there are no records")
            return
        known = [cause for cause in CAUSES if cause not in SELDOM or cause in self.causes + self.new_causes]
        # The causes that come last are the rarest.
        causes_columns = [Column(cause, "right", leave_out=number) for number, cause in enumerate(known, 1)]
        table = Table(
            [Column("", kind="words"), Column("mean (95 %)", "right"), Column("failed", "right"), *causes_columns],
            title=counted(self.episodes, "episode"),
        )
        old = " + ".join(sorted(self.old_rewards))
        for name, values, causes in (
            (f"before: {old}", self.before, self.causes),
            (f"after: {reward}", self.after, self.new_causes),
        ):
            failed = sum(causes[cause] for cause in known)
            interval = bootstrap(values, self.items, ("rescore", reward)).text(3)
            counts = [str(causes[cause]) for cause in known]
            table.add_row(name, interval, str(failed), *counts)
        console.print(table)
        difference = bootstrap(np.subtract(self.after, self.before).tolist(), self.items, ("rescore", reward)).text(3)
        console.print(
            f"difference {difference}; {counted(self.gained, 'question scores', 'questions score')} higher, "
            f"{self.lost} lower"
        )
