"""Items made ahead are the items that would have been made, and leave nothing behind (SPEC M15, D6)."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from gymnasium.vector import AutoresetMode
from support.records.made_items import ItemsWithout

import atommem_gym  # noqa: F401  (registers the environments)
from atommem_gym.envs import AtomMemPool, AtomMemVectorEnv
from atommem_gym.envs.items_ahead import AwaitedItems, ItemsAhead
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
            assert until(lambda: all(key in ahead._mail.ready for key in ahead._mail.expected.values()))
            used = len(ahead._mail.ready)
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
    assert until(lambda: len(ahead._mail.ready) == 2)
    assert ahead.item(8, 2) == items.item(8, 2)
    assert ahead.item(7) == items.item(7)
    assert not ahead._mail.ready
    ahead.close()


def test_an_item_that_is_no_longer_expected_is_forgotten() -> None:
    ahead = ItemsAhead(SyntheticItems(num_docs=20))
    for index in range(5):
        ahead.expect(0, index)
    assert until(lambda: 4 in {index for index, _ in ahead._mail.ready})
    assert {index for index, _ in ahead._mail.ready} == {4}
    ahead.close()


def test_the_error_of_an_item_is_raised_by_the_reset_that_needs_it() -> None:
    items = ItemsWithout(num_docs=20, num_items=4)
    ahead = ItemsAhead(items)
    ahead.expect(0, 3)
    ahead.expect(1, 2)
    assert until(lambda: 2 in {index for index, _ in ahead._mail.ready})
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


async def pool_episodes(items_ahead: bool, items: Any = None) -> list[Any]:
    """All that the resets and steps of some environments of a pool return, four at a time."""
    keywords = {"num_docs": 20, "chunk_tokens": 400, "store": "numpy", "max_steps": 4}
    task = "AtomMem-Synthetic-v0"
    async with AtomMemPool(task, capacity=4, items=items, items_ahead=items_ahead, **keywords) as pool:

        async def episodes(number: int) -> list[Any]:
            seen: list[Any] = []
            async with pool.env() as env:
                # Two of them meet the same items.
                seen.append(await env.areset(seed=number // 2))
                for options in (None, {"index": number, "shuffle_seed": 3}, {"index": 5}):
                    seen.append(await env.astep("<create>a</create><read>b</read>"))
                    seen.append(await env.areset(options=options))
            return seen

        seen = await asyncio.gather(*(episodes(number) for number in range(4)))
        assert (pool._made_elsewhere is not None) == items_ahead
    if pool._made_elsewhere is not None:
        assert not alive(pool._made_elsewhere._process.pid)
        assert not pool._made_elsewhere._mail.expected
    return seen


def test_M15_the_items_of_a_pool_are_the_same_bit_for_bit() -> None:
    assert repr(asyncio.run(pool_episodes(True))) == repr(asyncio.run(pool_episodes(False)))


def test_M15_a_pool_whose_process_dies_makes_the_same_items_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    class Dying(AwaitedItems):
        def item(self, index: int, shuffle_seed: int = 0) -> Any:
            self._process.kill()
            self._process.wait()
            return super().item(index, shuffle_seed)

    expected = asyncio.run(pool_episodes(False))
    monkeypatch.setattr("atommem_gym.envs.pool.pool.AwaitedItems", Dying)
    with pytest.warns(RuntimeWarning, match="has ended"):
        assert repr(asyncio.run(pool_episodes(True))) == repr(expected)


def test_the_error_of_an_item_is_raised_by_the_reset_of_a_pool_that_needs_it() -> None:
    async def play() -> None:
        items = ItemsWithout(num_docs=20, num_items=4)
        async with (
            AtomMemPool("AtomMem-Synthetic-v0", capacity=1, items=items, items_ahead=True, store="numpy") as pool,
            pool.env() as env,
        ):
            with pytest.raises(RuntimeError, match="item 3 cannot be made"):
                await env.areset(options={"index": 3})
            observation, _ = await env.areset(options={"index": 2})
        assert observation["question"] == SyntheticItems(num_docs=20).item(2).questions[0].question

    asyncio.run(play())


def test_items_that_several_threads_wait_for_are_made_once_and_each_gets_its_own() -> None:
    items = SyntheticItems(num_docs=20)
    ahead = AwaitedItems(items)
    asked: list[bytes] = []
    send = ahead._send
    ahead._send = lambda message: (asked.append(message), send(message))[1]  # type: ignore[method-assign]
    ahead._process.send_signal(signal.SIGSTOP)
    with ThreadPoolExecutor(6) as threads:
        answers = [threads.submit(ahead.item, index) for index in (7, 7, 7, 8, 7, 8)]
        assert until(lambda: ahead._asking == {(7, 0): 4, (8, 0): 2})
        ahead._process.send_signal(signal.SIGCONT)
        found = [answer.result(60) for answer in answers]
    assert found == [items.item(index) for index in (7, 7, 7, 8, 7, 8)]
    assert len({id(item) for item in found}) == 6
    assert len(asked) == 2
    assert not ahead._mail.ready
    ahead.close()
    assert ahead.item(9) == items.item(9)


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
    # Ignored, where the tests run in the background of a shell.
    "by an interrupt": (
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "os.kill(os.getpid(), signal.SIGINT); import time; time.sleep(60)"
    ),
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
    assert until(lambda: bool(ahead._mail.ready))
    ahead.close()
    assert not alive(ahead._process.pid)
    assert signal.getsignal(signal.SIGINT) is handler
