"""``atommem export``: records as training data for veRL and TRL, as chats, and as a dataset of Minari."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.text import Text

from atommem_gym.commands.consoles import output
from atommem_gym.errors import ConfigError, counted
from atommem_gym.plugins.loading import is_plugin, module_of
from atommem_gym.terminal import Column, Table, printable
from atommem_gym.traces.training.export import Exported, export
from atommem_gym.traces.training.minari import DATASET, export_minari
from atommem_gym.traces.training.sft import Selection
from atommem_gym.trust import masked


@dataclass
class Export:
    """Turn traces into data for supervised fine-tuning: one chat per step, of questions that were answered well.

    Scripted agents saw no prompt; their steps are rendered through the environment's prompt, so that an oracle's
    episodes become demonstrations. Train and dev share neither questions nor gold documents. --format minari writes all
    episodes as they were played, for offline reinforcement learning.

    Example: atommem export traces.jsonl.gz -o sft --format verl --threshold 1
    """

    files: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FILE…")]
    """Files of traces: .jsonl, .jsonl.gz or .parquet."""
    out: Annotated[Path, tyro.conf.arg(name="output", aliases=("-o",), metavar="DIR")]
    """The folder for train and dev, and for export.json, which says what they were made of."""
    format: Literal["verl", "trl", "messages", "minari"] = "verl"
    """verl: Parquet with a column `messages`. trl: JSONL with conversational `prompt` and `completion`. messages: JSONL
    with `messages` (the chat format of Hugging Face) and what they are about. minari: the dataset atommem/traces-v0."""
    threshold: float = 1.0
    """A question passes with a score of at least this. Answering steps of questions that do not pass are left out."""
    reading_share: float = 0.5
    """The share of an episode's questions that must pass for its reading steps to be kept."""
    scorer: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Use the scores that `atommem rescore --reward NAME` wrote, in place of the episode's own."""
    drop_rejected: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Leave out steps with an operation that was rejected or cut."""
    thinking: Literal["keep", "strip"] = "keep"
    """Whether to keep or strip reasoning in the responses."""
    render: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Render all prompts anew, even where the records hold the messages that the model saw."""
    template: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Render prompts with this Jinja template. A template that a record names is not read."""
    dev: Annotated[float, tyro.conf.arg(metavar="SHARE")] = 0.1
    """About which share of the examples goes to dev; 0 for none."""
    seed: Annotated[int, tyro.conf.arg(metavar="S")] = 0
    """Draws what goes to dev."""

    def run(self) -> int:
        """Export and print what was written; the exit status."""
        if not self.files:
            raise ConfigError("no FILE given; name files of traces: atommem export traces.jsonl -o sft")
        for option, share in (("--threshold", self.threshold), ("--reading-share", self.reading_share)):
            if not 0 <= share <= 1:
                raise ConfigError(f"{option} {share:g} must be a number from 0 to 1")
        if not 0 <= self.dev < 1:
            raise ConfigError(f"--dev {self.dev:g} must be a number from 0 to below 1")
        selection = Selection(
            threshold=self.threshold,
            reading_share=self.reading_share,
            scorer=self.scorer,
            drop_rejected=self.drop_rejected,
            thinking=self.thinking,
            render=self.render,
            template=self.template,
        )
        if self.format == "minari":
            return self._minari(selection)
        show(export(self.files, self.out, self.format, selection, dev_share=self.dev, seed=self.seed), self.dev)
        return 0

    def _minari(self, selection: Selection) -> int:
        if selection != Selection() or (self.dev, self.seed) != (Export.dev, Export.seed):
            raise ConfigError(
                "--format minari takes all episodes as they were played; leave the options out that select steps, "
                "render prompts or divide into train and dev"
            )
        exported = export_minari(self.files, self.out)
        console = output()
        console.print(f"{counted(exported.steps, 'step')} of {counted(exported.episodes, 'episode')}")
        for name, value in exported.withheld:
            if is_plugin(name.partition(".")[0], value):
                remedy = f"if you trust its code, add --import {module_of(value)}"
            else:
                remedy = f"if you mean it, add --trust {value}"
            line = (
                f"the dataset names no environment: the records name {name}={value!r}, which recover_environment() "
                f"would use only because they say so; {remedy}"
            )
            console.print(Text(printable(masked(line)), style="bold yellow"), soft_wrap=True)
        if not exported.environment and not exported.withheld:
            console.print("the dataset names no environment: its episodes are of several, of custom items, or shaped")
        for line in (f"wrote {exported.path}", f"load it with: MINARI_DATASETS_PATH={self.out} minari show {DATASET}"):
            console.print(Text(printable(line)), soft_wrap=True)
        return 0


def show(exported: Exported, dev_share: float) -> None:
    """Print how many steps became examples, why the others did not, and where they are."""
    console, tally = output(), exported.tally
    columns = [Column("steps", kind="words"), Column("", "right")]
    table = Table(columns, title=f"{counted(tally.steps, 'step')} of {counted(tally.episodes, 'episode')}")
    for phase, count in sorted(tally.kept.items()):
        table.add_row(f"kept, {phase}", str(count))
    table.add_row("kept, without operations", str(tally.silent))
    for reason, count in tally.dropped.most_common():
        table.add_row(f"left out: {reason}", str(count))
    table.add_row("in train", str(exported.train))
    table.add_row("in dev", str(exported.dev))
    console.print(table)
    console.print(
        f"{counted(exported.components, 'group')} of episodes without a common question or gold document; "
        f"{counted(exported.dev_documents_in_train, 'gold document')} of dev among the distractors of train"
    )
    if dev_share and not exported.dev:
        console.print(
            Text("dev is empty: all episodes hang together by questions or gold documents", style="bold yellow")
        )
    if tally.own_prompt:
        named = ", ".join(map(repr, sorted(tally.own_prompt)[:3])) + (" …" if len(tally.own_prompt) > 3 else "")
        line = f"the records name the template {named}, which was not read: prompts are the dialect's own; --template"
        console.print(Text(printable(f"{line} FILE renders with yours"), style="bold yellow"), soft_wrap=True)
    if tally.unstripped:
        console.print(
            f"{counted(tally.unstripped, 'response')} with reasoning: operations would have changed without it"
        )
    for path in exported.files:
        console.print(Text(printable(f"wrote {path}")), soft_wrap=True)
