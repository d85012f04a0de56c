"""`atommem ask`: own documents are read, questions answered by quotes or by a model, and the memory goes on (M13)."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from support.openai_server import OpenAIServer, Reply, Request, server  # noqa: F401
from support.tiny_model import tiny_model  # noqa: F401

from atommem_gym.agents.scripted.quoting import QUOTING, QuotingReader
from atommem_gym.cli import FAILED, main
from atommem_gym.commands.ask import memory as ask_memory
from atommem_gym.commands.ask.display import Display, Growth
from atommem_gym.embedders.hashing_embedder import HashingEmbedder
from atommem_gym.terminal import SafeConsole
from atommem_gym.traces import EpisodeTrace, TraceError, TraceWriter, read_traces

Capture = pytest.CaptureFixture[str]

DIARY = """# Monday
The harbour bridge was opened in 1931 by Mayor Ilse Brandt. It rained all day.

# Tuesday
The ferry Aurora sank near Porthaven. Captain Ole Lind was saved by a fisherman named Piet Maas.
"""
MINUTES = "Minutes of the council.\n\nPiet Maas received a medal in the town hall of Porthaven.\n"


@pytest.fixture
def diary(tmp_path: Path) -> str:
    (tmp_path / "diary.md").write_text(DIARY)
    return str(tmp_path / "diary.md")


@pytest.fixture
def minutes(tmp_path: Path) -> str:
    (tmp_path / "minutes.txt").write_text(MINUTES)
    return str(tmp_path / "minutes.txt")


def ask(*arguments: str) -> int:
    return main(["ask", *arguments])


def said(capsys: Capture) -> tuple[str, str]:
    captured = capsys.readouterr()
    return captured.out, " ".join(captured.err.split())


@pytest.mark.parametrize("agent", QUOTING)
def test_without_a_model_the_best_sentence_is_quoted_with_its_place(diary: str, capsys: Capture, agent: str) -> None:
    assert ask(diary, "-q", "Who saved Captain Ole Lind?", "--agent", agent) == 0
    out, err = said(capsys)
    assert "“Captain Ole Lind was saved by a fisherman named Piet Maas.” (diary.md, lines 4-5)" in out
    assert f"answered by {agent}, which quotes the sentences that share most words" in out
    assert "no language model" in out
    assert "1 file, 2 passages, 1 chunk" in err
    assert "step 1 · chunk 1 of 1" in err


def test_several_questions_are_answered_in_their_order(diary: str, minutes: str, capsys: Capture) -> None:
    assert ask(diary, minutes, "-q", "Who opened the harbour bridge?", "-q", "Where did Maas receive a medal?") == 0
    out, _ = said(capsys)
    assert re.search(r"bridge\?\n“The harbour bridge.*?medal\?\n“Piet Maas received a medal", out, re.DOTALL)


def test_nothing_in_common_is_unknown(diary: str, capsys: Capture) -> None:
    assert ask(diary, "-q", "xyzzy?") == 0
    assert "\nunknown\n" in said(capsys)[0]


def test_m13_memory_is_kept_and_gone_on_with(diary: str, minutes: str, tmp_path: Path, capsys: Capture) -> None:
    notes = str(tmp_path / "notes.db")
    assert ask(diary, "-q", "Who saved Captain Ole Lind?", "--memory", notes) == 0
    first, _ = said(capsys)
    key = re.search(r"under key (\w+)", first)
    assert key
    # The next day: no files, straight to answering.
    assert ask("-q", "Who opened the harbour bridge?", "--memory", notes, "--trace", str(tmp_path / "t.jsonl")) == 0
    second, err = said(capsys)
    assert "opened in 1931 by Mayor Ilse Brandt" in second
    assert key.group(1) in second
    assert "chunk" not in err
    # Further files go into the same memory.
    assert ask(minutes, "-q", "What did Piet Maas receive, and who saved whom?", "--memory", notes) == 0
    third, _ = said(capsys)
    assert "3 entries are kept" in third
    assert "(diary.md" in third
    assert "(minutes.txt" in third
    trace = next(read_traces(tmp_path / "t.jsonl"))
    assert trace.steps[0].observation["phase"] == 1
    assert [entry.id for entry in trace.initial_memory.entries] == [1, 2]


def test_a_record_that_cannot_be_written_is_known_before_anything_is_read(
    diary: str, tmp_path: Path, capsys: Capture
) -> None:
    assert ask(diary, "-q", "Who saved Captain Ole Lind?", "--trace", str(tmp_path / "no" / "t.jsonl")) == 2
    _, err = said(capsys)
    assert "cannot be written" in err
    assert "step 1" not in err


def test_an_answer_is_printed_even_if_its_record_cannot_be_written(
    diary: str, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: TraceWriter, trace: EpisodeTrace) -> None:
        raise TraceError("the disk is full")

    monkeypatch.setattr(TraceWriter, "write", full)
    assert ask(diary, "-q", "Who saved Captain Ole Lind?", "--trace", str(tmp_path / "t.jsonl")) == 2
    out, err = said(capsys)
    assert "saved by a fisherman" in out
    assert "recorded in" not in out
    assert "the disk is full" in err


def test_of_several_memories_one_must_be_named(diary: str, tmp_path: Path, capsys: Capture) -> None:
    notes = str(tmp_path / "notes.db")
    for new in ((), ("--new-memory",)):
        assert ask(diary, "-q", "Who?", "--memory", notes, *new) == 0
    keys = re.findall(r"under key (\w+)", said(capsys)[0])
    assert len(set(keys)) == 2
    assert ask("-q", "Who?", "--memory", notes) == FAILED
    _, err = said(capsys)
    assert "keeps 2 memories; name one with --key" in err
    assert keys[0] in err
    assert ask("-q", "Who?", "--memory", notes, "--key", keys[0][:8]) == 0
    assert keys[0] in said(capsys)[0]


def test_another_embedder_is_refused_before_anything_is_read(
    diary: str, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = str(tmp_path / "notes.db")
    assert ask(diary, "-q", "Who?", "--memory", notes, "--set", "embedder=hashing") == 0
    said(capsys)
    monkeypatch.setattr(ask_memory, "load_embedder", lambda name, options: HashingEmbedder(512))
    assert ask(diary, "-q", "Who?", "--memory", notes, "--set", "embedder=other") == FAILED
    _, err = said(capsys)
    assert "was written with embedder 'hashing-v1-1024', but embedder=other is 'hashing-v1-512'" in err
    assert "chunk" not in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "no question given"),
        (("-q", "Who?"), "nothing to answer from"),
        (("gone.txt", "-q", "Who?"), "there is no file or folder 'gone.txt'"),
        (("-q", "Who?", "--key", "abc"), "--key and --new-memory go with --memory"),
        (("-q", "Who?", "--memory", "new.db", "--key", "abc"), "no database new.db yet"),
        (("-q", "Who?", "--memory", "new.db"), "nothing to answer from"),
        (("-q", "Who?", "--agent", "crud"), "'crud' needs a language model"),
        (("-q", "Who?", "--agent", "oracle"), "'oracle' cannot answer where no gold answer is known"),
        (("-q", "Who?", "--agent", "keep_al"), "did you mean 'keep_all'?"),
        (("-q", "Who?", "--agent", "keep_all", "--model", "http://localhost:1/v1"), "uses no language model"),
        (("-q", "Who?", "--option", "temperature=1"), "has no options"),
        (("-q", "Who?", "--set", "num_docs=3"), "--set num_docs=… means nothing here"),
        (("-q", "Who?", "--set", "store=numpy"), "use --memory"),
    ],
)
def test_wrong_command_lines_say_what_is_wrong(
    arguments: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert ask(*arguments) == FAILED
    assert message in said(capsys)[1]
    assert not list(tmp_path.iterdir())


def playing_model(request: Request, number: int) -> Reply:
    """A model that stores the ferry's sentence, looks for it, and answers with what it finds."""
    if request.method == "GET":
        return Reply({"data": [{"id": "tester"}]})
    prompt = request.body["messages"][-1]["content"]
    if "Document 1:" in prompt:
        text = "<think>worth keeping</think><create>Piet Maas saved Ole Lind</create>"
    elif "Piet Maas saved" not in prompt:
        text = "<read>who saved Lind</read>"
    else:
        text = "<answer>Piet Maas</answer>"
    usage = {"prompt_tokens": 10, "completion_tokens": 5}
    return Reply({"choices": [{"message": {"content": text}, "finish_reason": "stop"}], "usage": usage})


def test_a_language_model_reads_remembers_and_answers(
    diary: str,
    tmp_path: Path,
    capsys: Capture,
    server: OpenAIServer,  # noqa: F811
) -> None:
    server.answer = playing_model
    trace_file, notes = tmp_path / "t.jsonl", tmp_path / "notes.db"
    arguments = ("-q", "Who saved Captain Lind?", "--model", server.url, "--memory", str(notes))
    assert ask(diary, *arguments, "--trace", str(trace_file), "--option", "max_tokens=64") == 0
    out, err = said(capsys)
    assert "Piet Maas" in out.splitlines()
    assert "answered by crud with tester" in out
    assert re.search(r"found with “who saved Lind”:\n  \[1\] \+\d\.\d\d Piet Maas saved Ole Lind", out)
    assert "1 created" in err
    assert "searched" in err
    trace = next(read_traces(trace_file))
    assert trace.env.id == "AtomMem-Custom"
    assert trace.agent.name == "crud"
    assert [step.memory.created[0].text for step in trace.steps if step.memory.created] == ["Piet Maas saved Ole Lind"]
    assert trace.steps[-1].response == "<answer>Piet Maas</answer>"
    # The next day the model begins with the question, not with an empty chunk.
    before = len(server.asked("/v1/chat/completions"))
    assert ask(*arguments) == 0
    prompts = [request.body["messages"][-1]["content"] for request in server.asked("/v1/chat/completions")[before:]]
    assert len(prompts) == 2
    assert all("Who saved Captain Lind?" in prompt for prompt in prompts)


def test_A8_ask_ignores_reasoning_between_named_delimiters(
    diary: str,
    capsys: Capture,
    server: OpenAIServer,  # noqa: F811
) -> None:
    def answer(request: Request, number: int) -> Reply:
        if request.path.endswith("/models"):
            return Reply({"data": [{"id": "m"}]})
        text = "Thoughts: <answer>Nobody</answer>? Reply: <answer>Piet Maas</answer>"
        return Reply({"choices": [{"message": {"content": text}, "finish_reason": "stop"}]})

    server.answer = answer
    thinking = 'thinking=["Thoughts:","Reply:"]'
    assert ask(diary, "-q", "Who saved Captain Lind?", "--model", server.url, "--set", thinking) == 0
    printed = capsys.readouterr().out
    assert "Piet Maas" in printed
    assert "Nobody" not in printed


def test_a_model_that_fails_leaves_what_was_remembered(
    diary: str,
    tmp_path: Path,
    capsys: Capture,
    server: OpenAIServer,  # noqa: F811
) -> None:
    def failing(request: Request, number: int) -> Reply:
        if request.method == "POST" and "Document 1:" not in request.body["messages"][-1]["content"]:
            return Reply({"error": {"message": "no such luck"}}, 400)
        return playing_model(request, number)

    server.answer = failing
    notes = str(tmp_path / "notes.db")
    assert ask(diary, "-q", "Who saved Captain Lind?", "--model", server.url, "--memory", notes) == FAILED
    _, err = said(capsys)
    assert "what was remembered so far is kept" in err
    assert "no such luck" in err
    assert main(["memory", "show", notes, "--json"]) == 0
    shown = json.loads(said(capsys)[0])
    assert shown["entries"] == [{"id": 1, "text": "Piet Maas saved Ole Lind"}]


@pytest.mark.slow
def test_a_local_model_reads_and_answers_whatever_it_writes(
    diary: str,
    tmp_path: Path,
    capsys: Capture,
    tiny_model: Path,  # noqa: F811
) -> None:
    trace_file = tmp_path / "t.jsonl"
    arguments = ("--model", str(tiny_model), "--option", "max_tokens=8", "--trace", str(trace_file))
    assert ask(diary, "-q", "Who?", *arguments) == 0
    assert f"answered by crud with {tiny_model}" in said(capsys)[0]
    trace = next(read_traces(trace_file))
    assert trace.steps[0].completions[0].completion_tokens == 8


@pytest.mark.parametrize("agent", ["overwrite_llm", "long_context"])
def test_agents_without_a_store_have_nothing_to_keep(diary: str, capsys: Capture, agent: str) -> None:
    assert ask(diary, "-q", "Who?", "--model", "http://localhost:1/v1", "--agent", agent, "--memory", "n.db") == FAILED
    assert "stores nothing" in said(capsys)[1]


def test_the_reader_quotes_rare_words_first_and_knows_sources_in_the_scratchpad() -> None:
    observation: dict[str, Any] = {
        "question": "Where is the bridge of Porthaven?",
        "memories": [{"id": 1, "text": "a.txt, line 1\nThe bridge is red. The bridge is old. The bridge is long."}],
        "scratchpad": "b.pdf, page 3\n# Porthaven\nPorthaven lies\nby the sea.\nc.md, lines 1-2\nNothing.",
    }
    assert QuotingReader().answer(observation).splitlines() == [
        "“Porthaven lies by the sea.” (b.pdf, page 3)",
        "“The bridge is red.” (a.txt, line 1)",
        "“The bridge is old.” (a.txt, line 1)",
    ]


def test_growth_tells_what_changed() -> None:
    growth = Growth({1: "a", 2: "b"})
    assert growth.follow({2: "B", 3: "c"}) == {"created": 1, "updated": 1, "deleted": 1}
    assert list(growth.recent) == [("deleted", 1, "a"), ("updated", 2, "B"), ("created", 3, "c")]


def test_a_terminal_gets_a_picture_that_no_text_can_steer() -> None:
    import gymnasium as gym

    env = gym.make("AtomMem-Synthetic-v0", num_docs=20, store="numpy", chunk_tokens=400).unwrapped
    console = SafeConsole(force_terminal=True, width=80, record=True)
    display = Display(console, lambda: env.episode)
    observation, info = env.reset(seed=1)
    display.on_step(None, observation, info)
    observation, _, _, _, info = env.step("<create>red \x1b[31m alert\n[bold]x</create><scratchpad>pad</scratchpad>")
    from atommem_gym.agents.players.player import Turn

    display.on_step(Turn(""), observation, info)
    with console.capture() as capture:
        console.print(display._picture())
    picture = capture.get()
    plain = re.sub(r"\x1b\[[0-9;]*m", "", picture)
    assert "chunk 2 of" in plain
    assert observation["question"][:40] in plain
    assert "+ [1] red �[31m alert [bold]x" in plain
    assert "scratchpad: pad" in plain
    env.close()


def test_the_same_file_again_is_not_stored_twice_and_a_note_says_so(
    diary: str, tmp_path: Path, capsys: Capture
) -> None:
    memory = ("--memory", str(tmp_path / "notes.db"))
    assert ask(diary, "-q", "Who saved Captain Ole Lind?", *memory) == 0
    said(capsys)
    assert ask(diary, "-q", "Who saved Captain Ole Lind?", *memory) == 0
    out, err = said(capsys)
    assert "Piet Maas" in out
    assert "2 entries are kept" in out
    assert "note: diary.md is kept in" in err
    assert "leave the file out" in err
    Path(diary).write_text(DIARY + "\n# Wednesday\nThe mayor thanked the fisherman.\n")
    assert ask(diary, "-q", "Who thanked the fisherman?", *memory) == 0
    out, _ = said(capsys)
    assert "3 entries are kept" in out, "what is new is read"


def test_a_record_of_ask_says_why_it_cannot_be_replayed(diary: str, tmp_path: Path, capsys: Capture) -> None:
    assert ask(diary, "-q", "Who?", "--trace", str(tmp_path / "asked.jsonl")) == 0
    said(capsys)
    assert main(["replay", str(tmp_path / "asked.jsonl")]) == FAILED
    assert "cannot be played again: its items are those of the program that made it" in said(capsys)[1]
