"""A damaged kept database gives what was acknowledged or an error of ours, and is left as it is (SPEC M17)."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atommem_gym.errors import AtomMemError, StoreError
from atommem_gym.memory.memory import Memory, read_state
from atommem_gym.memory.protocols import StoredEpisode, Write
from atommem_gym.stores.lite.databases import acquire, release
from atommem_gym.stores.lite.ledger import LEDGER, Ledger
from atommem_gym.stores.lite.store import MilvusLiteStore
from atommem_gym.stores.milvus_rows import META_EPISODE, marker, meta_text, read_meta, row, stored
from atommem_gym.tokenizers import load_tokenizer

DIM = 16
FORMATS = Path(__file__).parents[1] / "episode" / "golden" / "formats"
Contents = dict[str, tuple[dict[int, tuple[str, bytes]], str | None]]


def vectors(*seeds: int) -> Any:
    return np.stack([np.random.default_rng(seed).standard_normal(DIM) for seed in seeds]).astype(np.float32)


def state(next_id: int) -> str:
    return json.dumps({"next_id": next_id, "scratchpad": f"pad {next_id}", "embedder": "test"})


def fill(path: Path, sessions: int = 3) -> None:
    """Two memories over several sessions, of which the last is left open."""
    for session in range(sessions):
        store = MilvusLiteStore(str(path), DIM, embedder="test")
        for key in ("first", "second"):
            ids = [1 + 4 * session + i for i in range(4)]
            texts = [f"{key} entry {i}" for i in ids]
            store.write([Write(key, ids, texts, vectors(*ids), [], state(ids[-1] + 1))])
            store.write([Write(key, [ids[0]], [f"{key} again {ids[0]}"], vectors(100 + ids[0]), [ids[1]])])
        if session < sessions - 1:
            store.close()
        else:
            # As a process that is killed leaves it.
            shutil.copytree(path, path.with_name("open.db"))
            store.close()


def read(path: Path) -> Contents:
    store = MilvusLiteStore(str(path), DIM, embedder="test")
    try:
        return {key: plain(store.load(key)) for key in store.episodes()}
    finally:
        store.close()


def plain(found: StoredEpisode | None) -> tuple[dict[int, tuple[str, bytes]], str | None]:
    assert found is not None
    rows = zip(found.ids.tolist(), found.texts, found.vectors, strict=True)
    return {i: (text, vector.tobytes()) for i, text, vector in rows}, found.state


def files(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def damage(path: Path, dice: np.random.Generator) -> str:
    """Damage the database somewhere; says how."""
    found = [file for file in sorted(path.rglob("*")) if file.is_file() and file.stat().st_size]
    file = found[dice.integers(len(found))]
    name, data = file.relative_to(path), bytearray(file.read_bytes())
    kind = ("flip", "flip", "flip", "truncate", "delete", "swap")[dice.integers(6)]
    at = int(dice.integers(len(data)))
    if kind == "flip":
        bit = int(dice.integers(8))
        data[at] ^= 1 << bit
        file.write_bytes(data)
        return f"bit {bit} of byte {at} of {name} flipped"
    if kind == "truncate":
        os.truncate(file, at)
        return f"{name} cut to {at} of {len(data)} bytes"
    if kind == "delete":
        file.unlink()
        return f"{name} deleted"
    other = found[dice.integers(len(found))]
    file.write_bytes(other.read_bytes())
    other.write_bytes(data)
    return f"{name} and {other.relative_to(path)} swapped"


@pytest.fixture(scope="module")
def databases(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Contents]:
    """A closed database, one that was left open, and what both hold."""
    folder = tmp_path_factory.mktemp("damage")
    closed = folder / "closed.db"
    fill(closed)
    shutil.copytree(closed, folder / "read.db")
    expected = read(folder / "read.db")
    assert {key: sorted(entries) for key, (entries, _) in expected.items()} == {
        key: [1, 3, 4, 5, 7, 8, 9, 11, 12] for key in ("first", "second")
    }
    shutil.copytree(folder / "open.db", folder / "read_open.db")
    assert read(folder / "read_open.db") == expected
    return closed, folder / "open.db", expected


def outcome(path: Path) -> tuple[AtomMemError | None, Contents]:
    """What an opening raises of ours, or gives."""
    try:
        return None, read(path)
    except AtomMemError as error:
        return error, {}


def damaged_at(databases: tuple[Path, Path, Contents], seeds: Sequence[int], tmp_path: Path) -> tuple[int, int]:
    """Damage a copy at each of these places; returns how many were refused, and how many held everything."""
    *originals, expected = databases
    refused = whole = 0
    for seed in seeds:
        path = tmp_path / "copy.db"
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(originals[seed % 2], path)
        how = f"place {seed}: {damage(path, np.random.default_rng([17, seed]))}"
        before = files(path)
        error, found = outcome(path)
        if error is not None:
            assert isinstance(error, StoreError), f"{how}: {error!r}"
            assert "copy.db" in str(error), how
            assert "nothing was written" in str(error), f"{how}: {error}"
            # Only the lock, which is empty, may have been made.
            assert {**files(path), "LOCK": b""} == {**before, "LOCK": b""}, how
            refused += 1
        else:
            assert found == expected, how
            whole += 1
    return refused, whole


def test_M17_findings_0_3_and_3_5_damage_at_40_places_is_noticed_or_of_no_consequence(
    databases: tuple[Path, Path, Contents], tmp_path: Path
) -> None:
    refused, whole = damaged_at(databases, range(40), tmp_path)
    assert refused + whole == 40
    assert refused > 10


@pytest.mark.slow
def test_M17_findings_0_3_and_3_5_damage_at_500_places(databases: tuple[Path, Path, Contents], tmp_path: Path) -> None:
    refused, whole = damaged_at(databases, range(1000, 1500), tmp_path)
    assert refused + whole == 500
    assert refused > 100


def test_M17_finding_3_5_a_damaged_manifest_does_not_take_the_memory_back_a_session(
    databases: tuple[Path, Path, Contents], tmp_path: Path
) -> None:
    path = tmp_path / "copy.db"
    shutil.copytree(databases[0], path)
    (path / "collections" / "atommem" / "manifest.json").write_text("{")
    before = files(path)
    with pytest.raises(StoreError, match=r"acknowledged entries are missing.*atommem memory export"):
        read(path)
    assert files(path) == before


def test_M17_a_row_that_was_changed_is_named(databases: tuple[Path, Path, Contents], tmp_path: Path) -> None:
    path = tmp_path / "copy.db"
    shutil.copytree(databases[0], path)
    database = acquire(str(path))
    # Past the store, as another program would.
    database.table(DIM).collection.write([row("first", 3, "first entry X", vectors(3)[0].tolist())], [])
    release(database)
    (path / LEDGER).write_bytes((databases[0] / LEDGER).read_bytes())
    with pytest.raises(StoreError, match=r"memory 'first': 1 entries do not match their checksum \(3\)"):
        read(path)


def test_M17_finding_3_4_a_newer_format_is_refused_in_the_row_and_in_the_ledger(
    databases: tuple[Path, Path, Contents], tmp_path: Path
) -> None:
    path = tmp_path / "copy.db"
    shutil.copytree(databases[0], path)
    database = acquire(str(path))
    text = json.dumps({"dim": DIM, "embedder": "test", "format": 99})
    database.table(DIM).collection.write([row(META_EPISODE, 0, text, marker(DIM))], [])
    release(database)
    (path / LEDGER).write_bytes((databases[0] / LEDGER).read_bytes())
    before = files(path)
    with pytest.raises(StoreError, match=r"has format 99.*formats up to 2.*newer version"):
        read(path)
    assert files(path) == before


def test_M17_without_its_ledger_a_database_that_had_one_is_refused(
    databases: tuple[Path, Path, Contents], tmp_path: Path
) -> None:
    path = tmp_path / "copy.db"
    shutil.copytree(databases[0], path)
    (path / LEDGER).unlink()
    with pytest.raises(StoreError, match="notes what was acknowledged is missing"):
        read(path)


def test_M17_a_database_of_before_november_2026_is_readable_and_upgraded_at_its_first_write(tmp_path: Path) -> None:
    with zipfile.ZipFile(FORMATS / "kept_1.zip") as packed:
        packed.extractall(tmp_path)
    path, dim = tmp_path / "kept.db", 1024
    store = MilvusLiteStore(str(path), dim, embedder="hashing-v1-1024")
    before = {key: plain(store.load(key)) for key in store.episodes()}
    store.close()
    assert len(before) == 2
    assert not (path / LEDGER).exists()
    store = MilvusLiteStore(str(path), dim, embedder="hashing-v1-1024")
    store.write([Write("new", [1], ["a bee"], np.ones((1, dim), np.float32))])
    store.close()
    assert (path / LEDGER).exists()
    database = acquire(str(path))
    about = database.table(dim).collection.get([f"{META_EPISODE}:0"], ["text"])[0]["text"]
    release(database)
    assert json.loads(about) == {"dim": dim, "embedder": "hashing-v1-1024", "format": 2}
    store = MilvusLiteStore(str(path), dim, embedder="hashing-v1-1024")
    after = {key: plain(store.load(key)) for key in store.episodes()}
    store.close()
    assert {key: value for key, value in after.items() if key != "new"} == before
    (path / LEDGER).unlink()
    with pytest.raises(StoreError, match="is missing"):
        MilvusLiteStore(str(path), dim)


@pytest.mark.parametrize(
    "text",
    [
        "", "no JSON", "[]", "3", "null", '{"next_id": 9}', "[" * 100_000,
        '{"next_id": "9", "scratchpad": "", "embedder": "test"}',
        '{"next_id": true, "scratchpad": "", "embedder": "test"}',
        '{"next_id": 9.0, "scratchpad": "", "embedder": "test"}',
        '{"next_id": 9, "scratchpad": 1, "embedder": "test"}',
        '{"next_id": 9, "scratchpad": "", "embedder": null}',
        f'{{"next_id": 1{"0" * 400}, "scratchpad": "", "embedder": "test"}}',
        f'{{"next_id": "{"9" * 10_000}", "scratchpad": "", "embedder": "test"}}',
    ],
)  # fmt: skip
def test_M17_finding_3_4_a_state_of_another_shape_is_refused(text: str) -> None:
    with pytest.raises(StoreError, match=r"'k' has no readable state.*nothing was written") as caught:
        read_state("k", [1], text)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "head",
    ["", "1", "x\n[null, []]", f"{'9' * 5_000}\n[null, []]", "2\n[null, []]", "1\n[null]", "1\n{}", "1\n[7, []]",
     "1\n[null, 7]", "1\n[null, [[]]]", "1\n[null, [true]]", f"1\n{'[' * 100_000}", f"1\n[null, [{'9' * 5_000}]]"],
)  # fmt: skip
def test_M17_finding_3_4_a_head_of_another_shape_is_refused(head: str) -> None:
    rows = [row("k", 1, "text", marker(DIM)), row("k", 0, head, marker(DIM))]
    with pytest.raises(StoreError, match=r"no readable head \(.*nothing was written"):
        stored(rows, DIM)


@pytest.mark.parametrize(
    "said",
    ['["format", null]', '["format", 1e999]', '["format"]', '["writes", [["k", ["a"], [1], [], null]]]',
     '["writes", [[7, [1], [1], [], null]]]', '["writes", 7]', "[" * 100_000, "9" * 5_000],
)  # fmt: skip
def test_M17_finding_3_4_a_ledger_of_another_shape_is_refused(said: str, tmp_path: Path) -> None:
    (tmp_path / LEDGER).write_text(f"+{zlib.crc32(said.encode()):08x} {said}\n")
    with pytest.raises(StoreError, match=r"is damaged: (line 1 of )?its acknowledged\.log .*nothing was written"):
        Ledger.read(str(tmp_path))


@pytest.mark.parametrize("next_id", [-1, 0, 1, 119, 120])
def test_M17_finding_3_4_a_next_id_that_would_overwrite_an_entry_is_refused(next_id: int) -> None:
    with pytest.raises(StoreError, match=f"next id is {next_id}, but it has an entry 120"):
        Memory.from_kept("k", [1, 120], ["a", "b"], state(next_id), "test", load_tokenizer("words"))
    assert Memory.from_kept("k", [1, 120], ["a", "b"], state(121), "test", load_tokenizer("words")).next_id == 121


def unversioned(path: Path) -> None:
    """Make a database one of before November 2026."""
    database = acquire(str(path))
    about = json.dumps({"dim": DIM, "embedder": "test"})
    database.table(DIM).collection.write([row(META_EPISODE, 0, about, marker(DIM))], [])
    release(database)
    (path / LEDGER).unlink()


@pytest.mark.parametrize("versioned", [True, False])
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30, 1e-30, 0.0])
def test_M17_finding_3_4_vectors_that_cannot_be_compared_are_refused_when_read(
    tmp_path: Path, value: float, versioned: bool
) -> None:
    path = tmp_path / "kept.db"
    fill(path, 1)
    database = acquire(str(path))
    vector = np.full(DIM, value, np.float32).tolist()
    database.table(DIM).collection.write([row("first", 3, "first entry 3", vector)], [])
    release(database)
    if versioned:
        # As another program leaves it: the seal is not of these files.
        data = (path / LEDGER).read_bytes()
        (path / LEDGER).write_bytes(data[: data.rindex(b"+")])
    else:
        unversioned(path)
    before = files(path)
    with pytest.raises(StoreError, match=r"a row cannot be read|Milvus Lite cannot read it|do not match"):
        read(path)
    assert files(path) == before


@pytest.mark.parametrize("text", ["", "no JSON", "[]", "{}", '{"embedder": 3}', '{"embedder": "e", "format": "2"}'])
def test_M17_finding_3_4_a_meta_row_that_cannot_be_read_is_an_error_of_ours(text: str) -> None:
    with pytest.raises(StoreError, match=r"database 'x\.db'.*cannot be read.*nothing was written"):
        read_meta(text, "x.db")
    assert read_meta('{"dim": 3, "embedder": "e"}', "x.db") == ("e", 1)
    assert read_meta(meta_text(3, "e"), "x.db") == ("e", 2)
