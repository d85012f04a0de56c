"""Without torch the learners say which extra has it."""

from __future__ import annotations

import subprocess
import sys

_SCRIPT = """
import importlib, sys
sys.modules["torch"] = None
for name, extra in (("agents.learn.ppo", "rl"), ("agents.learn.ppo_episodes", "rl"), ("agents.learn.grpo", "llm"),
                    ("bridges.trl", "trl")):
    try:
        importlib.import_module(f"atommem_gym.{name}")
    except ModuleNotFoundError as error:
        assert str(error).endswith(f": pip install 'atommem-gym[{extra}]'"), error
        assert error.name == "torch"
    else:
        raise AssertionError(name)
from atommem_gym.agents import learn
try:
    learn.ppo
except ModuleNotFoundError as error:
    assert "atommem-gym[rl]" in str(error)
import atommem_gym.agents.learn.session_log, atommem_gym.agents.learn.training_log
"""


def test_without_torch_the_learners_name_their_extra_and_the_logs_are_read() -> None:
    subprocess.run([sys.executable, "-c", _SCRIPT], check=True)
