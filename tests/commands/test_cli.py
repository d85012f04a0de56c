"""The command ``atommem``: what it prints, what it returns, and what it says when something is wrong (issue 2)."""

from __future__ import annotations

import importlib.machinery
import json
import os
import re
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import tyro

import atommem_gym
from atommem_gym.agents import AGENTS
from atommem_gym.agents.scripted.keep_all import KeepAllAgent
from atommem_gym.cli import COMMANDS, FAILED, READ_AS, CommandLine, main
from atommem_gym.commands.help import known_options
from atommem_gym.commands.info import installed, requirements
from atommem_gym.commands.run import parse_settings, resolve_env_id
from atommem_gym.errors import ConfigError
from atommem_gym.records.record import Document, Evidence, Item, Record
from atommem_gym.registration import TASKS

SMALL = ("--set", "num_docs=20", "store=numpy", "--episodes", "2")
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables are as wide as in a file; whoever runs the tests may have another terminal."""
    monkeypatch.setenv("COLUMNS", "160")


def row_of(agent: str, out: str) -> list[str]:
    """The cells of an agent's row in a table of results."""
    return next((line.split() for line in out.splitlines() if line.split()[:1] == [agent]), [])


@pytest.mark.parametrize("arguments", [[], ["demo"], ["run"], ["envs"], ["data"], ["info"]], ids=str)
def test_help_of_every_command(arguments: list[str], capsys: Capture) -> None:
    assert main([*arguments, "--help"]) == 0
    assert "usage: atommem" in capsys.readouterr().out


@pytest.mark.parametrize(
    "line",
    [[], *([name] for name in COMMANDS if name != "data"), ["data", "check"], ["data", "verl"], ["data", "skyrl"]],
)
def test_finding_6_9_help_names_every_option_that_is_read_and_no_other(line: list[str], capsys: Capture) -> None:
    """Pages are made of the commands' fields; what reads the command line has help of its own, which nobody sees."""
    with pytest.raises(SystemExit), patch.dict("os.environ", {"COLUMNS": "1000"}):
        tyro.cli(CommandLine, prog="atommem", args=[*line, "--help"], config=READ_AS)
    read = set(re.findall(r"^[│ ] (-.*?)(?:  |$)", capsys.readouterr().out, re.MULTILINE))
    assert main([*line, "--help"]) == 0
    page = capsys.readouterr().out
    shown = set(re.findall(r"^  (-.*?)(?:  |$)", page, re.MULTILINE))

    def names(lines: set[str]) -> set[str]:
        return {name for one in lines for name in re.findall(r"(?<![\w-])--?[a-z][\w-]*", one)}

    assert names(shown) == names(read)
    assert "--trust" in names(shown)
    assert not re.search(r"\(default|By default (None|\(\)|False)|\(required\)|None", page)


def test_finding_6_9_a_default_is_said_once(capsys: Capture) -> None:
    assert main(["run", "--help"]) == 0
    page = capsys.readouterr().out
    assert "all agents meet the same ones. By default 20." in page
    assert "Draws the episodes and seeds the agents. By default 0." in page
    assert main(["eval", "--help"]) == 0
    page = capsys.readouterr().out
    (documents,) = re.findall(r"^  --docs N….*$", page, re.MULTILINE)
    assert documents.count("default") == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("run Synthetic --episods 3", "unknown option --episods of `atommem run`; did you mean '--episodes'?"),
        ("run Synthetic --delay 0", "unknown option --delay of `atommem run`; known are --agent, --episodes, "),
        ("data check --datasett x", "unknown option --datasett of `atommem data check`; did you mean '--dataset'?"),
        ("run Synthetic --model x", "--model of `atommem run`; it is an option of `atommem eval` and `atommem ask` ("),
        ("eval Synthetic --embedder x", "embedder is a keyword argument of the environment: write --set embedder=…"),
        ("ask --timeout 3", "timeout is a setting of the model: write --model-option timeout=…"),
        ("ask x --top-k 3", "write --option top_k=… or --set top_k=…"),
        ("run Synthetic -z", "unknown option -z of `atommem run`; known are --agent, "),
        ("run", "`atommem run` needs ENV_ID; for instance: atommem run Synthetic --agent keep_all tidy"),
        ("compare run", "`atommem compare` needs B; for instance: atommem compare runs/base runs/trained"),
        ("rescore", "`atommem rescore` needs FILE, --reward NAME and -o FILE; for instance: atommem rescore traces"),
        ("memory", "`atommem memory` needs ACTION and DATABASE; for instance: atommem memory ls notes.db"),
        ("mcp kept.db", "`atommem mcp` needs --memory DATABASE; for instance: atommem mcp --memory notes.db"),
        ("data", "`atommem data` needs a command; known are check, verl, skyrl (`atommem data --help` tells more)"),
        ("run Synthetic --episodes x", "error: --episodes 'x' must be an integer (`atommem run --help`"),
        ("eval Synthetic --episodes 1.5", "error: --episodes '1.5' must be an integer (`atommem eval --help`"),
        ("mcp --memory kept.db --hold x", "error: --hold 'x' must be a number (`atommem mcp --help`"),
        ("view x --port z", "error: --port 'z' must be an integer (`atommem view --help`"),
        ("compare a a --agents keep_all", "error: --agents takes 2 values, not 1 (`atommem compare"),
        ("memory rmm kept.db", "error: ACTION 'rmm' is unknown; did you mean 'rm'? ("),
        ("compare a a --metric emm", "error: --metric 'emm' is unknown; did you mean 'em'? ("),
        (
            "data check x --dataset zzz",
            "error: --dataset 'zzz' is unknown; known are hotpotqa, 2wikimultihopqa, musique, ",
        ),
        ("eval Synthetic --traces jsn", "error: --traces 'jsn' is unknown; did you mean 'jsonl'? ("),
        ("run Synthetic Drift", "error: nothing takes the argument 'Drift'; usage: atommem run ENV_ID [options]"),
        ("run Synthetic --watch=yes", "error: --watch takes no value; write --watch alone"),
        ("run Synthetic --set", "error: --set needs a value: --set KEY=VALUE… ("),
        ("run Synthetic --agent --watch", "error: --agent needs a value: --agent NAME… ("),
        ("eval Synthetic --agent tidy --docs", "error: --docs needs a value: --docs N… ("),
        ("ask x -q", "error: -q needs a value: -q TEXT ("),
        ("--trust", "error: --trust needs a value: --trust URL|PATH ("),
        ("--import demo run --nonsense", "unknown option --nonsense of `atommem run`;"),
    ],
)
def test_finding_6_9_a_wrong_command_line_is_told_in_one_line(line: str, said: str, capsys: Capture) -> None:
    assert main(line.split()) == FAILED
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1
    assert "│" not in error


def test_the_value_of_an_option_of_every_command_is_no_command(capsys: Capture) -> None:
    for line in ("--import demo run --help", "--trust data info --help", "data --import check verl --help"):
        assert main(line.split()) == 0
        assert f"usage: atommem {'data verl' if 'verl' in line else line.split()[2]} " in capsys.readouterr().out


def test_the_version_is_an_option_of_no_command() -> None:
    assert "--version" in known_options(CommandLine, [])[1]
    assert "--version" not in known_options(CommandLine, ["run", "Synthetic"])[1]


def test_without_a_command_the_page_goes_to_the_standard_error(capsys: Capture) -> None:
    assert main([]) == FAILED
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith("usage: atommem COMMAND [options]")


def test_finding_6_9_lines_of_other_libraries_stay_out(capfd: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TRANSFORMERS_VERBOSITY", "HF_HUB_DISABLE_PROGRESS_BARS"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    assert main(["--version"]) == 0
    assert os.environ["TRANSFORMERS_VERBOSITY"] == "error"
    assert os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] == "1"


def test_demo_plays_all_agents_then_shows_one_episode_and_says_what_to_type_next(capsys: Capture) -> None:
    assert main(["demo", "--episodes", "1", "--num-docs", "30"]) == 0
    out = capsys.readouterr().out
    for agent in AGENTS:
        assert row_of(agent, out)
    for header in (
        "EM",
        "F1",
        "create",
        "read",
        "update",
        "delete",
        "scratchpad",
        "entries",
        "evidence recall",
        "ms a step",
    ):
        assert header in out
    assert "These rows measure memory and retrieval, not language." in " ".join(out.split())
    steps = [out.index(part) for part in ("step 0", "action", "memory after it", "feedback", "end of the episode")]
    assert steps == sorted(steps)
    last = [line.split(":  ")[1] for line in out.rstrip().splitlines()[-2:]]
    assert [line.split()[1] for line in last] == ["eval", "view"]
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
    assert all(f"\n{line} " in readme for line in last), "the README and the demo propose the same thing"
    # The episode that is shown makes the agent forget something and still answer.
    assert "deleted" in out
    assert "EM 1" in out
    assert "\x1b" not in out


def test_run_takes_settings_in_any_number_and_writes_records(tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "results.json"
    agents = ("--agent", "keep_all", "--agent", "silent", "keep_all")
    command = ["run", "synthetic", *SMALL, "--set", "max_entries=5", *agents, "--seed", "4", "--json", str(file)]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert row_of("keep_all", out)
    assert not row_of("oracle", out)
    results = json.loads(file.read_text(encoding="utf-8"))
    assert results["env"] == "AtomMem-Synthetic-v0"
    assert results["keywords"] == {"num_docs": 20, "store": "numpy", "max_entries": 5}
    assert [record["agent"] for record in results["records"]] == ["keep_all", "silent"] * 2
    assert {record["peak_entries"] for record in results["records"]} == {0, 5}
    assert len({record["item"] for record in results["records"]}) == 2


def test_all_agents_meet_the_same_episodes(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    assert main(["run", "Synthetic", *SMALL, "--json", str(file)]) == 0
    records = json.loads(file.read_text(encoding="utf-8"))["records"]
    items = {name: [record["item"] for record in records if record["agent"] == name] for name in AGENTS}
    assert len(set(map(tuple, items.values()))) == 1


def test_run_without_a_number_of_agents_plays_all(capsys: Capture) -> None:
    assert main(["run", "Synthetic", *SMALL]) == 0
    out = capsys.readouterr().out
    assert all(row_of(agent, out) for agent in AGENTS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "Hotpot"], "unknown environment 'Hotpot'; did you mean 'AtomMem-HotpotQA-v0'?"),
        (["run", "Synthetic", "--set", "nmdocs=3"], "unknown keyword argument 'nmdocs'; did you mean 'num_docs'?"),
        (["run", "Synthetic", "--set", "num_docs"], "--set 'num_docs' is not KEY=VALUE"),
        (["run", "Synthetic", "--set", "num_docs=many"], "num_docs='many'"),
        (["run", "Synthetic", "--set", "render_mode=human"], "use --watch"),
        (["run", "Synthetic", "--agent", "tidi"], "unknown agent 'tidi'; did you mean 'tidy'?"),
        (["run", "Synthetic", "--agent", "tydi"], "unknown agent 'tydi'; did you mean 'tidy'?"),
        (["run", "Synthetic", "--episodes", "0"], "--episodes 0 must be at least 1"),
        (["run", "Synthetic", "--json", "no/such/folder.json"], "there is no folder no/such"),
        (["run", "HotpotQA", "--set", "source=no-such-file.json"], "no-such-file.json"),
        (["data", "check", "no-such-file.json"], "no-such-file.json does not exist"),
        (["data", "check"], "no PATH given"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_errors_are_one_line_without_traceback_and_exit_status_2(
    arguments: list[str], message: str, capsys: Capture
) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert message in captured.err.splitlines()[0]
    assert "Traceback" not in captured.err
    assert captured.out == ""


def test_ctrl_c_prints_what_was_played_so_far(tmp_path: Path, capsys: Capture) -> None:
    class Impatient(KeepAllAgent):
        episodes = 0

        def reset(self, *arguments: Any) -> None:
            super().reset(*arguments)
            Impatient.episodes += 1
            if Impatient.episodes == 3:
                raise KeyboardInterrupt

    file = tmp_path / "results.json"
    with patch.dict(AGENTS, {"keep_all": Impatient}):
        arguments = ["--agent", "keep_all", "--json", str(file), "--episodes", "9"]
        assert main(["run", "Synthetic", *SMALL[:3], *arguments]) == 130
    out = capsys.readouterr().out
    assert "interrupted after 2 of 9 episodes" in out
    assert row_of("keep_all", out)
    results = json.loads(file.read_text(encoding="utf-8"))
    assert results["interrupted"] is True
    assert len(results["records"]) == 2


def test_documents_can_steer_neither_the_terminal_nor_the_markup(capsys: Capture) -> None:
    evil = "[red]not red[/red] [/] \x1b[2J\x07 [link=http://x]y[/link]"

    class Evil:
        name = "evil"
        num_items = 1

        def item(self, index: int, shuffle_seed: int = 0) -> Item:
            record = Record("q", f"Who is {evil}?", evil, (), (), (Evidence("T", evil, ""),))
            return Item(f"evil {evil}", 0, 0, (record,), (Document("T", evil), Document("U", evil)))

    with patch("atommem_gym.envs.atommem_env.load_items", lambda *_: Evil()):
        assert main(["run", "Synthetic", *SMALL[:3], "--watch", "--episodes", "1", "--agent", "oracle", "tidy"]) == 0
    out = capsys.readouterr().out
    assert "[red]not red[/red]" in out
    assert "\x1b" not in out
    assert "\x07" not in out


def test_watch_shows_every_step(capsys: Capture) -> None:
    assert main(["run", "Synthetic", *SMALL[:3], "--watch", "--episodes", "1", "--agent", "silent"]) == 0
    out = capsys.readouterr().out
    assert "step 0" in out
    assert "end of the episode" in out


def test_envs_lists_the_registry(capsys: Capture) -> None:
    assert main(["envs"]) == 0
    out = capsys.readouterr().out
    for task in TASKS.values():
        assert task.env_id in out
        assert task.summary in out
    assert "10,000" in out


def test_finding_6_9_the_version_is_an_option_and_the_package_can_be_run() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "atommem_gym", "--version"], capture_output=True, text=True, check=True
    )
    assert shown.stdout == f"atommem {atommem_gym.__version__}\n"
    assert shown.stderr == ""


@pytest.mark.parametrize(
    ("typed", "said"), [("evl", "did you mean 'eval'?"), ("RUN", "did you mean 'run'?"), ("x", "known are demo, run, ")]
)
def test_finding_6_9_a_misspelt_command_is_told(typed: str, said: str, capsys: Capture) -> None:
    assert main([typed, "Synthetic"]) == FAILED
    assert f"unknown command '{typed}'; {said}" in " ".join(capsys.readouterr().err.split())


def test_info_lists_versions_and_says_how_to_get_what_is_missing(capsys: Capture) -> None:
    with patch(
        "atommem_gym.commands.info.installed", lambda package: None if package == "torch" else installed(package)
    ):
        assert main(["info"]) == 0
    out = capsys.readouterr().out
    for package in ("python", "atommem-gym", "gymnasium", "numpy", "milvus-lite", "pymilvus"):
        assert re.search(rf"^{package}  ", out, re.MULTILINE)
    for extra in ("llm", "embed", "rl"):
        assert f"pip install 'atommem-gym[{extra}]'" in out


def test_requirements_tell_the_core_from_the_extras() -> None:
    core, extras = requirements()
    assert {"gymnasium", "numpy", "milvus-lite"} <= set(core)
    assert "torch" not in core
    assert "torch" in extras["embed"]
    assert "all" not in extras


def test_data_check_reports_and_fails_on_malformed_records(
    tmp_path: Path, hotpot_raw: Callable[..., dict[str, Any]], capsys: Capture
) -> None:
    good = tmp_path / "dev.jsonl"
    good.write_text("".join(json.dumps(hotpot_raw(i)) + "\n" for i in range(3)), encoding="utf-8")
    assert main(["data", "check", str(good)]) == 0
    out = capsys.readouterr().out
    assert "hotpotqa" in out
    assert "all records are well-formed" in out

    bad = tmp_path / "train.jsonl"
    lines = [json.dumps(hotpot_raw(0)), '{"broken": ', json.dumps(hotpot_raw(1, answer="[bold]x"))]
    bad.write_text("\n".join([*lines, json.dumps(hotpot_raw(2) | {"context": []})]), encoding="utf-8")
    assert main(["data", "check", str(good), str(bad)]) == 1
    out = capsys.readouterr().out
    assert "line 2: not valid JSON" in out
    assert "line 4: " in out
    assert "share" in out
    assert "not all records can be used" in out


@pytest.mark.parametrize("name", ["AtomMem-MuSiQue-v0", "MuSiQue", "musique", "atommem-musique-v0"])
def test_environments_have_short_names(name: str) -> None:
    assert resolve_env_id(name) == "AtomMem-MuSiQue-v0"


def test_settings_are_json_or_text() -> None:
    settings = ["a=1", "b=x=y", 'c=["create", "read"]', "num-docs=4", "d=null", "e=True", "f=http://h:1/v1", "g="]
    assert parse_settings(settings) == {
        "a": 1,
        "b": "x=y",
        "c": ["create", "read"],
        "num_docs": 4,
        "d": None,
        "e": True,
        "f": "http://h:1/v1",
        "g": "",
    }
    nested, long = "[" * 100_000, "1" * 5_000
    assert parse_settings([f"a={nested}", f"b={long}"]) == {"a": nested, "b": long}
    with pytest.raises(ConfigError):
        parse_settings(["=1"])


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("run Synthetic --agent crud", "the agent 'crud' has a language model: use `atommem eval`"),
        ("run Synthetic --agent tydi", "unknown agent 'tydi'; did you mean 'tidy'?"),
        ("run Synthetic --agent tidy,keep_all", "several are separated by spaces: tidy keep_all"),
        ("run Synthetic --set temperature=3", "an option of agents with a language model; write --option"),
        ("run Needle --set haystak=3", "did you mean 'haystack'?"),
        ("data chek x", "unknown command 'chek'; did you mean 'check'?"),
        ("memory list x", "did you mean 'ls'?"),
        ("eval Synthetic --agent tidy --docs 2O", "--docs '2O' must be an integer"),
        ("eval --config .", "the plan . is a folder, and a plan is a file"),
        ("ask x -q who --agent tydi", "unknown agent 'tydi'; did you mean 'tidy'?"),
        ("eval Synthetic --agent tydi", "unknown agent 'tydi'; did you mean 'tidy'?"),
        ("run --agent tidy", "'tidy' is an agent, and an ENV_ID is wanted; write: atommem run Synthetic --agent tidy"),
        ("eval Synthetic crud", "'crud' is an agent, and an ENV_ID is wanted; write: atommem eval"),
        ("eval Synthetic,Drift --agent tidy", "several are separated by spaces: Synthetic Drift"),
        ("eval Synthetic --agent tidy --grid x", "--grid 'x' is not KEY=V,V,…; write for instance --grid depth=0,0.5"),
        ("eval Synthetic --agent tidy --grid store=numpy,milvuz", "unknown store 'milvuz'; did you mean 'milvus'?"),
        ("eval Synthetic --agent tidy --set num_docs=3", "documents by --docs; write --docs 3"),
        ("eval Synthetic --agent tidy --model-option timeout=3", "for agents with a language model, and none of them"),
        ("eval Synthetic --agent crud --option template=no.j2", "there is no prompt template 'no.j2'; name a Jinja2"),
        ("eval --config no.yaml", "the plan no.yaml cannot be read (No such file or directory); name a YAML file"),
        ("eval --protocol stream-v1", "there is no protocol and no file 'stream-v1'; did you mean 'streams-v1'? ("),
        ("demo --episodes 0", "--episodes=0 must be an integer of at least 1"),
        ("memory ls kept.db --yes", "memory ls takes no --yes, which belongs to purge"),
        ("memory show kept.db --top-k 3", "memory show takes no --top-k, which belongs to search"),
        ("export traces.jsonl -o sft --dev 2", "--dev 2 must be a number from 0 to below 1"),
        ("data verl Synthetic -o x --set timeout=3", "timeout is a setting of the model; write --model-option"),
        ("ask x -q who --agent tidy,keep_all", "one agent answers, and --agent 'tidy,keep_all' names several"),
    ],
)
def test_a_slip_is_answered_with_what_was_meant(line: str, says: str, capsys: Capture) -> None:
    assert main(line.split()) == FAILED
    assert says in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("store=milvuz", "unknown store 'milvuz'; did you mean 'milvus'?"),
        (
            "dialect=crd",
            "dialect='crd' must be one of 'crud', 'released', 'tools', 'package.module:name'; did you mean",
        ),
        ("reward=emm", "or a callable; did you mean 'em'?"),
        ("order=shufled", "did you mean 'shuffled'?"),
        ("preset=releasd", "preset='releasd' must be one of 'paper', 'released'; did you mean 'released'?"),
        ("reader=oracl", "did you mean 'oracle'?"),
        ("split=trian", "split='trian' must be one of 'train', 'validation', 'test'; did you mean 'train'?"),
        ("embedder=hashin", "unknown embedder 'hashin'; did you mean 'hashing'?"),
        ('operations=["creat"]', "holds 'creat'; did you mean 'create'?"),
    ],
)
def test_finding_6_9_a_misspelt_choice_is_told_what_was_meant(setting: str, says: str, capsys: Capture) -> None:
    assert main(["run", "Synthetic", "--set", setting]) == FAILED
    assert says in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("timeout=x", "timeout='x' of the server http://localhost:1/v1 must be a finite number above 0"),
        ("patience=x", "patience='x' of the server http://localhost:1/v1 must be a finite number of at least 0"),
        ("concurrency=x", "concurrency='x' must be an integer of at least 1"),
        ("extra_body=x", "extra_body='x' must be a dictionary"),
        ("opens_think=3", "opens_think=3 must be True, False, or the text"),
    ],
)
def test_finding_6_4_a_wrong_setting_of_a_server_is_named(option: str, says: str, capsys: Capture) -> None:
    assert main(["ask", "x", "-q", "?", "--model", "http://localhost:1/v1", "--model-option", option]) == FAILED
    assert says in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("package", "line"),
    [
        ("sentence_transformers", ["run", "Synthetic", "--set", "embedder=no/such", "store=numpy"]),
        ("sentence_transformers", ["eval", "Synthetic", "--agent", "tidy", "--set", "embedder=no/such"]),
        ("transformers", ["ask", "x", "-q", "?", "--model", "no/such"]),
    ],
)
def test_finding_6_7_a_misspelt_model_is_told_before_its_library_is_imported(
    package: str, line: list[str], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("embedders.sentence_embedder", "agents.players.transformers_model"):
        monkeypatch.setattr(f"atommem_gym.{module}.why_not_there", lambda names: "no model")
    there = types.ModuleType(package)  # whoever takes something from it raises an ImportError
    there.__spec__ = importlib.machinery.ModuleSpec(package, None)
    monkeypatch.setitem(sys.modules, package, there)
    assert main(line) == FAILED
    assert capsys.readouterr().err.count("no model") == 1, "said once, and not for every episode"


def test_what_is_no_file_of_records_is_said(tmp_path: Path, capsys: Capture) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "none.jsonl").write_text("")
    (tmp_path / "bytes.jsonl").write_bytes(b"\xff\xfe{")
    (tmp_path / "traces.jsonl").write_text(json.dumps({"env": {}, "steps": [], "documents": []}) + "\n")
    assert main(["run", "HotpotQA", "--set", f"source={tmp_path / 'fifo'}"]) == FAILED
    assert "is a pipe or device, and files are read" in capsys.readouterr().err
    for name, says in (
        ("none.jsonl", "there are no records; is the file complete?"),
        ("bytes.jsonl", "line 1: not valid JSON (it is no UTF-8 text)"),
        ("traces.jsonl", "this is a recorded episode and no record; `atommem replay` and `atommem view` take files of"),
    ):
        assert main(["data", "check", str(tmp_path / name)]) == 1
        assert says in capsys.readouterr().out


def test_own_records_are_told_from_others_and_a_misspelt_field_is_named(tmp_path: Path, capsys: Capture) -> None:
    document = {"title": "t", "text": "a", "gold": True}
    (tmp_path / "own.json").write_text(json.dumps([{"question": "Who?", "answer": "a", "documents": [document]}]))
    assert main(["run", "HotpotQA", "--set", f"source={tmp_path / 'own.json'}"]) == FAILED
    assert "play it as a CustomTask, which docs/custom_task.md describes" in " ".join(capsys.readouterr().err.split())
    (tmp_path / "slip.json").write_text(json.dumps([{"qestion": "Who?", "answer": "a", "documents": [document]}]))
    assert main(["data", "check", str(tmp_path / "slip.json")]) == 1
    assert "unknown field 'qestion'; did you mean 'question'?" in " ".join(capsys.readouterr().out.split())
    (tmp_path / "slip.json").write_text(json.dumps([{"question": "Who?", "answer": "a", "documnts": [document]}]))
    assert main(["data", "check", str(tmp_path / "slip.json")]) == 1
    assert "'documnts' is unknown, did you mean 'documents'?" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["ask", "-q", "--what is it", "--agnt", "x"], "unknown option --agnt"),
        (["run", "Synthetic", "--agents-", "--", "--x"], "unknown option --agents-"),
        (["eval", "LoCoMo", "--set", "num_docs=0"], "takes documents by --docs; leave it out"),
        (["eval", "Synthetic", "--set", "num_docs=8"], "write --docs 8"),
    ],
)
def test_finding_6_9_the_wrong_word_is_the_one_that_is_named(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == FAILED
    assert told in " ".join(capsys.readouterr().err.split())
