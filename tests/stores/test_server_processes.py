"""SPEC M13, M14: processes on one Milvus server see nothing of each other, also when one is killed and resumed."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.servers import REAL_MILVUS, AnyServer, milvus_server, own_database  # noqa: F401
from support.stores import players
from support.stores.players import Plan, endless, states

from atommem_gym.stores.loading import open_store

STEPS, KILLED_IN = 8, 5
ANSWERS_WITHIN_S = 120.0


@pytest.fixture
def url(milvus_server: AnyServer) -> Iterator[str]:  # noqa: F811
    """A database of its own, so that nothing but what this test leaves is found there."""
    with own_database(milvus_server) as name:
        yield name


class Player:
    """A process that plays a plan, one step whenever it is told to."""

    def __init__(self, url: str, keywords: dict[str, Any], seed: str, folder: Path, done: int = 0) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["atommem_gym.envs"])
        self.pipe, theirs = context.Pipe()
        args = (url, keywords, seed, done, str(folder), theirs)
        self.process = context.Process(target=players.play_in_turns, args=args, daemon=True)
        self.process.start()
        theirs.close()
        self.results: list[str] = []
        self.key = ""

    def begin(self) -> None:
        self.pipe.send(True)

    def end(self) -> str:
        assert self.pipe.poll(ANSWERS_WITHIN_S), "a player says nothing"
        return str(self.pipe.recv())

    def kill(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


def results_on_numpy(seed: str) -> list[str]:
    env = endless(store="numpy")
    env.reset(seed=0)
    found = [repr(env.step(action)) for action, _ in zip(Plan(seed).actions(), range(STEPS), strict=False)]
    env.close()
    return found


@pytest.mark.parametrize("keep", [False, True], ids=["temporary", "kept"])
def test_M13_M14_three_processes_one_killed_and_resumed_see_nothing_of_each_other(
    url: str, keep: bool, tmp_path: Path
) -> None:
    """At the same time on a real Milvus; in turns on milvus-lite's server, which loses rows when two write at once."""
    keywords = {"keep_memory": True} if keep else {}
    seeds = ["one", "two", "three"]
    with contextlib.ExitStack() as stack:

        def started(seed: str, done: int = 0) -> Player:
            player = Player(url, keywords, seed, tmp_path, done)
            stack.callback(player.kill)
            if not REAL_MILVUS:
                player.key = player.end()
            return player

        def step(among: list[Player]) -> None:
            for player in among:
                player.begin()
                if not REAL_MILVUS:
                    player.results.append(player.end())
            if REAL_MILVUS:
                for player in among:
                    player.results.append(player.end())

        playing = [started(seed) for seed in seeds]
        for player in playing:
            player.key = player.key or player.end()
        for _ in range(1, KILLED_IN):
            step(playing)
        killed = playing[1]
        killed.begin()
        # In the middle of a step: what of it has arrived nobody knows.
        time.sleep(0.02)
        killed.kill()
        step([playing[0], playing[2]])
        resumed = started("two", KILLED_IN - 1)
        resumed.key = resumed.key or resumed.end()
        resumed.results = list(killed.results)
        step([resumed])
        playing[1] = resumed
        for _ in range(KILLED_IN, STEPS):
            step(playing)
        assert [player.results for player in playing] == [results_on_numpy(seed) for seed in seeds]
        keys = [player.key for player in playing]
        for player in playing:
            player.pipe.send(False)
            assert player.end() == "closed"
    store = open_store(url, 1024, keep=keep)
    left = set(store.episodes())
    assert len({*keys, killed.key}) == 4
    assert left >= {killed.key}
    assert left == ({*keys, killed.key} if keep else {killed.key})
    for seed, key in zip(seeds, keys, strict=True):
        stored = store.load(key)
        if not keep:
            assert stored is None
            continue
        assert stored is not None
        state = json.loads(stored.state or "{}")
        found = dict(zip(stored.ids.tolist(), stored.texts, strict=True)), state["next_id"], state["scratchpad"]
        assert found == states(seed, STEPS)[-1]
    store.close()
