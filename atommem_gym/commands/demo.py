"""``atommem demo``: in under a minute, what this package is about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro
from rich.text import Text

from atommem_gym.agents import AGENTS, make_agent
from atommem_gym.agents.play import play_episode
from atommem_gym.commands.consoles import output
from atommem_gym.commands.contest import Contest
from atommem_gym.commands.run import INTERRUPTED, make_agents, open_env, printer
from atommem_gym.errors import check_integer, counted

ENV_ID = "AtomMem-Synthetic-v0"
EPISODE = {"num_docs": 8, "chunk_tokens": 280, "max_entries": 4, "top_k": 2}
"""A stream short enough to be looked at, and a memory too small for it."""
EPISODE_INDEX = 3
"""An item that makes the agent evict entries and still answer."""
NEXT = "Next:  atommem eval Synthetic --agent keep_all tidy --episodes 10 -o runs/first\nThen:  atommem view runs/first"
"""What the README proposes, too: it needs no file and no model."""


@dataclass
class Demo:
    """Watch scripted agents play a generated world: a table of results, then one episode step by step.

    Entries are stored in Milvus Lite. It takes less than a minute and needs no network.

    Example: atommem demo --episodes 5
    """

    episodes: int = 20
    """Episodes per agent."""
    num_docs: int = 200
    """Documents per episode."""
    seed: Annotated[int, tyro.conf.arg(metavar="S")] = 0
    """Draws the episodes and seeds the agents."""

    def run(self) -> int:
        """Play and print; the exit status."""
        for name, value in (("--episodes", self.episodes), ("--num-docs", self.num_docs)):
            check_integer(name, value, 1)
        console = output()
        console.print(
            f"{len(AGENTS)} scripted agents read {counted(self.episodes, 'stream')} of "
            f"{counted(self.num_docs, 'document')} each ({ENV_ID}), chunk by chunk, and keep what they want in "
            "Milvus Lite.",
            style="bold",
        )
        with open_env(ENV_ID, {"num_docs": self.num_docs, "store": "milvus"}) as env:
            contest = Contest(env, make_agents(AGENTS), self.episodes, self.seed)
            contest.run()
        contest.show(console)
        if contest.interrupted:
            return INTERRUPTED
        console.print(Text("\nOne episode of the agent tidy, step by step, in a memory of four entries", style="bold"))
        with open_env(ENV_ID, EPISODE, watch=True) as env:
            play_episode(env, make_agent("tidy"), EPISODE_INDEX, on_step=printer(env, console))
        console.print(Text(NEXT, style="bold green"), soft_wrap=True)
        return int(bool(contest.failures))
