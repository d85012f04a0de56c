"""Files of JSON lines: one writer or many, a kill at any byte, a full disk, and somebody else who has the file."""

from __future__ import annotations

import gzip
import json
import logging
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from atommem_gym.errors import AtomMemError
from atommem_gym.files import json_lines
from atommem_gym.files.json_lines import JsonLines, read_lines

REMEDY = "name another file"
HELD = "being written by another process or writer"


class OurError(AtomMemError):
    """What a caller asks to be raised."""


def opened(path: Path, **mode: bool) -> JsonLines:
    return JsonLines(path, OurError, REMEDY, **mode)


def rows(path: Path, *, gzipped: bool = False) -> list[object]:
    return [json.loads(line) for _, line in read_lines(path, gzipped=gzipped)]


@pytest.fixture(params=[False, True], ids=["lock in the file", "lock beside it"])
def either_lock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Both places of a lock: that of Windows can be tried everywhere."""
    monkeypatch.setattr(json_lines, "_LOCK_BESIDE", request.param)
    return bool(request.param)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("gzipped", [False, True])
def test_a_kill_at_any_byte_costs_the_last_line_at_most(tmp_path: Path, gzipped: bool, shared: bool) -> None:
    path = tmp_path / "rows"
    sizes = [0]
    for i in range(3):
        with closing(opened(path, gzipped=gzipped)) as lines:
            lines.append({"row": i, "text": "é\u2028\n"})
        sizes.append(path.stat().st_size)
    content = path.read_bytes()
    for size in range(sizes[1], sizes[-1] + 1):
        path.write_bytes(content[:size])
        whole = sum(size >= end for end in sizes[1:])
        found = rows(path, gzipped=gzipped)
        # What lacks nothing but its end (a line feed, or the checksum of a member) is whole.
        lacks_its_end = not gzipped and size + 1 in sizes
        assert len(found) in ({whole, whole + 1} if gzipped else {whole + lacks_its_end})
        assert [row["row"] for row in found] == list(range(len(found)))  # type: ignore[index]
        with closing(opened(path, gzipped=gzipped, shared=shared)) as lines:
            lines.append({"row": 9})
            assert (lines.torn_bytes > 0) == (size not in sizes and len(found) == whole)
        assert rows(path, gzipped=gzipped) == [*found, {"row": 9}]


def test_what_is_cut_away_is_said_with_its_size(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"row": 1}\n{"row": ')
    with caplog.at_level(logging.WARNING):
        assert rows(path) == [{"row": 1}]
        assert "ends in a torn record of 8 bytes" in caplog.text
        assert "skipped" in caplog.text
        with closing(opened(path)) as lines:
            assert lines.torn_bytes == 8
    assert "ended in a torn record of 8 bytes" in caplog.text
    assert "cut away" in caplog.text
    assert path.read_bytes() == b'{"row": 1}\n'


def test_a_torn_line_of_megabytes_is_cut_away_whole(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"row": 1}\n{"row": "' + b"x" * (3 << 20))
    with closing(opened(path)) as lines:
        assert lines.torn_bytes == (3 << 20) + 9
    assert rows(path) == [{"row": 1}]


def test_lines_are_numbered_as_an_editor_does(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'\n{"row": 1}\n\n  \n' + b'{"text": "' + b"x" * (2 << 20) + b'"}\n{"row": 3}')
    assert [number for number, _ in read_lines(path)] == [2, 5, 6]


def test_one_writer_has_the_file_until_it_closes_it(tmp_path: Path, either_lock: bool) -> None:
    path = tmp_path / "rows.jsonl"
    first = opened(path)
    for _ in range(2):
        with pytest.raises(OurError, match=rf"rows\.jsonl cannot be written.*{HELD}.*wait for it and {REMEDY}"):
            opened(path)
    first.append({"row": 1})
    assert rows(path) == [{"row": 1}], "reading is possible meanwhile"
    first.close()
    first.close()
    with pytest.raises(OurError, match="is closed"):
        first.append({"row": 2})
    with closing(opened(path)) as second:
        second.append({"row": 2})
    assert rows(path) == [{"row": 1}, {"row": 2}]
    assert either_lock or [one.name for one in tmp_path.iterdir()] == ["rows.jsonl"], "no lock is left lying"


def test_another_process_cannot_write_meanwhile(tmp_path: Path, either_lock: bool) -> None:
    path = tmp_path / "rows.jsonl"
    code = (
        "import sys\nfrom pathlib import Path\nfrom atommem_gym.files import json_lines\n"
        "from atommem_gym.errors import AtomMemError\n"
        f"json_lines._LOCK_BESIDE = {either_lock}\n"
        f"json_lines.JsonLines(Path(sys.argv[1]), AtomMemError, {REMEDY!r}).append({{'row': 0}})"
    )
    with closing(opened(path)) as lines:
        there = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=60)
        assert there.returncode == 1
        assert HELD in there.stderr
        lines.append({"row": 1})
    assert rows(path) == [{"row": 1}]


def test_a_writer_that_is_dropped_gives_the_file_back(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    lines = opened(path)
    with pytest.warns(ResourceWarning, match="unclosed file"):
        del lines
    opened(path).close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_fork_does_not_give_its_parents_lock_back(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    lines = opened(path)
    (told, tell), (ended, end) = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.close(end)
        try:
            lines.close()
            os.write(tell, b".")
            os.read(ended, 1)
        finally:
            os._exit(0)
    try:
        os.read(told, 1)
        with pytest.raises(OurError, match=HELD):
            opened(path)
    finally:
        os.close(end)
        os.waitpid(child, 0)
        for one in (told, tell, ended):
            os.close(one)
    lines.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_what_is_closed_is_free_although_a_fork_lives(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    lines = opened(path)
    ended, end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(end)
        os.read(ended, 1)
        os._exit(0)
    try:
        lines.close()
        opened(path).close()
    finally:
        os.close(end)
        os.waitpid(child, 0)
        os.close(ended)


def test_many_processes_append_to_one_file(tmp_path: Path, either_lock: bool) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"torn": ')
    code = (
        "import sys\nfrom pathlib import Path\nfrom atommem_gym.files import json_lines\n"
        "from atommem_gym.errors import AtomMemError\n"
        f"json_lines._LOCK_BESIDE = {either_lock}\n"
        f"lines = json_lines.JsonLines(Path(sys.argv[1]), AtomMemError, {REMEDY!r}, shared=True)\n"
        "for i in range(20): lines.append({'who': int(sys.argv[2]), 'row': i, 'text': 'x' * 20_000})"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code, str(path), str(who)]) for who in range(4)]
    assert [process.wait(timeout=120) for process in processes] == [0] * 4
    written = rows(path)
    for who in range(4):
        assert [row["row"] for row in written if row["who"] == who] == list(range(20))  # type: ignore[index]
    assert len(written) == 80


def test_many_processes_wait_for_their_turn(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    code = (
        "import sys\nfrom pathlib import Path\nfrom atommem_gym.errors import AtomMemError\n"
        "from atommem_gym.files.json_lines import JsonLines\n"
        "JsonLines(Path(sys.argv[1]), AtomMemError, '', shared=True).append({'row': 2})"
    )
    with closing(opened(path)) as lines:
        process = subprocess.Popen([sys.executable, "-c", code, str(path)])
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=2)
        lines.append({"row": 1})
    assert process.wait(timeout=60) == 0
    assert rows(path) == [{"row": 1}, {"row": 2}]


@pytest.mark.parametrize("gzipped", [False, True])
def test_a_full_disk_leaves_the_file_as_it_was(tmp_path: Path, gzipped: bool) -> None:
    path = tmp_path / "rows"
    with closing(opened(path, gzipped=gzipped)) as lines:
        lines.append({"row": 1})
        before = path.read_bytes()
        file = lines._file

        class Full:
            def __init__(self) -> None:
                self.room = 7

            def __getattr__(self, name: str) -> object:
                return getattr(file, name)

            def write(self, data: memoryview) -> int:
                if not self.room:
                    raise OSError(28, "No space left on device")
                taken, self.room = self.room, 0
                return file.write(data[:taken])  # type: ignore[union-attr,return-value]

        lines._file = Full()  # type: ignore[assignment]
        with pytest.raises(OurError, match=f"No space left on device.*is whole: make room and {REMEDY}"):
            lines.append({"row": 2})
        assert path.read_bytes() == before
        lines._file = file
        lines.append({"row": 2})
    assert rows(path, gzipped=gzipped) == [{"row": 1}, {"row": 2}]


def test_what_json_has_not_is_an_error_and_nothing_is_written(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with closing(opened(path)) as lines:
        for value in (float("nan"), {1, 2}, object()):
            with pytest.raises(OurError, match=r"rows\.jsonl would hold something that JSON has not"):
                lines.append({"value": value})
    assert path.read_bytes() == b""


def test_a_file_that_cannot_be_made_says_what_to_look_at(tmp_path: Path) -> None:
    for shared in (False, True):
        with pytest.raises(OurError, match=r"No such file or directory.*check that its folder is there"):
            opened(tmp_path / "no" / "rows.jsonl", shared=shared).append({})
    with pytest.raises(OurError, match="Is a directory"):
        opened(tmp_path)


def test_a_file_that_its_owner_does_not_take_is_left_as_it_is(tmp_path: Path) -> None:
    def check(head: bytes) -> None:
        if b"version" not in head:
            raise OurError("something else")

    for gzipped in (False, True):
        path = tmp_path / f"notes{gzipped}"
        content = b'my notes\nwithout an end{"'
        path.write_bytes(gzip.compress(content) if gzipped else content)
        before = path.read_bytes()
        with pytest.raises(OurError, match="something else"):
            JsonLines(path, OurError, REMEDY, gzipped=gzipped, check=check)
        assert path.read_bytes() == before
        path.write_bytes(b"")
        with pytest.raises(OurError, match="something else"):
            JsonLines(path, OurError, REMEDY, gzipped=gzipped, check=check)


def test_a_damaged_gzip_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.gz"
    path.write_bytes(b"hello")
    with pytest.raises(OurError, match=r"rows\.gz is no gzip file, or damaged before byte"):
        list(read_lines(path, gzipped=True, error=OurError))
    with pytest.raises(OurError, match="is no gzip file"):
        opened(path, gzipped=True)
