"""Files of strangers: what a plan, a trace or a kept database names is not opened, called, imported or given a key."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from msgspec.structs import replace
from support.audited import Ran, audited
from support.made_traces import SMALL, SYNTHETIC, played
from support.openai_server import OpenAIServer, Reply, Request, server  # noqa: F401

from atommem_gym.cli import main
from atommem_gym.commands.eval import Eval
from atommem_gym.envs import AtomMemPool
from atommem_gym.errors import ConfigError, StoreError
from atommem_gym.evaluation.folder import EvaluationError, RunWriter, read_run
from atommem_gym.evaluation.plan import Plan
from atommem_gym.memory.memory import Memory
from atommem_gym.memory.protocols import Write
from atommem_gym.records.own_files import read_files
from atommem_gym.records.verl_rows import POOL_PARAMETERS, ItemReference, references
from atommem_gym.registration import configure, load_items
from atommem_gym.scoring import load_scorer
from atommem_gym.stores.kept import embedder_keyword, open_kept
from atommem_gym.stores.loading import open_store
from atommem_gym.traces import EpisodeTrace, TraceError, write_traces
from atommem_gym.traces.replay import Replayer
from atommem_gym.traces.training.sft import Selection, Tally, examples
from atommem_gym.trust import (
    check_import,
    check_plan,
    check_template,
    command_line,
    is_said,
    reaches_out,
    secret,
    unsaid,
)

KEY = "sk-very-secret"
SECRET = "the secret of this machine"
MARKER = "marker_of_a_stranger"
RUNS_CODE = "{{ cycler.__init__.__globals__.os.system('touch was_here') }}"


def answer(request: Request, number: int) -> Reply:
    """A server of one model that embeds and chats."""
    if request.path == "/v1/models":
        return Reply({"data": [{"id": "m"}]})
    if request.path == "/v1/embeddings":
        rows = [{"index": i, "embedding": [1.0, float(len(text))]} for i, text in enumerate(request.body["input"])]
        return Reply({"data": rows})
    choice = {"message": {"content": "<answer>no idea</answer>"}, "finish_reason": "stop"}
    return Reply({"choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": 1}})


@pytest.fixture
def chat(server: OpenAIServer) -> OpenAIServer:  # noqa: F811
    server.answer = answer
    return server


def port(server: OpenAIServer) -> str:  # noqa: F811
    return server.url.removeprefix("http://127.0.0.1:").removesuffix("/v1")


def keys(server: OpenAIServer) -> set[str | None]:  # noqa: F811
    """What the server was given as key."""
    return {request.headers.get("authorization") for request in server.requests}


@pytest.fixture(scope="module")
def honest() -> EpisodeTrace:
    return next(played("tidy", [0], **SMALL))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working directory with all that a stranger's file may hope for."""
    (tmp_path / "secret.txt").write_text(SECRET)
    (tmp_path / "evil.j2").write_text(RUNS_CODE)
    (tmp_path / f"{MARKER}.py").write_text("def score(prediction, answers, question):\n    return 1.0\n")
    model = tmp_path / "model"
    model.mkdir()
    for name in ("tokenizer.json", "config.json", "modules.json"):
        (model / name).write_text("{}")
    return tmp_path


def with_keywords(trace: EpisodeTrace, **keywords: Any) -> EpisodeTrace:
    return replace(trace, env=replace(trace.env, keywords={**trace.env.keywords, **keywords}))


def specimens(trace: EpisodeTrace, folder: Path, url: str) -> dict[str, EpisodeTrace]:
    """A record of each kind of malice."""
    return {
        "template-secret": with_keywords(trace, template=str(folder / "secret.txt")),
        "template-code": with_keywords(trace, template=str(folder / "evil.j2")),
        "embedder-url": with_keywords(trace, embedder=url),
        "embedder-folder": with_keywords(trace, embedder=str(folder / "model")),
        "embedder-relative": with_keywords(trace, embedder="model"),
        "tokenizer-folder": with_keywords(trace, tokenizer=str(folder / "model")),
        "tokenizer-relative": with_keywords(trace, tokenizer="model"),
        "source-secret": with_keywords(trace, source=str(folder / "secret.txt")),
        "reward-module": with_keywords(trace, reward=f"{MARKER}:score"),
        "store-url": with_keywords(trace, store=url),
        "other-environment": replace(
            with_keywords(trace, env_id=f"{MARKER}:Env-v0"), env=replace(trace.env, id="GymV21Environment-v0")
        ),
        "module-environment": replace(trace, env=replace(trace.env, id=f"{MARKER}:Env-v0")),
        "needle-text": replace(
            trace,
            env=replace(
                trace.env,
                id="AtomMem-Needle-v0",
                keywords={"haystack": "text", "text": str(folder / "secret.txt"), "store": "numpy"},
            ),
        ),
    }


def untouched(ran: Ran, folder: Path, server: OpenAIServer) -> None:  # noqa: F811
    """Nothing that a stranger's file names was used."""
    for name in (folder / "secret.txt", folder / "evil.j2", folder / "model", "'model", MARKER, port(server)):
        # Where the working directory is on the path, Python lists it; that opens no file in it.
        assert not ran.touched(name), ran
    assert not [event for event in ran.events if event.startswith(("os.", "subprocess."))], ran
    assert not (folder / "was_here").exists()
    assert SECRET not in ran.said


def test_finding_1_1_and_1_2_every_command_leaves_alone_what_a_strange_trace_names(
    honest: EpisodeTrace,
    folder: Path,
    chat: OpenAIServer,
) -> None:
    commands: list[Sequence[object]] = []
    for name, trace in specimens(honest, folder, chat.url).items():
        write_traces(folder / f"{name}.jsonl", [trace])
        commands += [
            ["replay", f"{name}.jsonl", "--check"],
            ["replay", f"{name}.jsonl", "--no-check"],
            ["rescore", f"{name}.jsonl", "--reward", "f1", "-o", f"{name}.f1.jsonl"],
            ["view", f"{name}.jsonl", "--no-open"],
            ["export", f"{name}.jsonl", "-o", f"sft-{name}", "--threshold", "0", "--render", "--format", "messages"],
        ]
    ran = audited(commands, folder, OPENAI_API_KEY=KEY, MILVUS_TOKEN=KEY)
    for one in ran:
        untouched(one, folder, chat)
    assert not chat.requests
    said = {(command[0], str(command[1]), command[2]): one for command, one in zip(commands, ran, strict=True)}
    for name, keyword in (("embedder-url", "embedder"), ("tokenizer-relative", "tokenizer"), ("needle-text", "text")):
        refused = said["replay", f"{name}.jsonl", "--check"]
        assert refused.status == 2
        assert f"say it again with --set {keyword}=" in refused.said
    for name in ("template-secret", "reward-module", "store-url"):
        assert "all as recorded" in said["replay", f"{name}.jsonl", "--check"].said
    for name in ("template-secret", "template-code"):
        exported = said["export", f"{name}.jsonl", "-o"]
        assert exported.status == 0
        assert "which was not read: prompts are the dialect's own; --template FILE" in exported.said
        assert SECRET not in (folder / f"sft-{name}" / "train.jsonl").read_text()


def test_finding_1_2_what_is_said_again_is_used(honest: EpisodeTrace, folder: Path, chat: OpenAIServer) -> None:
    write_traces(folder / "t.jsonl", [with_keywords(honest, embedder=chat.url)])
    (folder / "mine.j2").write_text("{% if part == 'system' %}mine{% else %}{{ question }}{% endif %}")
    for again in (["--set", f"embedder={chat.url}"], ["--trust", chat.url]):
        chat.requests.clear()
        [ran] = audited([["replay", "t.jsonl", "--check", *again]], folder, OPENAI_API_KEY=KEY)
        assert "1 episode," in ran.said
        assert keys(chat) == {f"Bearer {KEY}"}
    export = ["export", "t.jsonl", "-o", "sft", "--threshold", "0", "--format", "messages", "--template", "mine.j2"]
    [ran] = audited([export], folder)
    assert (ran.status, "not read" in ran.said) == (0, False)
    assert '"mine"' in (folder / "sft" / "train.jsonl").read_text()


def kept(path: Path, embedder: str) -> None:
    """A kept database of one memory whose meta row names an embedder."""
    store = open_store(f"milvus://{path}", 2, embedder=embedder)
    state = Memory({}, 2, "").kept_state(embedder)
    store.write([Write("k", [1], ["the bridge is red"], np.array([[1.0, 0.0]], np.float32), state=state)])
    store.close()


def test_finding_1_2_every_command_leaves_alone_what_a_strange_database_names(folder: Path, chat: OpenAIServer) -> None:
    names = {"url.db": chat.url, "folder.db": str(folder / "model"), "relative.db": "model"}
    commands: list[Sequence[object]] = []
    for name, embedder in names.items():
        kept(folder / name, embedder)
        commands += [
            ["memory", "ls", name],
            ["memory", "show", name],
            ["memory", "search", name, "bridge"],
            ["ask", "-q", "Which bridge?", "--memory", name],
        ]
    ran = audited(commands, folder, OPENAI_API_KEY=KEY)
    for command, one in zip(commands, ran, strict=True):
        untouched(one, folder, chat)
        refused = command[1] == "search" or command[0] == "ask"
        assert one.status == (2 if refused else 0), one
        if refused:
            option = "--set embedder=" if command[0] == "ask" else "--embedder "
            assert f"say it again with {option}" in one.said
    assert not chat.requests


def test_finding_1_2_a_database_s_url_that_is_said_again_is_called_with_the_key(
    folder: Path, chat: OpenAIServer
) -> None:
    kept(folder / "url.db", "endpoint:m")
    [ran] = audited(
        [["memory", "search", "url.db", "bridge", "--embedder", f"{chat.url}#m"]], folder, OPENAI_API_KEY=KEY
    )
    assert (ran.status, "the bridge is red" in ran.said) == (0, True)
    assert keys(chat) == {f"Bearer {KEY}"}


PLAN = {"envs": ["Synthetic"], "agents": ["keep_all"], "docs": [8], "episodes": 1, "settings": {"store": "numpy"}}


def test_finding_1_1_and_1_2b_a_strange_plan_runs_no_code_and_opens_no_template(
    folder: Path, chat: OpenAIServer
) -> None:
    model = {"model": {"url": chat.url}}
    changes: dict[str, dict[str, Any]] = {
        "template": {"settings": {"store": "numpy", "template": "evil.j2"}, "agents": ["crud"], **model},
        "absolute": {"settings": {"template": str(folder / "secret.txt")}, "agents": ["crud"], **model},
        "env": {"envs": [{"id": "Synthetic", "settings": {"template": "evil.j2"}}], "agents": ["crud"], **model},
        "agent": {"agents": [{"name": "crud", "options": {"template": "evil.j2"}}], **model},
        "reward": {"settings": {"store": "numpy", "reward": f"{MARKER}:score"}},
        "system": {"settings": {"store": "numpy", "reward": "os:system"}},
    }
    commands: list[Sequence[object]] = []
    for name, change in changes.items():
        text = yaml.safe_dump({**PLAN, **change})
        (folder / f"{name}.yaml").write_text(text)
        commands.append(["eval", "--config", f"{name}.yaml", "-o", f"runs-{name}"])
        # A run folder as somebody may send it: a plan, and results of an episode of it.
        run = folder / f"sent-{name}"
        run.mkdir()
        (run / "plan.yaml").write_text(text)
        (run / "results.jsonl").write_text("")
        commands += [["eval", "--resume", "-o", run.name], ["eval", "--report-only", "-o", run.name]]
    ran = audited(commands, folder, OPENAI_API_KEY=KEY)
    for command, one in zip(commands, ran, strict=True):
        untouched(one, folder, chat)
        if "--report-only" not in command:
            assert one.status == 2, one
            is_reward = any(name in str(command) for name in ("reward", "system"))
            assert ("add --import " if is_reward else "add --trust ") in one.said, one
    assert not chat.requests


def test_finding_1_2b_what_a_plan_names_and_the_command_line_too_is_used(folder: Path, chat: OpenAIServer) -> None:
    (folder / "mine.j2").write_text("{% if part == 'system' %}mine{% else %}{{ question }}{% endif %}")
    settings = {"store": "numpy", "reward": f"{MARKER}:score", "template": "mine.j2"}
    plan = {**PLAN, "settings": settings, "agents": ["crud"], "model": {"url": chat.url}}
    (folder / "plan.yaml").write_text(yaml.safe_dump(plan))
    said = ["--import", MARKER, "--trust", "mine.j2"]
    [ran] = audited([["eval", "--config", "plan.yaml", "-o", "runs", *said]], folder, OPENAI_API_KEY=KEY)
    assert ran.status == 0, ran
    asked = chat.asked("/v1/chat/completions")
    assert asked[0].body["messages"][0]["content"] == "mine"
    rows = [json.loads(line) for line in (folder / "runs" / "results.jsonl").read_text().splitlines()]
    assert [row["reward"] for row in rows] == [1.0]


def test_finding_1_2_a_plan_s_url_is_called_without_the_key_until_it_is_said_again(
    folder: Path, chat: OpenAIServer
) -> None:
    settings = {"store": "numpy", "embedder": f"{chat.url}#m"}
    plan = {**PLAN, "settings": settings, "agents": ["crud"], "model": {"url": chat.url}}
    (folder / "plan.yaml").write_text(yaml.safe_dump(plan))
    for number, (again, key) in enumerate((([], None), (["--trust", chat.url], f"Bearer {KEY}"))):
        chat.requests.clear()
        [ran] = audited([["eval", "--config", "plan.yaml", "-o", f"r{number}", *again]], folder, OPENAI_API_KEY=KEY)
        assert ran.status == 0, ran
        assert {request.path for request in chat.requests} >= {"/v1/embeddings", "/v1/chat/completions"}
        assert keys(chat) == {key}
        assert (f"OPENAI_API_KEY is not sent to {chat.url}" in ran.said) == (key is None)
    (folder / "r1" / "results.jsonl").write_text("")
    (folder / "r1" / "traces.jsonl").unlink()
    chat.requests.clear()
    audited([["eval", "--resume", "-o", "r1", "--model", chat.url]], folder, OPENAI_API_KEY=KEY)
    # The model's URL is said again, the embedder's is the same server.
    assert keys(chat) == {f"Bearer {KEY}"}
    (folder / "r1" / "results.jsonl").write_text("")
    (folder / "r1" / "traces.jsonl").unlink()
    chat.requests.clear()
    audited([["eval", "--resume", "--episodes", "1", "-o", "r1"]], folder, OPENAI_API_KEY=KEY)
    assert chat.asked("/v1/chat/completions")
    assert keys(chat) == {None}


def test_finding_1_2_urls_that_the_user_types_get_the_key_as_before(folder: Path, chat: OpenAIServer) -> None:
    (folder / "notes.txt").write_text("The bridge is red.")
    ask = ["ask", "notes.txt", "-q", "Which bridge?", "--model", chat.url, "--set", f"embedder={chat.url}#m"]
    evaluated = ["eval", "Synthetic", "--docs", "8", "--episodes", "1", "--agent", "crud", f"--model={chat.url}/"]
    run = [
        "run",
        "Synthetic",
        "--episodes",
        "1",
        "--agent",
        "keep_all",
        "--set",
        "num_docs=8",
        f"embedder={chat.url}#m",
    ]
    judged = [*run, "reward=judge"]
    mine = ["run", "Synthetic", "--episodes", "1", "--agent", "silent", "--set", "num_docs=8", f"reward={MARKER}:score"]
    for commands in ([ask, run, judged], [evaluated]):
        chat.requests.clear()
        judge = {"ATOMMEM_JUDGE_URL": chat.url, "ATOMMEM_JUDGE_MODEL": "m"}
        ran = audited(commands, folder, OPENAI_API_KEY=KEY, **judge)
        assert chat.requests
        assert keys(chat) == {f"Bearer {KEY}"}, ran
    [typed] = audited([mine], folder, PYTHONPATH=str(folder))
    assert typed.status == 0, typed


def test_a_key_is_for_the_url_that_was_said_and_for_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("MILVUS_TOKEN", KEY)
    assert secret("OPENAI_API_KEY", "http://any/v1") == KEY
    with command_line(["--model", "https://good.example/v1", "--grid", "embedder=http://a/v1,http://b/v1", "x=1"]):
        for url in ("https://good.example/v1/", "https://GOOD.example/v1#m", "http://a/v1", "http://b/v1"):
            assert secret("OPENAI_API_KEY", url) == KEY
        for url in (
            "http://good.example/v1",
            "https://good.example:444/v1",
            "https://good.example@evil.example/v1",
            "https://evil.example/v1#https://good.example/v1",
            "https://evil.example/?https://good.example/v1",
            "https://good.example.evil.example/v1",
        ):
            assert secret("OPENAI_API_KEY", url) is None
            assert secret("MILVUS_TOKEN", url) is None
    assert secret("OPENAI_API_KEY", "http://any/v1") == KEY


@pytest.mark.parametrize(
    ("keywords", "variable"),
    [
        ({"store": "http://u:hunter2@host:19530"}, "MILVUS_TOKEN"),
        ({"embedder": "https://u:hunter2@host/v1#m"}, "OPENAI_API_KEY"),
        ({"embedder_options": {"api_key": "hunter2"}}, "OPENAI_API_KEY"),
        ({"reader": "http://:hunter2@host/v1"}, "OPENAI_API_KEY"),
        ({"options": [{"urls": ("http://u:hunter2@host",)}]}, "OPENAI_API_KEY"),
        ({"password": "hunter2"}, "OPENAI_API_KEY"),
    ],
)
def test_references_to_episodes_are_not_written_with_a_password_or_key(keywords: dict[str, Any], variable: str) -> None:
    items = load_items("Synthetic", configure("Synthetic", {"num_docs": 12}))
    with pytest.raises(ConfigError, match=f"{next(iter(keywords))} holds a password or key.*{variable}") as error:
        next(references("AtomMem-Synthetic-v0", keywords, items, [0]))
    assert "hunter2" not in str(error.value)


def test_references_to_episodes_are_written_with_all_other_keywords() -> None:
    items = load_items("Synthetic", configure("Synthetic", {"num_docs": 12}))
    keywords = {
        "operations": ("create", "read"),
        "embedder": "http://host:8000/v1#a@b",
        "embedder_options": {"api_key_env": "OPENAI_API_KEY"},
        "max_entry_tokens": 8,
        "difficulty": float("nan"),
    }
    reference, _ = next(references("AtomMem-Synthetic-v0", keywords, items, [0]))
    assert reference.env_keywords == keywords


def test_data_for_verl_is_not_written_with_a_password(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder / "rows"
    arguments = ["Synthetic", "-o", str(out), "--train", "2", "--validation", "2"]
    assert main(["data", "verl", *arguments, "--set", "num_docs=12", "embedder=http://u:hunter2@host/v1#m"]) == 2
    told = capsys.readouterr()
    assert "OPENAI_API_KEY" in told.err
    assert "hunter2" not in told.out + told.err
    assert list(out.iterdir()) == []


def test_a_module_is_said_by_its_name_and_by_nothing_else() -> None:
    with command_line(["-q", "os: what is it?", "http://localhost", "--set", "reward=mine.scores:f1"], ["imported"]):
        for module in ("mine.scores", "imported"):
            check_import(module, "it")
        for module in ("os", "http", "mine", "imported.other", "reward"):
            with pytest.raises(ConfigError, match=f"add --import {module}"):
                check_import(module, "it")
        with pytest.raises(ConfigError, match="add --import os"):
            load_scorer("os:system")
    check_import("os", "a program's own code")


def test_a_template_is_said_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with command_line(["--trust", "prompts/mine.j2"]):
        check_template(str(tmp_path / "prompts" / "mine.j2"), "the plan")
        assert is_said("./prompts/mine.j2")
        with pytest.raises(ConfigError, match=r"the plan names the prompt template 'other\.j2'.*--trust other\.j2"):
            check_template("other.j2", "the plan")
        check_template("shared_prefix", "the plan")  # one of ours, by its name: there is nothing to read
        with pytest.raises(ConfigError, match="shared_prefix"):
            check_template("./shared_prefix", "the plan")
    assert unsaid({"template": "shared_prefix"}) == []
    assert unsaid({"template": ["shared_prefix"]}) == [("template", ["shared_prefix"])]
    check_template("other.j2", "a program's own plan")
    plan = Plan.from_values(
        {
            "envs": [{"id": "Synthetic", "settings": {"template": "b"}}],
            "agents": ["tidy"],
            "settings": {"template": "a"},
        }
    )
    assert plan.templates() == [("the plan", "a"), ("the plan for Synthetic", "b")]


@pytest.mark.parametrize(
    "name", ["http://h/v1", "https://h", "HTTP://h", "//host/share", "\\\\host\\x", "/m", "./m", ".", ""]
)
def test_urls_and_paths_reach_out(name: str) -> None:
    assert reaches_out(name)


def test_in_python_a_record_s_url_is_not_called_either(honest: EpisodeTrace, chat: OpenAIServer) -> None:
    hostile = with_keywords(honest, embedder=chat.url)
    with Replayer() as replayer, pytest.raises(TraceError, match=r"names embedder='http.*overrides=\{'embedder'"):
        replayer.check(hostile)
    assert not chat.requests
    with Replayer({"embedder": "hashing"}) as replayer:
        assert replayer.check(hostile) is None


def test_a_recorded_source_is_followed_to_records_only(honest: EpisodeTrace, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.jsonl")
    for source in ("/dev/zero", str(tmp_path / "fifo.jsonl"), str(tmp_path / "gone.jsonl"), "//host/share"):
        with Replayer() as replayer, pytest.raises(TraceError, match="--set source="):
            replayer.check(with_keywords(honest, source=source))


def test_finding_1_1_in_python_an_export_does_not_read_a_record_s_template(honest: EpisodeTrace) -> None:
    assert honest.env.id == SYNTHETIC
    tally = Tally()
    selection = Selection(threshold=0)
    found = list(examples(with_keywords(honest, template="/etc/hostname"), selection, tally))
    assert found == list(examples(honest, selection, Tally()))
    assert tally.own_prompt == {"/etc/hostname"}


def test_finding_5_8_an_export_renders_with_a_record_s_template_if_it_is_ours_by_name(honest: EpisodeTrace) -> None:
    tally = Tally()
    found = list(examples(with_keywords(honest, template="shared_prefix"), Selection(threshold=0), tally))
    own = list(examples(honest, Selection(threshold=0), Tally()))
    assert not tally.own_prompt
    assert len(found) == len(own)
    for shared, ours in zip(found, own, strict=True):
        texts = [one.messages[1]["content"].splitlines() for one in (shared, ours)]
        assert texts[0] != texts[1]
        assert sorted(filter(None, texts[0])) == sorted(filter(None, texts[1]))


def test_finding_1_2_a_name_on_a_hub_is_followed_only_if_it_is_said_again(
    honest: EpisodeTrace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for keyword in ("embedder", "tokenizer"):
        named = with_keywords(honest, **{keyword: "somebody/some-model"})
        with Replayer() as replayer, pytest.raises(TraceError, match=f"say it again with --set {keyword}=somebody/"):
            replayer.check(named)
    hub = replace(honest, env=replace(honest.env, id="AtomMem-HotpotQA-v0"))
    for source in ({"source": "hub"}, {}):
        kept = {name: value for name, value in honest.env.keywords.items() if name != "source"}
        named = replace(hub, env=replace(hub.env, keywords={**kept, **source}))
        with Replayer() as replayer, pytest.raises(TraceError, match="--set source=hub"):
            replayer.check(named)
    assert embedder_keyword("somebody/some-model") is None
    with command_line(["--embedder", "somebody/some-model"]):
        assert embedder_keyword("somebody/some-model") == "somebody/some-model"


@pytest.mark.parametrize(
    "change",
    [
        {"settings": {"embedder": "model"}},
        {"settings": {"embedder": "somebody/some-model"}},
        {"settings": {"tokenizer": "model"}},
        {"settings": {"tokenizer": "tiktoken:cl100k_base"}},
        {"settings": {"store": "milvus:///home/me/notes.db"}},
        {"envs": [{"id": "Synthetic", "settings": {"store": "milvus://notes.db"}}]},
        {"envs": [{"id": "Needle", "settings": {"haystack": "text", "text": "secret.txt"}}]},
        {"agents": ["crud"], "model": {"name": "somebody/some-model"}},
        {"agents": [{"name": "crud", "model": {"name": "model"}}]},
    ],
)
def test_finding_1_2b_a_plan_opens_no_folder_file_or_hub_model_that_only_it_names(
    change: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plan = Plan.from_values({**PLAN, **change})
    named = str(
        next(value for _, keywords in plan.places() for value in keywords.values() if value not in ("text", "numpy"))
    )
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump({**PLAN, **change}))

    def planned(*said: str) -> Plan:
        with command_line(["eval", "--config", "plan.yaml", *said]):
            return Eval(config=Path("plan.yaml"), out=Path("runs")).plan()

    with pytest.raises(ConfigError, match=f"add --trust {named}"):
        planned()
    assert planned("--trust", named) == plan
    for where, keywords in plan.places():
        check_plan(keywords, where)  # a program's own plan


@pytest.mark.parametrize(
    "keywords",
    [
        *({"embedder": value} for value in ("http://h/v1", "/models/m", "somebody/some-model")),
        *({"tokenizer": value} for value in ("/models/m", "Qwen/Qwen3-8B")),
        *({"template": "/etc/hostname"}, {"text": "/etc/passwd"}),
        *({"store": value} for value in ("http://h:19530", "milvus:///home/me/notes.db")),
    ],
)
def test_finding_1_2b_a_row_for_verl_names_nothing_that_is_used_unless_the_user_names_it(
    keywords: dict[str, Any],
) -> None:
    reference = ItemReference("AtomMem-Synthetic-v0", {"num_docs": 20, **keywords}, 0, "synthetic/0", "")
    [(name, value)] = keywords.items()
    with pytest.raises(ConfigError, match=f"the row of 'synthetic/0' names {name}=.*agent loop"):
        reference.check_keywords({"template": None, "top_k": 3})
    reference.check_keywords({name: "hashing"})
    reference.check_keywords({name: value})
    ItemReference("AtomMem-Synthetic-v0", {"num_docs": 20, "embedder": "minilm"}, 0, "synthetic/0", "").check_keywords(
        {}
    )


def test_a_row_gives_no_settings_of_a_reader_that_the_user_named() -> None:
    options = {"model": "m", "api_key_env": "AWS_SECRET_ACCESS_KEY", "extra_body": {"a": 1}}
    keywords = {"reader": "http://x/v1", "reader_options": options}
    reference = ItemReference("AtomMem-Synthetic-v0", keywords, 0, "synthetic/0", "")
    with pytest.raises(ConfigError, match=r"names reader_options=.*env_keywords\.reader_options"):
        reference.check_keywords({"reader": "http://mine:1/v1"})
    reference.check_keywords({"reader": "http://mine:1/v1", "reader_options": {"model": "m"}})


def test_a_row_sets_no_parameter_of_the_pool() -> None:
    own = set(inspect.signature(AtomMemPool.__init__).parameters) - {"self", "keywords"}
    assert own == POOL_PARAMETERS
    for name in own:
        reference = ItemReference("AtomMem-Synthetic-v0", {name: 1}, 0, "synthetic/0", "")
        with pytest.raises(ConfigError, match=f"names {name}=1, which is not a keyword argument"):
            reference.check_keywords({name: 1})


def test_finding_1_2b_a_link_in_a_strange_folder_leads_nowhere(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text(SECRET)
    notes = tmp_path / "notes"
    (notes / "inner").mkdir(parents=True)
    (notes / "inner" / "mine.txt").write_text("The bridge is red.")
    (notes / "stolen.txt").symlink_to(secret)
    (notes / "again.txt").symlink_to(notes / "inner" / "mine.txt")
    (notes / "all").symlink_to(tmp_path)
    files = read_files([notes])
    assert [document.text for document in files.documents] == ["The bridge is red."]
    assert any("stolen.txt is a link that leads out of" in note for note in files.notes)

    kept(tmp_path / "notes.db", "hashing-v1-1024")
    (tmp_path / "notes.db" / "link").symlink_to(secret)
    with pytest.raises(StoreError, match="holds the link 'link'"), open_kept(str(tmp_path / "notes.db")):
        pass
    with pytest.raises(StoreError, match="holds the link 'link'"):
        open_store(f"milvus://{tmp_path / 'notes.db'}", 2, embedder="hashing-v1-1024")

    for name in ("results.jsonl", "report.md", "plots/em.png", "traces.jsonl"):
        run = tmp_path / name.replace("/", "-")
        (run / name).parent.mkdir(parents=True)
        (run / "plan.yaml").write_text(yaml.safe_dump(PLAN))
        (run / name).symlink_to(secret)
        for use in (read_run, lambda path: RunWriter(path, Plan.from_values(PLAN), resume=True)):
            with pytest.raises(EvaluationError, match="is a link"):
                use(run)
    assert secret.read_text() == SECRET
