"""An evaluation that is killed and gone on with ends as one that was not: no episode repeated, none lost (issue 5)."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support.evaluations import play, row, small_plan, timeless, timeless_traces

from atommem_gym.errors import AtomMemError, ConfigError
from atommem_gym.evaluation.folder import FAILURES, RESULTS, SESSIONS, EvaluationError, read_run, row_file
from atommem_gym.evaluation.plan import write_plan
from atommem_gym.evaluation.results import EpisodeResult
from atommem_gym.traces import EpisodeTrace, TraceError, TraceWriter, read_traces

TRACES = "traces.jsonl"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an evaluation that nobody disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    play(folder)
    return folder


def assert_as_undisturbed(folder: Path, undisturbed: Path) -> None:
    assert timeless(read_run(folder)) == timeless(read_run(undisturbed))
    assert timeless_traces(folder) == timeless_traces(undisturbed)
    rows = (folder / RESULTS).read_text().splitlines()
    assert len(rows) == small_plan().episodes_in_all


def test_every_episode_of_the_plan_is_played_once(undisturbed: Path) -> None:
    run = read_run(undisturbed)
    keys = [result.key for result in run.results]
    assert len(set(keys)) == len(keys) == small_plan().episodes_in_all
    per_cell = {
        cell: {(k.seed, k.index, k.shuffle_seed) for k in keys if k.cell == cell} for cell in small_plan().cells
    }
    assert len(set(map(frozenset, per_cell.values()))) == 1, "every cell meets the same items with the same seeds"


def cut(undisturbed: Path, folder: Path, rows: int, traces: int, *, torn: bytes = b"", torn_trace: bytes = b"") -> None:
    """The folder as a kill leaves it: the first rows and traces, then perhaps a part of the next."""
    shutil.copytree(undisturbed, folder)
    for name, count, rest in ((RESULTS, rows, torn), (TRACES, traces, torn_trace)):
        lines = (undisturbed / name).read_bytes().splitlines(keepends=True)
        (folder / name).write_bytes(b"".join(lines[:count]) + rest)


def test_a_full_disk_ends_with_what_to_do_and_loses_nothing(
    undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    write = TraceWriter.write

    def fill_up(self: TraceWriter, trace: EpisodeTrace) -> None:
        if self.written == 5:
            raise TraceError(f"{self.path} cannot be written (No space left on device)")
        write(self, trace)

    with monkeypatch.context() as patched:
        patched.setattr(TraceWriter, "write", fill_up)
        with pytest.raises(EvaluationError, match="No space left on device") as raised:
            play(folder)
    assert f"go on with: atommem eval --resume -o {folder}" in str(raised.value)
    assert len(read_run(folder).results) == 5
    play(folder, resume=True)
    assert_as_undisturbed(folder, undisturbed)


@pytest.mark.parametrize("done", [0, 1, 11, 23, 24])
def test_killed_between_two_episodes(done: int, undisturbed: Path, tmp_path: Path) -> None:
    cut(undisturbed, tmp_path / "run", done, done)
    _, quiet = play(tmp_path / "run", resume=True)
    assert (quiet.earlier, len(quiet.results)) == (done, 24 - done)
    assert_as_undisturbed(tmp_path / "run", undisturbed)


@pytest.mark.parametrize("done", [0, 7, 23])
def test_killed_between_a_trace_and_its_row(done: int, undisturbed: Path, tmp_path: Path) -> None:
    cut(undisturbed, tmp_path / "run", done, done + 1)
    _, quiet = play(tmp_path / "run", resume=True)
    assert (quiet.earlier, len(quiet.results)) == (done + 1, 23 - done), "the trace is not played again"
    assert_as_undisturbed(tmp_path / "run", undisturbed)


@pytest.mark.parametrize(("keep", "rows"), [(1, 9), (200, 9), (-2, 9), (-1, 10)])
def test_killed_in_the_middle_of_a_row(keep: int, rows: int, undisturbed: Path, tmp_path: Path) -> None:
    line = (undisturbed / RESULTS).read_bytes().splitlines(keepends=True)[9]
    cut(undisturbed, tmp_path / "run", 9, 10, torn=line[:keep])
    assert len(read_run(tmp_path / "run").results) == rows, "half a row is no result, one without its line end is"
    play(tmp_path / "run", resume=True)
    assert_as_undisturbed(tmp_path / "run", undisturbed)


@pytest.mark.parametrize("share", [0.0001, 0.5, 0.9999])
def test_killed_in_the_middle_of_a_trace(share: float, undisturbed: Path, tmp_path: Path) -> None:
    line = (undisturbed / TRACES).read_bytes().splitlines(keepends=True)[9]
    cut(undisturbed, tmp_path / "run", 9, 9, torn_trace=line[: max(1, int(len(line) * share))])
    play(tmp_path / "run", resume=True)
    assert_as_undisturbed(tmp_path / "run", undisturbed)


def wait_for_rows(file: Path, rows: int, process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None and (not file.is_file() or file.read_bytes().count(b"\n") < rows):
        time.sleep(0.001)


def killed_at_random(folder: Path, undisturbed: Path, kills: int, seed: int) -> None:
    """Kill an evaluation -9 again and again, then let it end, and compare."""
    rng = random.Random(seed)
    write_plan(small_plan(), folder.parent / "plan.yaml")
    command = [sys.executable, "-m", "atommem_gym.cli", "eval", "--config", str(folder.parent / "plan.yaml")]
    command += ["-o", str(folder), "--concurrency", "3"]
    for _ in range(kills):
        resume = ["--resume"] if (folder / RESULTS).is_file() else []
        process = subprocess.Popen([*command, *resume], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            there = (folder / RESULTS).read_bytes().count(b"\n") if resume else 0
            wait_for_rows(folder / RESULTS, there + rng.randrange(1, 6), process)
            time.sleep(rng.random() * 0.02)
        finally:
            process.kill()
            process.communicate()
    play(folder, resume=(folder / RESULTS).is_file())
    assert_as_undisturbed(folder, undisturbed)
    sessions = read_run(folder).sessions
    assert len(sessions) == kills + 1
    assert "seconds" in sessions[-1]


def test_killed_by_signal_9(undisturbed: Path, tmp_path: Path) -> None:
    killed_at_random(tmp_path / "run", undisturbed, kills=1, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_killed_by_signal_9_again_and_again(seed: int, undisturbed: Path, tmp_path: Path) -> None:
    killed_at_random(tmp_path / "run", undisturbed, kills=5, seed=seed)


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT to a process; run it on Linux or macOS")
def test_ctrl_c_ends_with_a_report_of_what_is_there(tmp_path: Path) -> None:
    # So long that it cannot end before the signal comes.
    plan = small_plan(episodes=60)
    planned = plan.episodes_in_all
    write_plan(plan, tmp_path / "plan.yaml")
    folder = tmp_path / "run"
    command = [
        sys.executable,
        "-m",
        "atommem_gym.cli",
        "eval",
        "--config",
        str(tmp_path / "plan.yaml"),
        "-o",
        str(folder),
    ]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "COLUMNS": "200"},
        # Whoever runs the tests in the background of a shell has them ignore the signal, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    wait_for_rows(folder / RESULTS, 2, process)
    process.send_signal(signal.SIGINT)
    out, err = (stream.decode() for stream in process.communicate(timeout=60))
    done = len(read_run(folder).results)
    assert process.returncode == 130, err
    assert f"interrupted after {done} of {planned} episodes; go on with: atommem eval --resume -o" in err
    assert "Results" in out
    assert f"{planned - done} of {planned} episodes have not been played" in out
    assert "Traceback" not in err
    assert (folder / "report.md").is_file()
    run, quiet = play(folder, plan, resume=True)
    assert len(quiet.results) == planned - done
    assert len({result.key for result in run.results}) == len(run.results) == planned


def test_a_folder_with_results_is_not_written_without_being_asked(undisturbed: Path, tmp_path: Path) -> None:
    cut(undisturbed, tmp_path / "run", 5, 5)
    with pytest.raises(ConfigError, match="has results already; go on with them by --resume"):
        play(tmp_path / "run")
    assert len(read_run(tmp_path / "run").results) == 5


def test_another_plan_in_a_folder_with_results_is_an_error_that_says_what_differs(
    undisturbed: Path, tmp_path: Path
) -> None:
    cut(undisturbed, tmp_path / "run", 5, 5)
    for resume in (False, True):
        with pytest.raises(ConfigError, match="has results of another plan") as raised:
            play(tmp_path / "run", small_plan(docs=[10, 30], settings={"store": "milvus"}), resume=resume)
        assert "  docs: [10, 20]; now [10, 30]" in str(raised.value)
        assert "  settings.store: 'numpy'; now 'milvus'" in str(raised.value)
    assert read_run(tmp_path / "run").plan == small_plan(), "the plan in the folder stays"


def test_without_results_a_plan_may_change(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    write_plan(small_plan(), tmp_path / "run" / "plan.yaml")
    run, _ = play(tmp_path / "run", small_plan(docs=10, seeds=0, episodes=1))
    assert len(run.results) == 2


def test_how_it_is_played_may_change_at_a_resume(undisturbed: Path, tmp_path: Path) -> None:
    cut(undisturbed, tmp_path / "run", 20, 20)
    run, quiet = play(tmp_path / "run", small_plan(concurrency=1, traces="none"), resume=True)
    assert timeless(run) == timeless(read_run(undisturbed))
    assert len(quiet.results) == 4
    assert len(list(read_traces(tmp_path / "run" / TRACES))) == 20


def test_compressed_traces_are_gone_on_with_as_well(undisturbed: Path, tmp_path: Path) -> None:
    plan = small_plan(traces="jsonl.gz", docs=10, seeds=0)
    play(tmp_path / "run", plan)
    rows = (tmp_path / "run" / RESULTS).read_bytes().splitlines(keepends=True)
    (tmp_path / "run" / RESULTS).write_bytes(b"".join(rows[:4]))
    _, quiet = play(tmp_path / "run", plan, resume=True)
    assert (quiet.earlier, quiet.results) == (6, [])
    assert len(list(read_traces(tmp_path / "run" / "traces.jsonl.gz"))) == 6


def test_two_evaluations_cannot_write_one_folder(undisturbed: Path, tmp_path: Path) -> None:
    cut(undisturbed, tmp_path / "run", 5, 5)
    writer = row_file(tmp_path / "run" / RESULTS)
    try:
        with pytest.raises(EvaluationError, match="is being written by another process"):
            play(tmp_path / "run", resume=True)
        assert len(read_run(tmp_path / "run").results) == 5, "reading is possible meanwhile"
    finally:
        writer.close()
    play(tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        (RESULTS, b"{\n", "line 25 is not JSON"),
        (RESULTS, b"[" * 100_000 + b"\n", "line 25 is not JSON"),
        (RESULTS, b"[]\n", "line 25 is not a JSON object"),
        (RESULTS, b'{"version": 99}\n', "line 25 is of version 99 and this package reads 1"),
        (RESULTS, b'{"version": 1, "env": "a"}\n', "line 25 is damaged"),
        (FAILURES, b'{"env": "a"}\n', "line 1 is damaged"),
        (FAILURES, b"7\n", "line 1 is not a JSON object"),
        (SESSIONS, b'{"event": "end", "seconds": null}\n', "line 3 is damaged: seconds, played and work"),
        (SESSIONS, b'{"event": "end", "played": 7}\n', "line 3 is damaged: seconds, played and work"),
        (SESSIONS, b'{"event": "end", "work": {"agents": "1"}}\n', "line 3 is damaged: seconds, played and work"),
        (RESULTS, b'{"version": 1, "em": 1e999}\n', "line 25 is not JSON: 1e999 is too large"),
        (RESULTS, b'{"version": 1, "version": 1}\n', "line 25 is not JSON: an object has the key 'version' twice"),
        (RESULTS, b'{"version": true}\n', "line 25 is of version True"),
        (RESULTS, b'{"version": 1, "peak_entries": 1' + b"0" * 400 + b"}\n", "line 25 is damaged: an integer has more"),
        (SESSIONS, b'{"event": "end", "a": [{"\\ud800": 1}]}\n', "line 3 is damaged: 'utf-8' codec can't encode"),
    ],
)
def test_a_damaged_file_is_named_with_its_line(
    name: str, line: bytes, message: str, undisturbed: Path, tmp_path: Path
) -> None:
    shutil.copytree(undisturbed, tmp_path / "run")
    with (tmp_path / "run" / name).open("ab") as file:
        file.write(line)
    with pytest.raises(Exception, match=message):
        read_run(tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"questions": [7]}, r"is damaged: Expected `object`, got `int` - at `\$.questions\[0\]`; remove"),
        ({"em": True}, r"is damaged: Expected `float \| null`, got `bool` - at `\$.em`; remove"),
        ({"reward": 10**400}, "is damaged: Number out of range"),
        ({"agent_ms": 7}, "is damaged: Expected `array`"),
        ({"operations": {"create": None}}, "is damaged: Expected `int`"),
        ({"x" * 9_999: 1}, "is damaged: its field 'x{300}' is unknown; remove"),
    ],
)
def test_a_row_whose_field_is_of_another_type_is_damaged(changes: dict[str, Any], message: str) -> None:
    values = json.loads(json.dumps(row().to_values()))
    assert EpisodeResult.from_values(values) == row()
    with pytest.raises(AtomMemError, match=message):
        EpisodeResult.from_values({**values, **changes})


def test_a_folder_without_an_evaluation(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"holds no evaluation \(there is no plan.yaml\)"):
        read_run(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(EvaluationError, match="cannot be made"):
        play(tmp_path / "file")


def test_sessions_say_with_what_and_how_long(undisturbed: Path) -> None:
    rows = [json.loads(line) for line in (undisturbed / SESSIONS).read_text().splitlines()]
    assert [row["event"] for row in rows] == ["start", "end"]
    assert "atommem-gym" in rows[0]["versions"]
    assert rows[1]["played"]["episodes"] == 24
    assert rows[1]["work"]["agents"] > 0
