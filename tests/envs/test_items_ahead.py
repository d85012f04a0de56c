"""Items made ahead are the items that would have been made, and leave nothing behind (SPEC M15, D6)."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from gymnasium.vector import AutoresetMode
from support.records.made_items import ItemsWithout

import atommem_gym  # noqa: F401  (registers the environments)
from atommem_gym.envs import AtomMemVectorEnv
from atommem_gym.envs.items_ahead import ItemsAhead
from atommem_gym.errors import ConfigError
from atommem_gym.worlds.synthetic import SyntheticItems

TESTS = Path(__file__).resolve().parents[1]


def until(met: Callable[[], bool], seconds: float = 60) -> bool:
    end = time.monotonic() + seconds
    while not met() and time.monotonic() < end:
        time.sleep(0.02)
    return met()


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A process that has ended and that nobody waited for is still listed.
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"


def played(items_ahead: bool, mode: AutoresetMode) -> list[Any]:
    """All that some steps with many resets return; the items of the second half are ready where they are made ahead."""
    keywords = {"num_docs": 20, "chunk_tokens": 400, "store": "numpy", "max_steps": 4}
    envs = AtomMemVectorEnv(3, task="Synthetic", autoreset_mode=mode, items_ahead=items_ahead, **keywords)
    seen: list[Any] = [envs.reset(seed=5)]
    used, ahead = 0, envs._ahead
    for number in range(14):
        if ahead is not None and number > 6:
            assert until(lambda: all(key in ahead._ready for key in ahead._expected.values()))
            used = len(ahead._ready)
        seen.append(envs.step(["<create>a</create><read>b</read>"] * 3))
    assert used == (3 if items_ahead else 0)
    envs.close()
    return seen


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_M15_items_made_ahead_are_the_same_bit_for_bit(mode: AutoresetMode) -> None:
    assert list(map(repr, played(True, mode))) == list(map(repr, played(False, mode)))


def test_an_item_that_is_expected_comes_from_the_process_and_equals_the_one_made_here() -> None:
    items = SyntheticItems(num_docs=20)
    ahead = ItemsAhead(items)
    ahead.expect(0, 7)
    ahead.expect(1, 8, 2)
    assert until(lambda: len(ahead._ready) == 2)
    assert ahead.item(8, 2) == items.item(8, 2)
    assert ahead.item(7) == items.item(7)
    assert not ahead._ready
    ahead.close()


def test_an_item_that_is_no_longer_expected_is_forgotten() -> None:
    ahead = ItemsAhead(SyntheticItems(num_docs=20))
    for index in range(5):
        ahead.expect(0, index)
    assert until(lambda: 4 in {index for index, _ in ahead._ready})
    assert {index for index, _ in ahead._ready} == {4}
    ahead.close()


def test_the_error_of_an_item_is_raised_by_the_reset_that_needs_it() -> None:
    items = ItemsWithout(num_docs=20, num_items=4)
    ahead = ItemsAhead(items)
    ahead.expect(0, 3)
    ahead.expect(1, 2)
    assert until(lambda: 2 in {index for index, _ in ahead._ready})
    with pytest.raises(RuntimeError, match="item 3 cannot be made"):
        ahead.item(3)
    ahead.close()
    envs = gym.make_vec("AtomMem-Synthetic-v0", num_envs=2, items=items, items_ahead=True, store="numpy")
    envs.reset(options={"index": [0, 1]})
    with pytest.raises(RuntimeError, match="item 3 cannot be made"):
        envs.reset(options={"index": [3, 1]})
    observations, _ = envs.reset(options={"index": [2, 1]})
    assert observations["question"][0] == SyntheticItems(num_docs=20).item(2).questions[0].question
    envs.close()


def test_items_that_no_other_process_can_be_given_are_refused() -> None:
    items = SyntheticItems(num_docs=20)
    items.name = lambda: "x"  # type: ignore[assignment]
    with pytest.raises(ConfigError, match=r"items_ahead=True: .* cannot be given to another process"):
        ItemsAhead(items)


def test_a_process_that_dies_is_said_once_and_the_items_stay_the_same() -> None:
    items = SyntheticItems(num_docs=20)
    ahead = ItemsAhead(items)
    ahead._process.kill()
    ahead._process.wait()
    with pytest.warns(RuntimeWarning, match=r"has ended \(exit status -9\)"):
        ahead.expect(0, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ahead.expect(0, 1)
    assert ahead.item(3) == items.item(3)
    ahead.close()


def test_no_process_is_left_behind_by_close_or_by_an_environment_that_is_dropped() -> None:
    for closing in (True, False):
        envs = gym.make_vec("AtomMem-Synthetic-v0", num_envs=2, num_docs=20, store="numpy", items_ahead=True)
        envs.reset(seed=0)
        pid = envs.unwrapped._ahead._process.pid
        assert alive(pid)
        if closing:
            envs.close()
            envs.close()
        del envs
        gc.collect()
        assert not alive(pid)


SCRIPT = """
import os, signal, sys, gymnasium as gym, atommem_gym
envs = gym.make_vec("AtomMem-Synthetic-v0", num_envs=2, num_docs=20, store="numpy", items_ahead=True)
envs.reset(seed=0)
print(envs.unwrapped._ahead._process.pid, flush=True)
"""
ENDS = {
    "at its end": "",
    "by an interrupt": "os.kill(os.getpid(), signal.SIGINT); import time; time.sleep(60)",
    "by a kill": "os.kill(os.getpid(), signal.SIGKILL)",
    "by an error": "raise RuntimeError",
}


@pytest.mark.parametrize("end", ENDS)
def test_no_process_is_left_behind_by_a_script_without_a_guard_that_ends(end: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT + ENDS[end])
    ran = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120)
    assert ran.stdout.strip().isdigit(), ran.stderr
    assert until(lambda: not alive(int(ran.stdout)), 20)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_makes_its_items_itself_and_leaves_the_other_alone() -> None:
    items = SyntheticItems(num_docs=20)
    handler = signal.getsignal(signal.SIGINT)
    ahead = ItemsAhead(items)
    child = os.fork()
    if not child:
        status = 1
        try:
            ahead.expect(0, 1)
            status = int(ahead.item(1) != items.item(1))
            ahead.close()
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert alive(ahead._process.pid)
    ahead.expect(0, 1)
    assert until(lambda: bool(ahead._ready))
    ahead.close()
    assert not alive(ahead._process.pid)
    assert signal.getsignal(signal.SIGINT) is handler
