"""Writes down what every worker of a run was told, and on which machine it played."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

from verl.experimental.agent_loop.agent_loop import AgentLoopOutput

from atommem_gym.agents.learn.verl_loop import AtomMemAgentLoop
from atommem_gym.errors import AtomMemError
from atommem_gym.files.json_lines import JsonLines
from atommem_verl_cpu.two_nodes import FILE

SETTINGS = ("env_keywords", "template", "log", "run")
"""Of the agent loop's arguments."""


class WitnessedAgentLoop(AtomMemAgentLoop):
    """The agent loop; a line for each session goes into ``witnesses.jsonl`` beside the log of the sessions.

    Args:
        **settings: See :class:`~atommem_gym.agents.learn.verl_loop.AtomMemAgentLoop`.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.told = {name: settings[name] for name in SETTINGS}
        self.told["env_keywords"] = dict(self.told["env_keywords"])

    async def run(self, sampling_params: dict[str, Any], **row: Any) -> list[AgentLoopOutput]:
        """Play the episode of a row, and say where."""
        outputs = await super().run(sampling_params, **row)
        line = {
            "uid": str(row["uid"]),
            "session": int(row["session_id"]),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "folder": os.getcwd(),
            "settings": self.told,
            "environment": dict(os.environ),
        }
        witnesses = JsonLines(Path(self.told["log"]).with_name(FILE), AtomMemError, "name another folder", shared=True)
        witnesses.append(line)
        return outputs
