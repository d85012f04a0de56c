"""``atommem replay``, ``rescore`` and ``export`` as one types them."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from support.made_traces import SMALL, played

from atommem_gym.cli import main
from atommem_gym.traces import EpisodeTrace, read_traces, write_traces
from atommem_gym.traces.codec import dumps
from atommem_gym.traces.record import CompletionTrace


@pytest.fixture(scope="module")
def traces() -> list[EpisodeTrace]:
    return [trace for agent in ("tidy", "silent") for trace in played(agent, range(4), **SMALL)]


@pytest.fixture
def path(traces: list[EpisodeTrace], tmp_path: Path) -> Path:
    write_traces(tmp_path / "traces.jsonl", traces)
    return tmp_path / "traces.jsonl"


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = main([str(argument) for argument in arguments])
    return status, *(" ".join(text.split()) for text in capsys.readouterr())


def edited(path: Path, number: int, **changes: Any) -> None:
    traces = list(read_traces(path))
    steps = list(traces[number].steps)
    steps[0] = replace(steps[0], **changes)
    traces[number] = replace(traces[number], steps=tuple(steps))
    write_traces(path, traces)


def test_check_goes_through_whole_files(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steps = sum(len(trace.steps) for trace in read_traces(path))
    status, out, _ = run(capsys, "replay", path, path, "--check")
    assert (status, out) == (0, f"16 episodes, {2 * steps} steps: all as recorded")
    edited(path, 5, action="<create>edited</create>")
    status, out, _ = run(capsys, "replay", path, "--check")
    assert status == 1
    assert f"{path}, episode 5: step 1: operations[0]" in out
    assert "8 episodes" in out
    assert "1 differ" in out


def test_replay_shows_every_step_where_there_is_no_terminal(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [*_, trace] = read_traces(path)
    status, out, _ = run(capsys, "replay", path, "--episode", "7")
    assert status == 0
    assert trace.questions[0].question[:40] in out
    assert f"step {len(trace.steps)}/{len(trace.steps)}" in out
    assert "as recorded" in out
    status, out, _ = run(capsys, "replay", path, "--episode", trace.item, "--no-check")
    assert (status, "not checked" in out) == (0, True)
    edited(path, 7, reward=0.5)
    status, out, _ = run(capsys, "replay", path, "--episode", "7")
    assert (status, "differs at step 1" in out, "recorded 0.5" in out) == (1, True, True)


def test_reasoning_that_came_apart_is_shown(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edited(path, 0, completions=(CompletionTrace(9, 4, 0.1, "stop", reasoning="because \x1b[31mof it"),))
    _, out, _ = run(capsys, "replay", path, "--episode", "0", "--no-check")
    assert "reasoning, returned apart because \ufffd[31mof it" in re.sub("[│ ]+", " ", out)


def test_wrong_commands_say_what_is_right(path: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for arguments, words in (
        (("replay", path, "--episode", "8"), "it holds episodes 0 to 7"),
        (("replay", path, path), "add --check"),
        (("replay", path, "--check", "--no-check"), "contradicts"),
        *(
            (
                (command, tmp_path / "none.jsonl", *more),
                "none.jsonl; `atommem eval -o FOLDER` writes FOLDER/traces.jsonl",
            )
            for command, *more in (("replay",), ("export", "-o", "sft"), ("rescore", "--reward", "f1", "-o", "x.jsonl"))
        ),
        (("replay", path, "--check", "--set", "sauce=1"), "unknown keyword argument 'sauce'"),
        (("replay", path, "--tolerance", "-1"), "must be a number of at least 0"),
        (("rescore", path, "--reward", "f1", "-o", path), "is the file itself"),
        (("rescore", path, "--reward", "f2", "-o", tmp_path / "x.jsonl"), "reward='f2' must be one of 'em', 'f1'"),
        (("export", path, "-o", tmp_path / "sft", "--threshold", "2"), "--threshold 2 must be a number from 0 to 1"),
        (("export", path, "-o", tmp_path / "sft", "--scorer", "judge"), "was not rescored by 'judge'"),
    ):
        status, _, err = run(capsys, *arguments)
        assert (status, words in err) == (2, True), err


def test_an_unknown_version_is_one_red_line(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path.write_text(path.read_text().replace('{"version":2,', '{"version":99,'))
    status, _, err = run(capsys, "replay", path, "--check")
    assert (status, "has version 99" in err, "Traceback" in err) == (2, True, False)


def test_text_of_a_record_cannot_steer_the_terminal(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edited(path, 0, action="\x1b[2J[bold]evil[/bold] \x07")
    main(["replay", str(path), "--no-check"])
    out = capsys.readouterr().out
    assert "\x1b[2J" not in out
    assert "\x07" not in out
    assert "[bold]evil[/bold]" in out


def test_rescore_prints_both_means_and_loses_no_episode(
    path: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out_path = tmp_path / "f1.parquet"
    status, out, _ = run(capsys, "rescore", path, "--reward", "f1", "-o", out_path)
    assert status == 0
    assert "8 of 8 records" in out
    assert "before: em" in out
    assert "after: f1" in out
    assert [replace(trace, rescores=()) for trace in read_traces(out_path)] == list(read_traces(path))


def test_rescore_goes_on_where_it_was_killed(path: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    done, again = tmp_path / "done.jsonl", tmp_path / "again.jsonl"
    assert run(capsys, "rescore", path, "--reward", "f1", "-o", done)[0] == 0
    data = done.read_bytes()
    again.write_bytes(data[: len(data) * 2 // 3])
    assert "add --resume" in run(capsys, "rescore", path, "--reward", "f1", "-o", again)[2]
    status, out, _ = run(capsys, "rescore", path, "--reward", "f1", "-o", again, "--resume")
    assert (status, "8 episodes" in out) == (0, True)
    assert again.read_bytes() == data
    others = tmp_path / "others.jsonl"
    write_traces(others, reversed(list(read_traces(done))))
    assert "is not record 0" in run(capsys, "rescore", path, "--reward", "f1", "-o", others, "--resume")[2]


def long_answers(prediction: str, answers: tuple[str, ...], question: str) -> float:
    """A reward of one's own, by the name ``test_traces_commands:long_answers``."""
    return float(len(prediction) > 3)


def test_rescore_takes_a_function_of_ones_own(path: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out_path = tmp_path / "own.jsonl"
    name = "test_traces_commands:long_answers"
    assert run(capsys, "rescore", path, "--reward", name, "-o", out_path)[0] == 0
    for trace in read_traces(out_path):
        [own] = trace.rescores
        assert own.scorer == name
        assert list(own.scores) == [float(len(answer["answer"]) > 3) for answer in trace.metrics["answers"]]


def test_R3_a_judge_that_gives_up_loses_nothing_that_it_decided(
    path: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from atommem_gym.commands.traces import rescore as command
    from atommem_gym.errors import JudgeError
    from atommem_gym.scoring import load_scorer
    from atommem_gym.traces import rescore as module

    class Judge:
        name = "judge"
        failing = True

        def __init__(self) -> None:
            self.calls = 0

        def score(self, requests: Any) -> list[float]:
            self.calls += 1
            if Judge.failing and self.calls == 3:
                raise JudgeError("the server is gone")
            return list(load_scorer("em").score(requests))

    monkeypatch.setattr(module, "BATCH", 2)
    monkeypatch.setattr(command, "load_scorer", lambda name: Judge())
    out_path = tmp_path / "judged.jsonl"
    status, _, err = run(capsys, "rescore", path, "--reward", "judge", "-o", out_path)
    assert (status, "the server is gone" in err) == (2, True)
    assert len(list(read_traces(out_path))) == 4
    Judge.failing = False
    assert run(capsys, "rescore", path, "--reward", "judge", "-o", out_path, "--resume")[0] == 0
    assert [trace.rescores[0].scorer for trace in read_traces(out_path)] == ["judge"] * 8


def test_export_says_what_it_kept(path: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status, out, _ = run(capsys, "export", path, "-o", tmp_path / "sft", "--format", "messages", "--dev", "0.4")
    assert status == 0
    assert "left out: question failed" in out
    assert (tmp_path / "sft" / "train.jsonl").is_file()
    assert "export.json" in out


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are a thing of Unix")
def test_keys_move_through_the_steps_of_a_terminal(path: Path) -> None:
    import pty
    import select
    import subprocess
    import time

    [trace, *_] = read_traces(path)
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "atommem_gym.cli", "replay", str(path), "--no-check"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "140"}
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    steps = len(trace.steps)

    seen = b""

    def wait_for(words: str) -> None:
        """What follows the words may have come with them: it is kept for the next wait."""
        nonlocal seen
        deadline = time.monotonic() + 60
        while words.encode() not in seen:
            assert time.monotonic() < deadline, seen[-2000:]
            if select.select([ours], [], [], 1)[0]:
                seen += os.read(ours, 65536)
        seen = seen.partition(words.encode())[2]

    try:
        wait_for("q quit")
        for key, words in (("n", f"step 1/{steps}"), ("\x1b[C", f"step 2/{steps}"), ("p", f"step 1/{steps}")):
            os.write(ours, key.encode())
            wait_for(words)
            wait_for("q quit")
        os.write(ours, b"G")
        wait_for(f"step {steps}/{steps}")
        wait_for("q quit")
        os.write(ours, b"q")
        wait_for("not checked")
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def test_lines_of_a_record_begin_with_its_version(path: Path) -> None:
    """What the writer looks for before it appends to, or cuts, a file."""
    assert all(dumps(trace).startswith('{"version":2,') for trace in read_traces(path))


def test_a_path_that_holds_no_traces_is_answered_with_what_to_name(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "README.md").write_text("# Mine")
    for name in ("plan.yaml", "results.jsonl", "traces.jsonl"):
        (tmp_path / "run" / name).write_text("")
    for line, says in (
        (("view", tmp_path / "nothing"), "there is no file or folder"),
        (("view", tmp_path / "README.md"), "README.md is not a file of traces"),
        (("view", tmp_path / "run" / "results.jsonl"), "has rows of an evaluation; its episodes are in"),
        (("replay", tmp_path / "run"), "is a folder, and a file of traces is wanted; name its traces:"),
        (("replay", tmp_path / "nothing"), "there is no file"),
    ):
        assert main([*map(str, line)]) == 2
        assert says in " ".join(capsys.readouterr().err.split())
