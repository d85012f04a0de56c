"""A state machine that compares a store with a dict; a test of a custom store is a subclass of three lines."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from atommem_gym.memory.protocols import Rows, Search, Store, StoredEpisode, Vectors, Write
from atommem_gym.memory.ranking import rank

DIM = 3
"""Dimension of the machine's vectors."""
_EPISODES = 3

_Vector = tuple[float, float, float]
# Few ids, so that writes replace entries, and deletes name present and absent ones.
_ids = st.integers(1, 5)
_texts = st.sampled_from(["a", "b", "", "\0", "'\"\\", '" or episode != "', "🦉", "\ud800"])
# Few vectors, so that many rows tie; two differ by about the precision of float32, one is zero, one is long.
_vectors: st.SearchStrategy[_Vector] = st.sampled_from(
    [
        *((1, 0, 0), (0, 1, 0), (1, 1, 0), (-1, 0, 0), (0, 0, 0), (3, 1, 2)),
        *((0.1, 0.2, 0.3), (0.1, 0.2, 0.3000001), (1, 1e-4, 0), (1e6, 1, 0)),
    ]
)
_numbers = st.integers(0, _EPISODES - 1)
_states = st.one_of(
    st.none(), st.sampled_from(["{}", '{"next_id": 4}']), st.just("é").map(lambda letter: letter * 40_000)
)


@dataclass(frozen=True)
class NetEffect:
    """What one step writes to one episode."""

    put: dict[int, tuple[str, _Vector]] = field(default_factory=dict)
    """Text and vector of each entry inserted or replaced, by id."""
    deletes: tuple[int, ...] = ()
    """Ids of deleted entries; absent ids are allowed."""
    state: str | None = None
    """The state to store with a kept episode; ``None`` leaves it unchanged."""


_net_effects = st.builds(
    lambda put, deletes, state: NetEffect(put, tuple(sorted(deletes - set(put))), state),
    st.dictionaries(_ids, st.tuples(_texts, _vectors), max_size=5),
    st.sets(_ids, max_size=3),
    _states,
)


class MemoryStoreMachine(RuleBasedStateMachine):
    """Runs random operations of several episodes on a store, and compares all that it returns with a dict.

    Subclass it, override :meth:`open_store`, and expose the test case to pytest::

        class MyStoreMachine(MemoryStoreMachine):
            def open_store(self, dim):
                return MyStore(dim)

        TestMyStore = MyStoreMachine.TestCase

    The rules are those of the protocol (``atommem_gym.memory.protocols.Store``) and SPEC M5, M6, M8 and M13: a search
    sees the writes before it; its candidates suffice for exact ranking, also where many rows tie at the cut, and never
    come from another episode; a write replaces, deletes (absent ids too) and may be repeated; a load returns entries
    by ascending id, bit for bit; a dropped episode is deleted, and so is a released one unless the store is kept; a
    kept store has the same content after it is opened again. Texts and vectors include ties, texts that look like
    filter expressions, and texts that are not valid UTF-8.
    """

    def __init__(self) -> None:
        super().__init__()
        self._scratch = tempfile.TemporaryDirectory(prefix="atommem-store-", ignore_cleanup_errors=True)
        self.folder = Path(self._scratch.name)
        """An empty folder of this run, for a store that keeps files; deleted when the run ends."""
        # A store may be shared with other runs (a server), so keys must be unique.
        unique = uuid.uuid4().hex
        self._keys = [f"machine-{unique}-{number}" for number in range(_EPISODES)]
        self._entries: list[dict[int, tuple[str, Vectors]]] = [{} for _ in range(_EPISODES)]
        self._states: list[str | None] = [None] * _EPISODES
        self._last: dict[int, NetEffect] = {}

    def open_store(self, dim: int) -> Store:
        """Open the store under test, for vectors of dimension ``dim``; a kept store is opened again after ``close``.

        Raises:
            NotImplementedError: the subclass does not override it.
        """
        raise NotImplementedError(
            f"{type(self).__name__} does not say how to open its store; override open_store(self, dim)"
        )

    @initialize()
    def open(self) -> None:
        """Open the store at the beginning of a run."""
        self.store = self.open_store(DIM)
        assert self.store.dim == DIM, f"store.dim is {self.store.dim}, but it was opened for vectors of {DIM} numbers"

    @rule(effects=st.dictionaries(_numbers, _net_effects, min_size=1))
    def write(self, effects: dict[int, NetEffect]) -> None:
        """Write one step of one or several episodes."""
        self._last = effects
        self.store.write([self._written(number, effect) for number, effect in effects.items()])
        for number, effect in effects.items():
            entries = self._entries[number]
            entries.update({i: (text, np.array(vector, np.float32)) for i, (text, vector) in effect.put.items()})
            for i in effect.deletes:
                entries.pop(i, None)
            if self.store.kept and effect.state is not None:
                self._states[number] = effect.state

    @precondition(lambda self: self._last)
    @rule()
    def write_the_same_again(self) -> None:
        """Repeat a write, as after a failure: the rows stay the same."""
        self.store.write([self._written(number, effect) for number, effect in self._last.items()])

    @rule(number=_numbers, first=st.sampled_from([1, 4]), count=st.sampled_from([2, 40, 90]), vector=_vectors)
    def crowd(self, number: int, first: int, count: int, vector: _Vector) -> None:
        """Write many entries with the same vector, from the highest id down."""
        self.write({number: NetEffect(dict.fromkeys(range(first + count - 1, first - 1, -1), ("twin", vector)))})

    @rule(wanted=st.lists(st.tuples(_numbers, _vectors, st.integers(1, 7)), min_size=1, max_size=4))
    def search(self, wanted: list[tuple[int, _Vector, int]]) -> None:
        """M5, M6, M13: candidates come from this episode only and contain the best ``k`` of all its rows."""
        searches = [Search(self._keys[number], np.array(vector, np.float32), k) for number, vector, k in wanted]
        found = self.store.candidates(searches)
        assert len(found) == len(searches), f"{len(searches)} searches got {len(found)} answers; each one gets its own"
        for (number, _, _), search, rows in zip(wanted, searches, found, strict=True):
            self._check_rows(number, rows.ids.tolist(), rows.vectors, "a search proposes")
            best, best_of_all = (rank(search.vector, of, search.k) for of in (rows, self._all_rows(number)))
            assert best == best_of_all, (
                f"M6: episode {number}: of the candidates the best {search.k} are {best}, of all entries {best_of_all}"
            )

    @rule(number=_numbers)
    def load(self, number: int) -> None:
        """A load returns every entry, by ascending id, with text and vector bit for bit."""
        loaded, entries = self.store.load(self._keys[number]), self._entries[number]
        if not self._exists(number):
            assert loaded is None, f"M13: episode {number} holds nothing, but load gives {loaded}; it must give None"
            return
        assert loaded is not None, f"M13: episode {number} holds {sorted(entries)}, but load gives None"
        self._check_loaded(number, loaded)

    @rule()
    def list_episodes(self) -> None:
        """``episodes`` returns the sorted keys of episodes with an entry or a state."""
        listed = self.store.episodes()
        assert listed == sorted(set(listed)), f"episodes() gives {listed}: keys must be sorted and different"
        expected = [key for number, key in enumerate(self._keys) if self._exists(number)]
        ours = [key for key in listed if key in self._keys]
        assert ours == expected, f"M13: episodes() gives {ours} of this run's keys, expected {expected}"

    @rule(numbers=st.lists(_numbers, max_size=2, unique=True), unknown=st.booleans())
    def drop(self, numbers: list[int], unknown: bool) -> None:
        """A dropped episode is deleted, and no other one; an unknown key is ignored."""
        self.store.drop([self._keys[number] for number in numbers] + ["machine-unknown"] * unknown)
        self._forget(numbers)

    @rule(numbers=st.lists(_numbers, max_size=2, unique=True))
    def release(self, numbers: list[int]) -> None:
        """M13: a released episode stays in a kept store and is deleted from any other."""
        self.store.release([self._keys[number] for number in numbers])
        if not self.store.kept:
            self._forget(numbers)

    @precondition(lambda self: self.store.kept)
    @rule()
    def close_and_open_again(self) -> None:
        """M13: a kept store has the same content after it is opened again."""
        self.store.close()
        self.store = self.open_store(DIM)

    def teardown(self) -> None:
        """Drop the run's episodes and close the store, twice: a second close does nothing."""
        if hasattr(self, "store"):
            try:
                self.store.drop(self._keys)
            finally:
                self.store.close()
                self.store.close()
        self._scratch.cleanup()

    def _forget(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            self._entries[number] = {}
            self._states[number] = None
        # Repeating an earlier write would write the deleted rows anew.
        self._last = {}

    def _written(self, number: int, effect: NetEffect) -> Write:
        vectors = np.array([vector for _, vector in effect.put.values()], np.float32).reshape(len(effect.put), DIM)
        state = effect.state if self.store.kept else None
        texts = [text for text, _ in effect.put.values()]
        return Write(self._keys[number], list(effect.put), texts, vectors, effect.deletes, state)

    def _exists(self, number: int) -> bool:
        return bool(self._entries[number]) or self._states[number] is not None

    def _all_rows(self, number: int) -> Rows:
        entries = self._entries[number]
        vectors = np.array([vector for _, vector in entries.values()], np.float32).reshape(len(entries), DIM)
        return Rows(np.array(list(entries), np.int64), vectors)

    def _check_loaded(self, number: int, loaded: StoredEpisode) -> None:
        entries, ids = self._entries[number], loaded.ids.tolist()
        assert ids == sorted(entries), f"episode {number}: load gives the ids {ids}, expected {sorted(entries)}"
        expected = tuple(entries[i][0] for i in ids)
        assert loaded.texts == expected, f"episode {number}: load gives the texts {loaded.texts!r}, not {expected!r}"
        self._check_rows(number, ids, loaded.vectors, "load gives")
        kept = self._states[number]
        assert loaded.state == kept, f"episode {number}: load gives the state {loaded.state!r}, written was {kept!r}"

    def _check_rows(self, number: int, ids: Sequence[int], vectors: Vectors, what: str) -> None:
        entries = self._entries[number]
        assert len(set(ids)) == len(ids), f"episode {number}: {what} an entry twice: {ids}"
        assert vectors.shape == (len(ids), DIM), f"episode {number}: {what} vectors of shape {vectors.shape}"
        for i, vector in zip(ids, vectors, strict=True):
            assert i in entries, f"M13: episode {number}: {what} entry {i}; live are {sorted(entries)}"
            own = entries[i][1]
            assert vector.tobytes() == own.tobytes(), (
                f"M8: episode {number}: {what} entry {i} with the vector {vector.tolist()}, written was {own.tolist()}"
            )
