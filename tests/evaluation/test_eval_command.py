"""``atommem eval`` on the command line: what it makes of arguments and files, prints, writes and returns (issue 5)."""

from __future__ import annotations

import io
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import yaml
from support.evaluations import play, row, small_plan
from support.openai_server import OpenAIServer, Reply, Request, server
from support.tiny_model import tiny_model

from atommem_gym.cli import main
from atommem_gym.commands.eval import Eval
from atommem_gym.errors import ConfigError
from atommem_gym.evaluation.folder import Run, read_run
from atommem_gym.evaluation.plan import Cell
from atommem_gym.evaluation.plots import write_plots
from atommem_gym.evaluation.progress import LiveProgress, PlainProgress, Row
from atommem_gym.evaluation.results import FailedEpisode
from atommem_gym.terminal import SafeConsole
from atommem_gym.traces import read_traces

__all__ = ["server", "tiny_model"]  # fixtures
ROOT = Path(__file__).resolve().parents[2]
Capture = pytest.CaptureFixture[str]
TINY = ("--docs", "10", "--episodes", "2", "--set", "store=numpy")


@pytest.fixture(autouse=True)
def _wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture(autouse=True)
def plots(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[tuple[str, str]]]:
    """What draws plots: taken out, since that takes longer than all the rest and has tests of its own."""
    monkeypatch.setattr("atommem_gym.commands.eval.write_plots", lambda report, folder: [])
    return write_plots


def plan_of(*arguments: str) -> dict[str, Any]:
    """The plan that a command line makes."""
    with mock.patch("atommem_gym.commands.eval.Eval.run", autospec=True, return_value=0) as run:
        assert main(["eval", *arguments]) == 0
    command = run.call_args.args[0]
    assert isinstance(command, Eval)
    return command.plan().to_values()


def test_a_plan_from_arguments() -> None:
    plan = plan_of(
        *("HotpotQA", "MuSiQue", "--docs", "200", "400", "--agent", "keep_all", "crud", "--agent", "tidy"),
        *("--source", "HotpotQA=a/hotpot.json", "MuSiQue=m.jsonl", "--set", "split=validation", "musique.top_k=3"),
        *("--set", "embedder=minilm", "--model", "http://localhost:8000/v1", "--model-name", "Qwen/Qwen3-8B"),
        *("--option", "temperature=0.7", "--seeds", "0", "1", "--episodes", "5", "--items-seed", "9"),
        *("--concurrency", "64", "--traces", "jsonl.gz", "--give-up-after", "3"),
    )
    assert plan == {
        "envs": [
            {"id": "AtomMem-HotpotQA-v0", "label": "HotpotQA", "settings": {"source": "a/hotpot.json"}},
            {"id": "AtomMem-MuSiQue-v0", "label": "MuSiQue", "settings": {"source": "m.jsonl", "top_k": 3}},
        ],
        "agents": [
            {"name": "keep_all", "label": "keep_all"},
            {"name": "crud", "label": "crud", "options": {"temperature": 0.7}},
            {"name": "tidy", "label": "tidy"},
        ],
        "docs": [200, 400],
        "seeds": [0, 1],
        "episodes": 5,
        "items_seed": 9,
        "settings": {"split": "validation", "embedder": "minilm"},
        "model": {"name": "Qwen/Qwen3-8B", "url": "http://localhost:8000/v1"},
        "concurrency": 64,
        "traces": "jsonl.gz",
        "give_up_after": 3,
    }


def test_arguments_win_over_a_file_field_by_field(tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    values = {"envs": ["Synthetic"], "agents": ["crud"], "docs": 20, "settings": {"store": "numpy", "top_k": 4}}
    file.write_text(yaml.safe_dump({**values, "model": {"url": "http://old:1/v1", "name": "m"}}))
    plan = plan_of("--config", str(file), "--docs", "30", "--set", "top_k=5", "--model", "http://new:1/v1")
    assert plan["docs"] == [30]
    assert plan["settings"] == {"store": "numpy", "top_k": 5}
    assert plan["model"] == {"name": "m", "url": "http://new:1/v1"}
    assert plan["agents"][0]["name"] == "crud"


def test_settings_of_one_environment_find_it_by_label_or_id(tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    envs = ["Synthetic", {"id": "HotpotQA", "label": "dev"}, {"id": "HotpotQA", "label": "train"}]
    file.write_text(yaml.safe_dump({"envs": envs, "agents": ["tidy"]}))
    base = ("--config", str(file))
    plan = plan_of(*base, "--set", "dev.split=validation", "hotpotqa.top_k=3", "--source", "train=t.json")
    assert [env.get("settings", {}) for env in plan["envs"]] == [
        {},
        {"split": "validation", "top_k": 3},
        {"top_k": 3, "source": "t.json"},
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no environments given; for instance: atommem eval Synthetic --agent"),
        (["Synthetic"], "no agents (--agent) given"),
        (["Synthetic", "--agent", "tidy", "--source", "HotpotQA=x"], "settings are given for 'HotpotQA', which is not"),
        (["Synthetic", "--agent", "tidy", "--source", "Hotpot=x"], "did you mean 'AtomMem-HotpotQA-v0'"),
        (["HotpotQA", "--agent", "tidy", "--source", "x.json"], "--source 'x.json' is not ENV=PATH"),
        (["Synthetic", "--agent", "tidy", "--set", "top_k"], "--set 'top_k' is not KEY=VALUE"),
        (["Synthetic", "--agent", "tidy", "--option", "temperature"], "--option 'temperature' is not KEY=VALUE"),
        (["Synthetic", "--agent", "tidy", "--option", "temperature=1"], "is for agents with a language model"),
        (["Synthetic", "--agent", "crud"], "needs a language model; give --model URL"),
        (
            ["Synthetic", "--agent", "crud", "--model", "m", "--model-name", "n"],
            "is not a URL, so it is a local model's",
        ),
        (["Synthetic", "--agent", "tidi"], "did you mean 'tidy'"),
        (
            ["Synthetic", "--agent", "tidy", "--traces", "csv"],
            "--traces 'csv' is unknown; known are jsonl, jsonl.gz, none",
        ),
        (["Synthetic", "--agent", "tidy", "--config", "nowhere.yaml"], "the plan nowhere.yaml cannot be read"),
        (["--report-only"], "holds no evaluation"),
        (["--report-only", "--docs", "5"], "--report-only plays nothing, so --docs means nothing beside it"),
        (["--report-only", "--agent", "tidy"], "so --agent means nothing"),
        (["--report-only", "Synthetic"], "so ENV_ID means nothing"),
        (["Synthetic", "--lock", "x.json"], "--lock plays nothing, so -o means nothing beside it"),
    ],
    ids=lambda value: " ".join(value)[:50] if isinstance(value, list) else "",
)
def test_mistakes_are_named_and_nothing_is_played(
    arguments: list[str], message: str, tmp_path: Path, capsys: Capture
) -> None:
    assert main(["eval", *arguments, "-o", str(tmp_path / "run")]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run" / "results.jsonl").is_file() or not read_run(tmp_path / "run").results


def test_what_it_prints_and_writes(tmp_path: Path, capsys: Capture, plots: Any, monkeypatch: Any) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib: pip install 'atommem-gym[plots]'")
    monkeypatch.setattr("atommem_gym.commands.eval.write_plots", plots)
    out = tmp_path / "runs" / "first"
    assert main(["eval", "Synthetic", "--agent", "silent", "oracle", *TINY, "-o", str(out)]) == 0
    printed = capsys.readouterr()
    assert "Synthetic, 10 documents, oracle: 2 episodes, EM 1.00 (1.00–1.00)" in printed.err
    assert "4/4 episodes" in printed.err
    for title in ("Results", "Where the time of a step goes", "Where the wall time went", "oracle reader's"):
        assert title in printed.out
    assert "\x1b" not in printed.out + printed.err
    files = {path.name for path in out.iterdir()}
    assert {"plan.yaml", "results.jsonl", "traces.jsonl", "sessions.jsonl", "report.md", "cells.csv"} <= files
    assert {"em.png", "operations.png", "causes.png", "cost.png"} <= files
    assert "![Exact match against documents](em.png)" in (out / "report.md").read_text()
    assert yaml.safe_load((out / "plan.yaml").read_text())["agents"][1]["name"] == "oracle"


def test_the_report_is_made_again_without_playing(tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "run"
    main(["eval", "Synthetic", "--agent", "silent", "oracle", *TINY, "-o", str(out)])
    first, rows = capsys.readouterr().out, (out / "results.jsonl").read_bytes()
    for name in ("report.md", "cells.csv"):
        (out / name).unlink()
    assert main(["eval", "--report-only", "-o", str(out)]) == 0
    assert capsys.readouterr().out == first
    assert (out / "report.md").is_file()
    assert (out / "results.jsonl").read_bytes() == rows


def test_resume_needs_nothing_but_the_folder(tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "run"
    arguments = ["eval", "Synthetic", "--agent", "silent", "oracle", *TINY, "-o", str(out)]
    main(arguments)
    lines = (out / "results.jsonl").read_bytes().splitlines(keepends=True)
    (out / "results.jsonl").write_bytes(lines[0])
    (out / "traces.jsonl").write_bytes((out / "traces.jsonl").read_bytes().splitlines(keepends=True)[0])
    assert main(["eval", "--resume", "-o", str(out)]) == 0
    assert "going on after 1 of 4 episodes" in capsys.readouterr().err
    assert len(read_run(out).results) == 4
    assert main(["eval", "--resume", "-o", str(out)]) == 0
    printed, said = capsys.readouterr()
    assert "all 4 episodes are there; nothing is left to play" in said
    assert "going on" not in said
    assert [line.split(" in ")[0][-10:] for line in printed.splitlines() if " a second" in line] == [
        ": 4 episodes"[-10:],
        ": 3 episodes"[-10:],
    ]
    assert main(arguments) == 2
    assert "has results already; go on with them by --resume" in " ".join(capsys.readouterr().err.split())
    assert main([*arguments, "--resume", "--episodes", "3"]) == 2
    assert "episodes: 2; now 3" in capsys.readouterr().err


def test_without_matplotlib_there_are_tables_and_a_hint(
    tmp_path: Path, capsys: Capture, plots: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr("atommem_gym.commands.eval.write_plots", plots)
    play(tmp_path / "run", small_plan(docs=10, seeds=0))
    with mock.patch.dict("sys.modules", {"matplotlib": None}):
        assert main(["eval", "--report-only", "-o", str(tmp_path / "run")]) == 0
    assert "no plots: pip install 'atommem-gym[plots]'" in capsys.readouterr().err
    assert "![" not in (tmp_path / "run" / "report.md").read_text()


def test_failed_episodes_are_reported_and_change_the_exit_status(tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "run"
    play(out, small_plan(docs=10, seeds=0))
    line = '{"env": "Synthetic", "docs": 10, "agent": "silent", "seed": 0, "index": 999999, "shuffle_seed": 0, '
    (out / "failures.jsonl").write_text(line + '"steps": 2, "error": "StoreError", "message": "full", "at": ""}\n')
    assert main(["eval", "--report-only", "-o", str(out)]) == 1
    printed = capsys.readouterr().out
    assert "1 episode failed and counts in no mean (1 × StoreError; the last: full)" in printed
    assert "3 +1 failed" in printed
    assert "**1 episode failed" in (out / "report.md").read_text()


class _Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def progressing(kind: Any, console: SafeConsole) -> str:
    """What a progress shows of an evaluation of two cells with a failure, a hundred seconds long."""
    clock = _Clock()
    plan = small_plan(envs=["HotpotQA"], agents=["tidy", "crud"], docs=200, seeds=0, episodes=4, model="m")
    listener = kind(console, clock) if kind is PlainProgress else kind(console)
    with listener:
        if kind is LiveProgress:
            listener.board._clock = clock
        listener.begin(plan, Run(Path("run"), plan, (row(index=0),), (), ()))
        for i in range(1, 4):
            clock.now += 20
            listener.finished(row(index=i, em=float(i % 2)))
        clock.now += 40
        listener.finished(row(index=0, agent="crud", calls=1, prompt_tokens=900, completion_tokens=100))
        listener.failed(FailedEpisode("HotpotQA", 200, "crud", 0, 1, 0, 3, "ModelUnavailableError", "gone\nfar", ""))
        if kind is LiveProgress:
            console.print(listener._draw())
    return console.export_text()


def test_plain_progress() -> None:
    text = progressing(PlainProgress, SafeConsole(width=120, record=True, file=io.StringIO()))
    for line in (
        "going on after 1 of 8 episodes",
        "2/8 episodes · 3.0 episodes/min · 2:00 left",
        "HotpotQA, 200 documents, tidy: 4 episodes, EM 0.75 (0.25–1.00)",
        "HotpotQA, 200 documents, crud, item 1: failed (ModelUnavailableError: gone)",
        "5/8 episodes · 2.4 episodes/min · 10 tokens/s · 1 failed · 0:50 left",
    ):
        assert line in text


def test_live_progress() -> None:
    console = SafeConsole(width=120, height=30, record=True, force_terminal=True, file=io.StringIO())
    text = progressing(LiveProgress, console)
    assert "4/4  0.75 (0.25–1.00)" in text
    assert "1/4  1.00" in text
    assert "5/8 episodes · 2.4 episodes/min · 10 tokens/s · 1 failed · 0:50 left" in text


def test_a_long_cell_is_not_summed_up_at_every_episode() -> None:
    known = Row(Cell("HotpotQA", 200, "tidy"))
    seen = set()
    for i in range(400):
        known.results.append(row(index=i, em=float(i % 2)))
        seen.add(known.em_so_far)
        assert i > 49 or known.em_so_far == known.em
    assert len(seen) < 200


def test_live_progress_of_more_rows_than_the_terminal_has() -> None:
    console = SafeConsole(width=120, height=12, record=True, force_terminal=True, file=io.StringIO())
    plan = small_plan(envs=["HotpotQA"], agents=["tidy"], docs=list(range(1, 41)), seeds=0, episodes=4)
    live = LiveProgress(console)
    live.begin(plan, Run(Path("run"), plan, (row(docs=33),), (), ()))
    console.print(live._draw())
    text = console.export_text()
    assert "… and 34 more rows" in text
    assert " 33  tidy" in text, "what is under way is shown first"
    assert len(text.splitlines()) <= 12


def test_a_language_model_behind_a_server(server: OpenAIServer, tmp_path: Path, capsys: Capture) -> None:
    """The whole way: arguments, server, players, traces, tokens, tables."""

    def answer(request: Request, number: int) -> Reply:
        if request.method == "GET":
            return Reply({"data": [{"id": "tiny"}]})
        message = {"role": "assistant", "content": "<create>a fact</create><answer>no idea</answer>"}
        usage = {"prompt_tokens": 120, "completion_tokens": 11}
        return Reply({"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage})

    server.answer = answer
    arguments = ["--agent", "crud", "retrieve_then_read", "--model", server.url, "--model-name", "tiny"]
    assert main(["eval", "Synthetic", *arguments, *TINY, "-o", str(tmp_path / "run")]) == 0
    asked = server.asked("/v1/chat/completions")
    assert all(request.body["model"] == "tiny" for request in asked)
    results = read_run(tmp_path / "run").results
    assert len(results) == 4
    assert sum(result.calls for result in results) == len(asked) > 0
    assert all(result.prompt_tokens == 120 * result.calls for result in results)
    assert all(result.completion_tokens == 11 * result.calls for result in results)
    printed = " ".join(capsys.readouterr().out.split())
    assert "prompt tokens completion tokens" in printed
    assert "tokens a second" in printed


def test_no_record_lacks_the_model_s_name_and_a_server_that_is_late_is_waited_for(
    server: OpenAIServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    message = {"message": {"role": "assistant", "content": "<answer>no</answer>"}, "finish_reason": "stop"}

    def answer(request: Request, number: int) -> Reply:
        if not number:
            return Reply({"error": {"message": "loading"}}, 503)
        if request.method == "GET":
            return Reply({"data": [{"id": "served"}]})
        return Reply({"choices": [message], "usage": {"prompt_tokens": 1, "completion_tokens": 1}})

    server.answer = answer
    arguments = ["Synthetic", "--agent", "crud", "retrieve_then_read", "--model", server.url, *TINY]
    assert main(["eval", *arguments, "-o", str(tmp_path / "run")]) == 0
    traces = list(read_traces(tmp_path / "run" / "traces.jsonl"))
    assert [trace.agent.settings["model"] for trace in traces] == ["served"] * 4
    assert "loading" in caplog.text
    methods = [request.method for request in server.requests]
    assert methods == sorted(methods), "it is asked for its models until it answers, and not once an episode is begun"
    server.answer = lambda request, number: Reply({}, 500)
    assert main(["eval", "--resume", "-o", str(tmp_path / "run")]) == 0, "nothing is missing, so nobody is asked"


def test_a_server_without_the_model_stops_it_before_an_episode_begins(
    server: OpenAIServer, tmp_path: Path, capsys: Capture
) -> None:
    server.answer = lambda request, number: Reply({"data": [{"id": "served"}]})
    arguments = ["Synthetic", "--agent", "crud", "--model", server.url, "--model-name", "server", *TINY]
    assert main(["eval", *arguments, "-o", str(tmp_path / "run")]) == 2
    assert "no model 'server'; it has served" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_local_language_model(tiny_model: Path, tmp_path: Path) -> None:
    arguments = ["--agent", "crud", "--model", str(tiny_model), "--option", "max_tokens=8"]
    assert main(["eval", "Synthetic", *arguments, *TINY, "-o", str(tmp_path / "run")]) == 0
    results = read_run(tmp_path / "run").results
    assert len(results) == 2
    assert all(result.calls == result.steps and (result.completion_tokens or 0) > 0 for result in results)


def test_the_blocks_of_the_documentation_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
    (tmp_path / "plan.yaml").write_text(re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)[0], encoding="utf-8")
    ran = 0
    for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL):
        for command in block.replace("\\\n", " ").splitlines():
            words = shlex.split(command, comments=True)
            assert words[0] == "atommem"
            assert main(words[1:]) == 0, capsys.readouterr().err
            ran += 1
    assert ran >= 5
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(compile(block, "docs/evaluation.md", "exec"), {})


def test_both_commands_have_help(capsys: Capture) -> None:
    for command in ("eval", "compare"):
        assert main([command, "--help"]) == 0
        assert f"usage: atommem {command}" in capsys.readouterr().out


def test_an_agent_given_twice_plays_once() -> None:
    plan = plan_of("Synthetic", "--agent", "tidy", "tidy")
    assert [agent["name"] for agent in plan["agents"]] == ["tidy"]
    with pytest.raises(ConfigError, match="twice"):
        plan_of("Synthetic", "Synthetic", "--agent", "tidy")


def test_a_report_that_cannot_be_written_is_an_error(tmp_path: Path, capsys: Capture) -> None:
    play(tmp_path / "run", small_plan(docs=10, seeds=0, episodes=1))
    (tmp_path / "run" / "report.md").mkdir()
    assert main(["eval", "--report-only", "-o", str(tmp_path / "run")]) == 2
    assert "the report cannot be written to" in capsys.readouterr().err


def test_an_evaluation_that_fails_before_the_first_episode_leaves_no_folder(tmp_path: Path, capsys: Capture) -> None:
    folder = tmp_path / "a"
    played = ("eval", "HotpotQA", "--agent", "keep_all", "--episodes", "1", "-o", str(folder))
    assert main([*played, "--source", f"HotpotQA={tmp_path / 'none.json'}"]) == 2
    assert not folder.exists()
    assert main(["view", str(folder), "--no-open"]) == 2
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    assert main([*played, "--source", f"HotpotQA={tmp_path / 'none.json'}"]) == 2
    assert [path.name for path in folder.iterdir()] == ["notes.txt"], "what was there stays"
    play(tmp_path / "b")
    before = sorted(path.name for path in (tmp_path / "b").iterdir())
    with mock.patch("atommem_gym.evaluation.runner.make_cells", side_effect=ConfigError("no records")):
        assert main(["eval", "--resume", "-o", str(tmp_path / "b")]) == 2
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == before
    capsys.readouterr()
