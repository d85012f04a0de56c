"""Tries the installed package, away from its repository: `python -I .ci/installed.py VERSION [--testing]`.

It needs what the wheel depends on, and nothing else. With ``--testing`` it tries the testing kit, and needs Hypothesis.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from importlib import metadata, resources
from pathlib import Path

import gymnasium as gym
from gymnasium.utils.env_checker import check_env

import atommem_gym
from atommem_gym.stores import NumpyStore

KEYWORDS = {"num_docs": 12, "store": "numpy"}
DATA = {
    "atommem_gym": ("py.typed", "__init__.pyi"),
    "atommem_gym.envs": ("__init__.pyi",),
    "atommem_gym.prompts": ("crud.j2", "tools.j2", "released.j2"),
    "atommem_gym.evaluation.protocols": ("streams-v1.json",),
    "atommem_gym.viewer": ("skeleton.html",),
}
"""Files beside the modules, some of each kind."""
COMMAND = Path(sys.executable).with_name("atommem")


def main(version: str, *options: str) -> None:
    place = Path(atommem_gym.__file__).resolve()
    assert place.is_relative_to(Path(sys.prefix).resolve()), f"{place} is not of this environment"
    if "--testing" in options:
        try_the_testing_kit()
        return
    assert atommem_gym.__version__ == metadata.version("atommem-gym") == version, atommem_gym.__version__
    for package, names in DATA.items():
        missing = [name for name in names if not resources.files(package).joinpath(name).is_file()]
        assert not missing, f"{package} lacks {missing}"
    try_the_environments()
    try_the_commands(version)


def try_the_environments() -> None:
    env = gym.make("AtomMem-Synthetic-v0", **KEYWORDS)
    check_env(env.unwrapped, skip_render_check=True)
    env.close()
    for name in ("AtomMem-Drift-v0", "AtomMem-Forget-v0", "AtomMem-Needle-v0", "AtomMem-Conversation-v0"):
        with_defaults = gym.make(name, store="numpy")
        observation, _ = with_defaults.reset(seed=7)
        assert observation["chunk"], name
        with_defaults.close()
    envs = gym.make_vec("AtomMem-Synthetic-v0", num_envs=2, num_docs=12, store="milvus")
    envs.reset(seed=7)
    envs.step(["<create>bees live in Skive</create>"] * 2)
    observations, *_ = envs.step(["<read>Skive</read>"] * 2)
    assert all("bees" in str(found) for found in observations["memories"]), observations["memories"]
    envs.close()


def try_the_commands(version: str) -> None:
    assert output("--version") == f"atommem {version}\n"
    assert "AtomMem-LoCoMo-v0" in output("envs")
    assert "tidy" in output("demo", "--episodes", "1", "--num-docs", "20")
    with tempfile.TemporaryDirectory() as folder:
        output("eval", "Synthetic", "--docs", "20", "--agent", "keep_all", "--episodes", "1", "--output", folder)
        page = Path(folder) / "page.html"
        output("view", folder, "--no-open", "--output", str(page))
        assert "</html>" in page.read_text(encoding="utf-8")


def output(*arguments: str) -> str:
    done = subprocess.run([COMMAND, *arguments], capture_output=True, text=True, encoding="utf-8", check=False)
    assert done.returncode == 0, f"atommem {' '.join(arguments)}: exit {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def try_the_testing_kit() -> None:
    from hypothesis.stateful import run_state_machine_as_test

    from atommem_gym.testing import MemoryEnvMachine, MemoryStoreMachine, budget, check_memory_env

    class Store(MemoryStoreMachine):
        def open_store(self, dim: int) -> NumpyStore:
            return NumpyStore(dim)

    run_state_machine_as_test(Store, settings=budget(10, steps=10))
    run_state_machine_as_test(MemoryEnvMachine, settings=budget(5, steps=15))
    env = gym.make("AtomMem-Synthetic-v0", **KEYWORDS)
    check_memory_env(env)
    env.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
