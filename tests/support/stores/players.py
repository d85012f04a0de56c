"""Episodes that the fault tests play in processes of their own: what each step does, and what memory then holds."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from support.fixed_items import fixed_env, fixed_gym

from atommem_gym.envs import AtomMemEnv, AtomMemVectorEnv
from atommem_gym.records.record import Document, Record

WORDS = ("bees", "boats", "honey", "Varde", "Skive", "Tarn", "1815", "clock", "tower", "river")


def rng(*seed: object) -> np.random.Generator:
    """A generator that is the same in every process."""
    digest = hashlib.blake2b(repr(seed).encode(), digest_size=8).digest()
    return np.random.default_rng(int.from_bytes(digest, "little"))


@dataclass
class Plan:
    """The actions of one episode by number, and the memory that they must lead to: a dict and nothing clever."""

    seed: str
    text_words: int = 12
    entries: dict[int, str] = field(default_factory=dict)
    next_id: int = 1
    scratchpad: str = ""

    def actions(self) -> Iterator[str]:
        """One action after the other; memory is as it will be after the one last yielded."""
        dice = rng(self.seed)
        for number in range(10_000_000):
            yield "".join(self._operation(dice, number) for _ in range(int(dice.integers(1, 4)))) + self._read(dice)

    def _operation(self, dice: np.random.Generator, number: int) -> str:
        choice = dice.random()
        text = f"{self.seed} {number} {' '.join(dice.choice(WORDS, self.text_words))}"
        if self.entries and choice < 0.35:
            entry = int(dice.choice(sorted(self.entries)))
            if choice < 0.2:
                self.entries[entry] = text
                return f'<update id="{entry}">{text}</update>'
            del self.entries[entry]
            return f'<delete id="{entry}"/>'
        if choice > 0.9:
            self.scratchpad = text
            return f"<scratchpad>{text}</scratchpad>"
        self.entries[self.next_id] = text
        self.next_id += 1
        return f"<create>{text}</create>"

    @staticmethod
    def _read(dice: np.random.Generator) -> str:
        return f"<read>{' '.join(dice.choice(WORDS, 2))}</read>"

    def state(self) -> tuple[dict[int, str], int, str]:
        return dict(self.entries), self.next_id, self.scratchpad


def states(seed: str, up_to: int, text_words: int = 12) -> list[tuple[dict[int, str], int, str]]:
    """The memory of a plan before its first action, and after each of the first ``up_to``."""
    plan = Plan(seed, text_words)
    found = [plan.state()]
    for _, _ in zip(range(up_to), plan.actions(), strict=False):
        found.append(plan.state())
    return found


DOCUMENT = Document("Varde", "Varde lies beside the green river Tarn.")
QUESTION = Record("q", "Where does Varde lie?", "Tarn", (DOCUMENT,), (0,), ())


def endless(num_envs: int | None = None, **keywords: Any) -> Any:
    """An environment, or a vector of them, whose episodes last as long as the test wants."""
    keywords = {"max_steps": 10**6, "max_reads_per_question": 10**6, **keywords}
    if num_envs is None:
        return fixed_env((QUESTION,), (DOCUMENT,), **keywords)
    return fixed_gym((QUESTION,), (DOCUMENT,), num_envs, **keywords)


def write_until_killed(store: str, seed: str, num_envs: int, memtable: int | None, told: Connection) -> None:
    """Say the memory keys, then play plans and acknowledge each step, until somebody kills this process."""
    if memtable is not None:
        # Flushes and compactions, which a log of 128 MB would never need in so short a life, fall under the axe too.
        from milvus_lite.engine import collection

        collection.MEMTABLE_MEMORY_LIMIT = memtable
    plans = [Plan(f"{seed}-{i}") for i in range(num_envs)]
    moves = [plan.actions() for plan in plans]
    if num_envs == 1:
        env = endless(store=store)
        env.reset(seed=0)
        told.send([env.memory_key])
        while True:
            env.step(next(moves[0]))
            told.send(plans[0].state()[1:2])
    envs: AtomMemVectorEnv = endless(num_envs, store=store)
    envs.reset(seed=0)
    told.send(list(envs.memory_keys))
    while True:
        envs.step([next(move) for move in moves])
        told.send(())


FLUSH_PARTS = ("frozen", "files written", "committed", "half of the log deleted")


def die_in_a_flush(store: str, part: str, told: Connection) -> None:
    """Write until the log is flushed, and die at one point of that."""
    from milvus_lite.engine import collection, flush
    from milvus_lite.storage.manifest import Manifest
    from milvus_lite.storage.wal import WAL

    def die(*args: Any, **keywords: Any) -> None:
        os._exit(9)

    collection.MEMTABLE_MEMORY_LIMIT = 100_000
    env = endless(store=store)
    env.reset(seed=0)
    told.send(env.memory_key)
    plan = Plan("flush")
    moves = plan.actions()
    for _ in range(3):
        env.step(next(moves))
        told.send("done")
    if part == "frozen":
        collection.execute_flush = die
    elif part == "files written":
        Manifest.save = die
    elif part == "committed":
        WAL.close_and_delete = die
    else:
        remove = os.remove

        def remove_one(path: str) -> None:
            remove(path)
            os._exit(9)

        flush.os.remove = remove_one  # the same module everywhere
    while True:
        env.step(next(moves))
        told.send("done")


def hold(store: str, told: Connection) -> None:
    """Open a store, say how it went, and keep it until told otherwise."""
    try:
        env = endless(store=store)
    except Exception as error:
        told.send((type(error).__name__, str(error)))
        return
    env.reset(seed=0)
    told.send(("held", env.memory_key))
    told.recv()
    env.step("<create>still here</create>")
    env.close()
    told.send(("closed", ""))


def facts(env: AtomMemEnv) -> tuple[dict[int, str], int, str]:
    """The memory of an environment's episode as ``Plan.state`` has it."""
    memory = env.episode.state.memory
    return {i: entry.text for i, entry in sorted(memory.entries.items())}, memory.next_id, memory.scratchpad


def open_things() -> tuple[int, int]:
    """Open file descriptors and threads of this process."""
    import threading

    return len(os.listdir("/proc/self/fd")), threading.active_count()


def resident_kib() -> int:
    """Memory of this process that is in RAM."""
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def leave_unclosed(store: str, episodes: int, every: int, told: Connection) -> None:
    """Play episodes to nowhere and leave them, every fifth time the environment itself; tell what is open by then."""
    import gc

    from milvus_lite.engine import collection

    # Milvus Lite lets go of deleted rows when it flushes, by default after 128 MB, some 1,800 of these episodes.
    collection.MEMTABLE_MEMORY_LIMIT = 2_000_000
    env = endless(store=store)
    for number in range(episodes):
        if number % 5 == 4:
            env = endless(store=store)
        env.reset(seed=number)
        # The same texts again and again: the cache of embeddings may grow up to its limit, and nothing else may.
        moves = Plan(f"leak-{number % 10}").actions()
        for _ in range(4):
            env.step(next(moves))
        if number % every == every - 1:
            gc.collect()
            kept = env._backend.store
            told.send((number + 1, *open_things(), resident_kib(), len(kept.episodes())))
    told.send(None)


def run_out_of_space(store: str, seed: str, num_envs: int, limit: int, memtable: int | None, told: Connection) -> None:
    """Play a plan while files may not grow over ``limit`` bytes; each step that fails is looked at and repeated.

    Tells how many steps failed, then ends without closing anything.
    """
    import pickle
    import resource

    from atommem_gym.errors import StoreError

    if memtable is not None:
        from milvus_lite.engine import collection

        collection.MEMTABLE_MEMORY_LIMIT = memtable
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    plans = [Plan(f"{seed}-{i}", 150) for i in range(num_envs)]
    moves = [plan.actions() for plan in plans]
    env, twin = endless(num_envs, store=store), endless(num_envs, store="numpy")
    env.reset(seed=0)
    twin.reset(seed=0)

    def states_of(which: AtomMemVectorEnv) -> list[bytes]:
        running = [slot.running for slot in which._slots]
        stored = [which._backend.stored(each) for each in running]
        return [
            pickle.dumps((r.episode.state, s and (s.ids.tolist(), s.texts)))
            for r, s in zip(running, stored, strict=True)
        ]

    failures: list[str] = []
    steps = 0
    while len(failures) < 6:
        actions = [next(move) for move in moves]
        before = states_of(env) if steps % 5 == 0 else None
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            result = env.step(actions)
        except StoreError as error:
            failures.append(str(error))
            middle = states_of(env)
            assert before is None or before == middle, "a step that failed has changed something"
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
            result = env.step(actions)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        steps += 1
        assert repr(result) == repr(twin.step(actions)), f"step {steps} differs from that of a store that never fails"
    told.send((list(env.memory_keys), steps, failures))
    os._exit(0)


def keys_and_states(keys: Sequence[str], seed: str, steps: int) -> dict[str, tuple[dict[int, str], int, str]]:
    """What must be kept under each key after so many steps of ``run_out_of_space``."""
    return {key: states(f"{seed}-{i}", steps, 150)[-1] for i, key in enumerate(keys)}


def play_in_turns(store: str, keywords: dict[str, Any], seed: str, done: int, folder: str, told: Connection) -> None:
    """Play a plan, one step whenever told to, from its beginning or from the snapshot after ``done`` steps.

    Tells the memory key, then the result of each step; leaves a snapshot after each in ``folder``.
    """
    import pickle
    from pathlib import Path

    env = endless(store=store, **keywords)
    moves = Plan(seed).actions()
    if done:
        env.restore(pickle.loads((Path(folder) / f"{seed}-{done}").read_bytes()))
        for _ in range(done):
            next(moves)
    else:
        env.reset(seed=0)
    told.send(env.memory_key)
    for number in itertools.count(done + 1):
        if not told.recv():
            break
        result = env.step(next(moves))
        (Path(folder) / f"{seed}-{number}").write_bytes(pickle.dumps(env.snapshot()))
        told.send(repr(result))
    env.close()
    told.send("closed")
