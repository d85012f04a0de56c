"""Records that were converted once are mapped from then on, and what goes wrong with the cache (SPEC D6)."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.records.files import Make, expected, fresh, records, write_lines  # noqa: F401

from atommem_gym.errors import DatasetUnavailableError
from atommem_gym.files import cache
from atommem_gym.records import sources
from atommem_gym.records.corpus import RECORDS_FILE
from atommem_gym.records.sources import load_split

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def converting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Every source is converted into the cache, however small; the cache folder."""
    monkeypatch.setattr(sources, "CONVERT_FROM_BYTES", 0)
    return tmp_path / "cache"


def test_a_split_is_loaded_once_per_process(tmp_path: Path, hotpot_raw: Make) -> None:
    path = write_lines(tmp_path / "x.jsonl", [hotpot_raw(1)])
    assert load_split("hotpotqa", str(path), "dev") is load_split("hotpotqa", str(path), "validation")


def test_D6_a_second_start_does_not_read_the_source_again(
    tmp_path: Path, hotpot_raw: Make, converting: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [hotpot_raw(number) for number in range(50)]
    path = write_lines(tmp_path / "x.jsonl", rows)
    assert records(path) == expected(rows)
    monkeypatch.setattr(sources, "_loaded", {})
    monkeypatch.setattr(sources, "read", lambda path: pytest.fail("the source was read again"))
    assert records(path) == expected(rows)
    assert len(list(converting.iterdir())) == 1


def test_D6_a_changed_source_is_converted_again(tmp_path: Path, hotpot_raw: Make, converting: Path) -> None:
    path = write_lines(tmp_path / "x.jsonl", [hotpot_raw(1)])
    assert len(records(path)) == 1
    write_lines(path, [hotpot_raw(1), hotpot_raw(2)])
    assert len(records(path)) == 2
    write_lines(path, [hotpot_raw(1), hotpot_raw(3)])  # of the same size, so only the time tells
    os.utime(path, (1e9, 1e9))
    assert [record.id for record in records(path)] == ["h1", "h3"]


def test_D6_converted_and_parsed_records_are_equal(
    shared_data: Path, converting: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mapped = load_split("musique", str(shared_data / "musique.jsonl"), "validation")
    monkeypatch.setattr(sources, "_loaded", {})
    monkeypatch.setattr(sources, "CONVERT_FROM_BYTES", 10**9)
    parsed = load_split("musique", str(shared_data / "musique.jsonl"), "validation")
    assert len(mapped.pool) == len(parsed.pool)
    for i in range(0, len(mapped), 10):
        assert mapped.record(i) == parsed.record(i)
    with pytest.raises(IndexError, match="record 1063 does not exist: musique/validation has 0 to 1062"):
        mapped.record(1063)


def test_D6_an_interrupted_conversion_leaves_nothing(
    tmp_path: Path, hotpot_raw: Make, converting: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_lines(tmp_path / "x.jsonl", [hotpot_raw(number) for number in range(9)])
    read = sources.read

    def interrupted(path: Path) -> Iterator[Any]:
        for number, entry in enumerate(read(path)):
            if number == 5:
                raise KeyboardInterrupt
            yield entry

    monkeypatch.setattr(sources, "read", interrupted)
    with pytest.raises(KeyboardInterrupt):
        records(path)
    assert list(converting.iterdir()) == []
    monkeypatch.setattr(sources, "read", read)
    assert len(records(path)) == 9


def test_D6_what_a_killed_conversion_left_is_never_used_and_goes_away(
    tmp_path: Path, hotpot_raw: Make, converting: Path
) -> None:
    old = converting / ".unfinished-abc"
    old.mkdir(parents=True)
    (old / RECORDS_FILE).write_bytes(b"half")
    os.utime(old, (0, 0))
    assert len(records(write_lines(tmp_path / "x.jsonl", [hotpot_raw(1)]))) == 1
    assert not old.exists()


def test_D6_a_full_disk_says_where_and_what_to_do(
    tmp_path: Path, hotpot_raw: Make, converting: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sources, "write_tables", full)
    with pytest.raises(
        DatasetUnavailableError, match=r"No space left on device; free some space, or set ATOMMEM_CACHE"
    ):
        records(write_lines(tmp_path / "x.jsonl", [hotpot_raw(1)]))
    assert list(converting.iterdir()) == []


def test_D6_damaged_cache_files_say_what_to_delete(tmp_path: Path, hotpot_raw: Make, converting: Path) -> None:
    path = write_lines(tmp_path / "x.jsonl", [hotpot_raw(1)])
    records(path)
    (folder,) = converting.iterdir()
    (folder / RECORDS_FILE).write_bytes(b"damaged")
    sources._loaded.clear()
    with pytest.raises(DatasetUnavailableError, match=f"{folder.name} are damaged .*delete that folder"):
        records(path)


def test_the_process_that_finishes_first_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(folder: Path) -> None:
        (folder / "file").write_text("second", "utf-8")
        final = tmp_path / "cache" / "name"
        final.mkdir()
        (final / "file").write_text("first", "utf-8")

    assert (cache.cached_folder("name", fill) / "file").read_text("utf-8") == "first"
    assert [entry.name for entry in (tmp_path / "cache").iterdir()] == ["name"]


MEASURE = """
import sys, time
def resident():  # without the pages of mapped files, which the system takes back when it needs them
    with open("/proc/self/status") as file:
        return int(next(line for line in file if line.startswith("RssAnon")).split()[1]) * 1024
from atommem_gym.records import sources
from atommem_gym.records.corpus import from_records
from atommem_gym.records.items import RecordItems
sources.CONVERT_FROM_BYTES = 0
if sys.argv[2] == "warm":
    from_records("x", "train", [sources.PARSERS["hotpotqa"](eval(sys.argv[3]))])  # so that all libraries are loaded
before, start = resident(), time.perf_counter()
split = sources.load_split("hotpotqa", sys.argv[1], "train")
items = RecordItems(split, num_docs=50, questions_per_episode=1, order="shuffled")
items.item(3)
print(len(split), resident() - before, time.perf_counter() - start)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc; run on Linux")
def test_D6_a_second_start_maps_the_records_instead_of_loading_them(
    tmp_path: Path, hotpot_raw: Make, converting: Path
) -> None:
    path = tmp_path / "train.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for number in range(3000):
            raw = hotpot_raw(number)
            for _, sentences in raw["context"]:
                sentences.append(" And so it went on, as such things do." * 20)
            file.write(json.dumps(raw) + "\n")
    assert path.stat().st_size > 20e6

    def start(kind: str) -> tuple[int, int, float]:
        command = [sys.executable, "-c", MEASURE, str(path), kind, repr(hotpot_raw(1))]
        environment = os.environ | {"ATOMMEM_CACHE": str(converting)}
        output = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, check=True).stdout
        count, grown, seconds = output.split()
        return int(count), int(grown), float(seconds)

    assert start("cold")[0] == 3000
    count, grown, seconds = start("warm")
    assert count == 3000
    assert grown < 8e6
    assert seconds < 1.0
