"""Checks a snapshot, which may be old, damaged or of other records, before it changes anything (SPEC M14)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

import numpy as np

from atommem_gym.config import EnvConfig
from atommem_gym.envs.generators import unseeded
from atommem_gym.episode import Episode
from atommem_gym.errors import SnapshotError
from atommem_gym.memory.memory import Entry, Memory
from atommem_gym.memory.protocols import Store
from atommem_gym.readers.protocol import ReaderCosts
from atommem_gym.records.identity import PARTS, difference
from atommem_gym.step import Closing, EpisodeState, Past, Shown

VERSION = 5
"""Raised when the content of snapshots changes; 2 added the item's identity, 3 the costs of a frozen reader, 4 the
past of a recorder, 5 the ledger of credit."""

_FIELDS = {"version", "config", "np_random", "action_space", "episode"}
_EPISODE = {"index", "shuffle_seed", "difficulty", "state", "vectors"}
_SINCE = {1: set[str](), 2: {"item"}, 3: {"item"}, 4: {"item", "past"}, 5: {"item", "past", "ledger"}}
"""Additional fields of an episode, by version."""
_STATE: Mapping[str, type | tuple[type, ...]] = {
    "memory": Memory,
    "shown": tuple,
    "addressable": tuple,
    "feedback": tuple,
    "query": str,
    "closings": list,
    "applied": Counter,
    "found": set,
    "found_exactly": set,
    "recall_gained": (int, float),
    "over": bool,
    "reader": ReaderCosts,
}
"""The types of the fields of a state; all others are integers from 0."""


@dataclass(frozen=True)
class SavedEpisode:
    """The episode of a snapshot, checked except against its item."""

    index: int
    """The index of the item."""
    shuffle_seed: int
    """The layout of the item."""
    difficulty: float | None
    """The difficulty; ``None`` for none."""
    state: EpisodeState
    """The state of the episode."""
    vectors: tuple[list[int], Any] | None
    """Ids and vectors ``[n, dim]`` of its entries; ``None`` if it has none."""
    item: Mapping[str, str] | None
    """The item's identity; ``None`` in a snapshot of version 1."""
    past: Past | None
    """The past of a recorder, if one was attached."""
    ledger: Past | None
    """The ledger of hindsight credit, if it was in use (SPEC R7)."""

    def is_of(self, episode: Episode) -> bool:
        """Whether it has the same index, shuffle seed and difficulty as this episode."""
        place = (episode.item.index, episode.item.shuffle_seed, episode.config.difficulty)
        return place == (self.index, self.shuffle_seed, self.difficulty)


def checked(snapshot: Any, generators: Mapping[str, np.random.Generator]) -> SavedEpisode | None:
    """Check a snapshot and return its episode; ``None`` if it was taken before the first reset.

    Args:
        snapshot: The argument of ``restore``, which may be anything.
        generators: The environment's generators by field of the snapshot; they do not change.

    Raises:
        SnapshotError: it is not a snapshot, has an unknown version, or a field is missing or malformed.
    """
    if isinstance(snapshot, dict) and "team" in snapshot:
        raise SnapshotError("the snapshot is of a team; restore it into the same team (atommem_gym.envs.team)")
    if not isinstance(snapshot, dict) or "version" not in snapshot:
        raise SnapshotError(
            f"this {type(snapshot).__name__} is not a snapshot (it has no version); take one with snapshot()"
        )
    version = snapshot["version"]
    if type(version) is not int or not 1 <= version <= VERSION:
        raise SnapshotError(
            f"the snapshot is of version {version!r}, this package reads 1 to {VERSION}; "
            "restore it with the version of the package that took it"
        )
    check_fields("the snapshot", snapshot, _FIELDS)
    check("config", isinstance(snapshot["config"], dict), snapshot["config"], "a dict of keyword arguments")
    for name, generator in generators.items():
        check_generator(name, snapshot[name], generator)
    saved = snapshot["episode"]
    if saved is None:
        return None
    check("episode", isinstance(saved, dict), saved, "a dict or None")
    check_fields("the snapshot's episode", saved, _EPISODE | _SINCE[version])
    check_drawn(saved)
    if version < 3 and isinstance(saved["state"], EpisodeState):
        saved["state"].reader = ReaderCosts()
    check_state(saved["state"])
    check_vectors(saved["vectors"], saved["state"].memory)
    if version > 1:
        check_saved_identity(saved["item"])
    past, ledger = check_noted(saved.get("past"), saved.get("ledger"), saved["state"])
    return SavedEpisode(
        saved["index"],
        saved["shuffle_seed"],
        saved["difficulty"],
        saved["state"].copy(),
        saved["vectors"],
        saved.get("item"),
        past,
        ledger,
    )


def check_drawn(saved: Mapping[str, Any]) -> None:
    """Raise ``SnapshotError`` unless index, shuffle seed and difficulty of a saved episode are numbers."""
    for name in ("index", "shuffle_seed"):
        check(f"episode.{name}", type(saved[name]) is int, saved[name], "a whole number")
    difficulty = saved["difficulty"]
    check("episode.difficulty", difficulty is None or type(difficulty) is float, difficulty, "a number or None")


def check_noted(past: Any, ledger: Any, state: EpisodeState) -> tuple[Past | None, Past | None]:
    """Check the past of a recorder and the ledger of hindsight credit, and return independent copies.

    Raises:
        SnapshotError: one of them is something else, or the ledger is of other entries.
    """
    from atommem_gym.envs.credit import Ledger  # only needed here

    right = past is None or callable(getattr(past, "branch", None))
    check("episode.past", right, past, "what a recorder has noted")
    check("episode.ledger", ledger is None or isinstance(ledger, Ledger), ledger, "what hindsight credit has noted")
    copies: list[Past | None] = []
    for name, noted in (("past", past), ("ledger", ledger)):
        try:
            copies.append(None if noted is None else noted.branch())
        except Exception as error:  # a damaged object of any class
            raise _malformed(f"episode.{name}", type(noted).__name__, "whole") from error
    check("episode.past", copies[0] is None or hasattr(copies[0], "branch"), past, "what a recorder has noted")
    # A ledger of an earlier step did not follow the episode, and is replaced by a new one.
    if ledger is not None and ledger.steps == state.steps:
        known = {entry_id for entry_id, versions in ledger.versions.items() if versions}
        needed = {*state.memory.entries, *(one.id for one in state.shown)}
        check("episode.ledger", known >= needed, sorted(known), f"of all entries ({sorted(needed)})")
        answered, closed = len(ledger.answered), len(state.closings)
        check("episode.ledger", answered == closed, answered, f"of all closed questions ({closed})")
    return copies[0], copies[1]


def check_config(theirs: Mapping[str, Any], ours: Mapping[str, Any], config: EnvConfig) -> None:
    """Raise ``SnapshotError`` unless a snapshot was taken under the same keyword arguments.

    A keyword argument that the snapshot does not have did not exist when it was taken; it counts as today's default.
    """
    defaults = {field.name: field.default for one in (config, config.options) if one for field in fields(one)}
    for name in sorted(ours.keys() | theirs.keys()):
        if name not in ours:
            raise SnapshotError(
                f"the snapshot has {name}={theirs[name]!r}, which this environment does not know; "
                "restore it with the version of the package, or the task, that took it"
            )
        saved = theirs.get(name, defaults.get(name, MISSING))
        if saved != ours[name]:
            said = f"no {name}" if saved is MISSING else f"{name}={saved!r}"
            raise SnapshotError(
                f"the snapshot has {said}, this environment {name}={ours[name]!r}; "
                "restore it into an environment made with the same keyword arguments"
            )


def check_item(saved: SavedEpisode, found: Mapping[str, str]) -> None:
    """Raise ``SnapshotError`` unless a snapshot's item is this one, of identity ``found`` (SPEC M14)."""
    if saved.item is not None:
        check_identity(saved.item, found, saved.index, saved.shuffle_seed)


def check_saved_identity(saved: Any) -> None:
    """Raise ``SnapshotError`` unless it is the identity of an item."""
    known = isinstance(saved, dict) and saved.keys() == {"id", *PARTS}
    check("episode.item", known, saved, f"the id and the hashes of {', '.join(PARTS)}")


def check_identity(saved: Mapping[str, str], found: Mapping[str, str], index: int, shuffle_seed: int) -> None:
    """Raise ``SnapshotError`` unless the saved identity of an item is the one found here (SPEC M14)."""
    if saved == found:
        return
    remedy = "restore it into an environment over the records (source, split or items=) with which it was taken"
    if saved["id"] != found["id"]:
        raise SnapshotError(
            f"the snapshot was taken in item {saved['id']!r}; in this environment item {index} of layout "
            f"{shuffle_seed} is {found['id']!r}; {remedy}"
        )
    raise SnapshotError(
        f"the snapshot was taken in item {found['id']!r}, whose {' and '.join(difference(saved, found))} were "
        f"others than in this environment: the records have changed; {remedy}"
    )


def check_place(state: EpisodeState, item: str, chunks: int, questions: int) -> None:
    """Raise ``SnapshotError`` unless an episode of so many chunks and questions can be in the saved state."""
    for what, found, there in (("chunk", state.chunk, chunks), ("closed questions", len(state.closings), questions)):
        if found > there:
            raise SnapshotError(
                f"the snapshot has {what} {found}, but item {item!r} has only {there}: its records are others or it "
                "is damaged; restore it into an environment over the records with which it was taken"
            )


def check_state(state: Any) -> None:
    """Raise ``SnapshotError`` unless it is a complete state of an episode."""
    check("episode.state", isinstance(state, EpisodeState), state, "an EpisodeState")
    for field in fields(EpisodeState):
        where = f"episode.state.{field.name}"
        value = _attribute(state, field.name, where)
        kind = _STATE.get(field.name)
        if kind is None:
            check(where, type(value) is int and value >= 0, value, "a whole number from 0")
        else:
            wanted = kind if isinstance(kind, type) else kind[0]
            check(where, isinstance(value, kind), value, f"a {wanted.__name__}")
    _check_all("episode.state.shown", state.shown, lambda one: isinstance(one, Shown), "Shown")
    _check_all("episode.state.addressable", state.addressable, lambda one: type(one) is int, "ids")
    _check_all("episode.state.feedback", state.feedback, lambda one: isinstance(one, str), "strings")
    _check_all("episode.state.closings", state.closings, lambda one: isinstance(one, Closing), "Closing")
    check_memory(state.memory)
    for field in fields(ReaderCosts):
        _attribute(state.reader, field.name, f"episode.state.reader.{field.name}")
    check("episode.state.reader.answered", isinstance(state.reader.answered, list), state.reader.answered, "a list")


def check_memory(memory: Memory) -> None:
    """Raise ``SnapshotError`` unless a memory is complete."""
    for field in fields(Memory):
        _attribute(memory, field.name, f"episode.state.memory.{field.name}")
    entries = memory.entries
    check("episode.state.memory.entries", isinstance(entries, dict), entries, "a dict")
    _check_all(
        "episode.state.memory.entries",
        list(entries.items()),
        lambda pair: type(pair[0]) is int and _is_entry(pair[1]),
        "an Entry by its id",
    )
    where, next_id = "episode.state.memory.next_id", memory.next_id
    check(where, type(next_id) is int and next_id > max(entries, default=0), next_id, "above all ids")
    check("episode.state.memory.scratchpad", isinstance(memory.scratchpad, str), memory.scratchpad, "a str")


def _is_entry(value: object) -> bool:
    return isinstance(value, Entry) and isinstance(value.text, str) and isinstance(value.held, tuple)


def check_width(vectors: tuple[list[int], Any] | None, store: Store | None) -> None:
    """Raise ``SnapshotError`` unless checked vectors have the dimension of the store, if there is one."""
    if vectors is not None and store is not None:
        shape = vectors[1].shape
        check("episode.vectors", shape[1] == store.dim, shape, f"{store.dim} numbers wide")


def check_vectors(vectors: Any, memory: Memory) -> None:
    """Raise ``SnapshotError`` unless there is a vector for every entry, or none at all."""
    if vectors is None:
        return
    where, rule = "episode.vectors", "the ids of all entries and a vector of finite numbers for each"
    check(where, isinstance(vectors, tuple) and len(vectors) == 2, vectors, rule)
    ids, block = vectors
    right = isinstance(ids, list) and all(type(one) is int for one in ids)
    check(where, right and len(ids) == len(memory.entries) and set(ids) == memory.entries.keys(), ids, rule)
    shaped = isinstance(block, np.ndarray) and block.dtype == np.float32 and block.ndim == 2 and len(block) == len(ids)
    check(where, shaped and bool(np.isfinite(block).all()), block, rule)


def _attribute(holder: Any, name: str, where: str) -> Any:
    try:
        return getattr(holder, name)
    except AttributeError:
        raise SnapshotError(f"the snapshot is damaged: {where} is missing; take one with snapshot()") from None


def check_generator(name: str, state: Any, generator: np.random.Generator) -> None:
    """Raise ``SnapshotError`` unless a generator of this kind could take the state."""
    try:
        unseeded(generator.bit_generator).state = state
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise _malformed(name, state, f"the state of a {type(generator.bit_generator).__name__}") from error


def check_fields(what: str, found: Mapping[str, Any], wanted: Collection[str]) -> None:
    """Raise ``SnapshotError`` unless ``found`` has exactly the fields ``wanted``."""
    missing, unknown = sorted(set(wanted) - found.keys()), sorted(map(str, found.keys() - set(wanted)))
    if missing or unknown:
        which = f"the field {missing[0]!r} is missing" if missing else f"the field {unknown[0]!r} is unknown"
        raise SnapshotError(f"{what} is damaged: {which}; take one with snapshot()")


def _check_all(where: str, values: Collection[Any], right: Callable[[Any], bool], rule: str) -> None:
    for value in values:
        check(where, right(value), value, f"made of {rule}")


def check(where: str, right: bool, value: object, rule: str) -> None:
    """Raise ``SnapshotError`` unless ``right``; the message names the place, the rule and the value."""
    if not right:
        raise _malformed(where, value, rule)


def _malformed(where: str, value: object, rule: str) -> SnapshotError:
    shown = repr(value)
    shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
    return SnapshotError(f"the snapshot is damaged: {where} must be {rule}, it is {shown}; take one with snapshot()")
