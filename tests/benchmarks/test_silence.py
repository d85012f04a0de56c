"""The benchmark of silent demonstrations: which rows an arm trains on, what is counted, and its page."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.fixed_items import fixed_env
from support.tiny_model import NEEDS_TORCH, save_tiny_model

pytest.importorskip("tyro")
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import silence
from silence import Options, Played, counted, given, of_arm, page

from atommem_gym.records.record import Document, Evidence, Record
from atommem_gym.traces import TraceRecorder, write_traces


def row(said: str, asked: str = "What has Ada?") -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]}


ROWS = [row("Nothing to store."), row("<create>Ada lamp.</create>"), row("<read>x</read>"), row("Nothing to store.")]


def test_finding_4_8_an_arm_without_silence_trains_on_rows_with_operations_only() -> None:
    assert of_arm(ROWS, "with") == ROWS
    assert of_arm(ROWS, "without") == ROWS[1:3]


def test_creates_are_counted_by_what_a_chunk_holds(tmp_path: Path) -> None:
    documents = (Document("Ada", "lamp."), Document("Ben", "kite."))
    evidence = (Evidence("Ada", "lamp.", "lamp"),)
    question = Record("q", "What has Ada?", "lamp", documents, (0,), evidence, type="bridge")
    traces = []
    for first, second, answer in (("<create>Ada lamp .</create>", "", "lamp"), ("x", "<create>a</create>" * 2, "kite")):
        env = fixed_env((question,), documents, chunk_tokens=7)
        recorder = TraceRecorder("AtomMem-Custom", {"chunk_tokens": 7}, "hand")
        observation, info = env.reset(options={"index": 0})
        recorder.reset(env.episode, observation, info)
        for action in (first, second, f"<answer>{answer}</answer>"):
            recorder.step(action, *env.step(action))
        env.close()
        traces.append(recorder.finish())
    write_traces(tmp_path / "t.jsonl", traces)
    found = counted(tmp_path / "t.jsonl", "with", 3, 0.5)
    assert found == Played("with", 3, 0.5, 0.5, 1.0, creates_empty=1.0, creates_useful=0.5, stored=0.5)


def test_the_page_has_a_row_a_model_and_means() -> None:
    one = Played("with", 0, 0.1, em=0.5, answered=1.0, creates_empty=0.25, creates_useful=1.0, stored=0.75)
    played = [one, replace(one, seed=1, creates_empty=0.75), replace(one, arm="without", creates_empty=1.0)]
    about = {"date": "2026-11-29", "cpu": "CPU", "python": "3.11", "versions": "torch 2", "command": "python x"}
    text = page(played, {"with": 4, "without": 2}, about, Options(note="Others ran, too."))
    assert "| with silent steps | 0 | 0.25 | 1.00 | 0.75 | 1.00 | 0.50 |" in text
    assert "| **with silent steps** | mean | 0.50 | 1.00 | 0.75 | 1.00 | 0.50 |" in text
    assert "| without silent steps | 0 | 1.00 | 1.00 | 0.75 | 1.00 | 0.50 |" in text
    assert "**without silent steps**" not in text
    assert text.endswith("Others ran, too.\n")
    assert given(Options(seeds=(0, 1), items=8)) == " --seeds 0 1 --items 8"


def test_the_loss_is_of_the_assistants_tokens_and_falls(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason=NEEDS_TORCH)
    pytest.importorskip("transformers", reason=NEEDS_TORCH)
    from transformers import AutoTokenizer
    from workloads.sft import IGNORED, padded, tokens, train

    start = save_tiny_model(tmp_path / "start", context=256)
    tokenizer = AutoTokenizer.from_pretrained(start)
    ids, before = tokens(tokenizer, ROWS[0]["messages"])
    assert tokenizer.decode(ids[before:]) == f"Nothing to store.{tokenizer.eos_token}"
    assert tokenizer.decode(ids[:before]).endswith("assistant\n")
    batch, labels, mask = padded([(ids, before), (ids[: before + 1], before)], 0)
    assert batch.shape == labels.shape == mask.shape == (2, len(ids))
    assert labels[0].tolist() == [IGNORED] * before + ids[before:]
    assert labels[1].tolist() == [IGNORED] * before + ids[before : before + 1] + [IGNORED] * (len(ids) - before - 1)
    assert mask.sum(1).tolist() == [len(ids), before + 1]
    losses = [train(start, ROWS, tmp_path / str(n), steps=n, batch=4, seed=0) for n in (1, 30)]
    assert losses[1] < losses[0] - 1
    assert (tmp_path / "30" / "config.json").is_file()


def test_a_command_that_fails_says_what_it_said() -> None:
    with pytest.raises(RuntimeError, match=r"failed \(3\).*oh"):
        silence.run([sys.executable, "-c", "print('oh'); raise SystemExit(3)"])
