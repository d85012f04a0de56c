"""``atommem export``: what ``datasets`` of Hugging Face loads is what was written, without a network."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from support.conformance import PAGE, commands, require, run_command
from support.example_traces import example_traces

from atommem_gym.cli import main
from atommem_gym.traces.files import TraceWriter
from atommem_gym.traces.training.export import FORMATS

require("hub", "datasets")

import datasets  # noqa: E402


def test_the_page_exports_and_loads_chats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with TraceWriter(tmp_path / "traces.jsonl") as writer:
        for trace in example_traces(4):
            writer.write(trace)
    (line,) = commands("Chats of Hugging Face")[1:]
    assert run_command(line, "", tmp_path).returncode == 0
    monkeypatch.chdir(tmp_path)
    section = PAGE.read_text(encoding="utf-8").split("\n## Chats of Hugging Face\n")[1].split("\n## ")[0]
    (block,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    names: dict[str, Any] = {"__name__": "docs"}
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    exec(compile(block, str(PAGE), "exec"), names)
    assert names["chats"]["train"].num_rows > 0


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_is_loaded_with_one_chat_a_row(form: str, tmp_path: Path) -> None:
    path = tmp_path / "traces.jsonl"
    with TraceWriter(path) as writer:
        for trace in example_traces(4):
            writer.write(trace)
    assert main(["export", str(path), "-o", str(tmp_path / "chats"), "--format", form, "--dev", "0.3"]) == 0
    about = json.loads((tmp_path / "chats" / "export.json").read_text())
    kind, suffix = ("parquet", "parquet") if form == "verl" else ("json", "jsonl")
    files = {part: str(tmp_path / "chats" / f"{part}.{suffix}") for part in ("train", "dev")}
    loaded = datasets.load_dataset(kind, data_files=files, cache_dir=str(tmp_path / "cache"))
    assert {part: rows.num_rows for part, rows in loaded.items()} == {part: about[part] for part in ("train", "dev")}
    assert about["dev"] > 0
    for row in loaded["train"]:
        chat = row["prompt"] + row["completion"] if form == "trl" else row["messages"]
        assert [sorted(message) for message in chat] == [["content", "role"]] * 3
        assert [message["role"] for message in chat] == ["system", "user", "assistant"]
        assert all(message["content"] for message in chat)
