"""``atommem envs``: the registry as a table."""

from __future__ import annotations

from dataclasses import dataclass

from atommem_gym.commands.consoles import output
from atommem_gym.registration import TASKS
from atommem_gym.task import Task
from atommem_gym.terminal import Column, Table


@dataclass
class Envs:
    """List all environments: their ids, what they ask, and where their items come from.

    Example: atommem envs

    Example: atommem --import my_task envs
    """

    def run(self) -> int:
        """Print the table; the exit status."""
        table = Table(
            [
                Column("id"),
                Column("what", kind="words"),
                Column("source by default", kind="words", leave_out=1),
                Column("items", "right", kind="words", leave_out=2),
            ],
            title="Environments",
        )
        for task in TASKS.values():
            table.add_row(task.env_id, task.summary, _source(task), _items(task))
        console = output()
        console.print(table)
        console.print(
            "Those that read a data set also take source=PATH (official files) and source=synthetic (generated "
            "records of the same shape; not where contexts come whole).\n"
            "Play one:  atommem run AtomMem-Synthetic-v0 --agent keep_all tidy --episodes 5",
            markup=False,
            soft_wrap=True,
        )
        return 0


def _source(task: Task) -> str:
    from atommem_gym.records.hub import HUB
    from atommem_gym.worlds.synthetic.names import SPLITS  # those of every generated world

    if task.dataset is not None:
        known = HUB[task.dataset]
        # Nothing to be had from the hub without a word: its authors publish a file.
        return f"hub: {known.repository}" if known.splits else "official file"
    source = task.config({}).source
    return f"generated: {', '.join(SPLITS)}" if source == "synthetic" else source


def _items(task: Task) -> str:
    """How many episodes a split has, where that needs no download."""
    if task.dataset is not None:
        return "per context" if task.contexts else "per record"
    return f"{task.load_items(task.config({})).num_items:,}"
