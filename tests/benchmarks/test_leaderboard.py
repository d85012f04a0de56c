"""The leaderboard benchmark on made-up records: resumable, honest about intervals, free of record text (issue 2)."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from rich.console import Console
from support.benchmarks import scripts

from atommem_gym.errors import ConfigError

Raw = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def board() -> Iterator[ModuleType]:
    """``benchmarks/leaderboard.py``, imported as it is when it is run."""
    with scripts.imported("leaderboard") as module:
        yield module


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hotpot_raw: Raw, twowiki_raw: Raw) -> Path:
    """A data folder with HotpotQA and 2WikiMultiHopQA records, and none of MuSiQue."""
    folder = tmp_path / "data"
    folder.mkdir()
    write_lines(folder / "hotpotqa.jsonl", [hotpot_raw(i) for i in range(8)])
    write_lines(folder / "2wikimultihopqa.jsonl", [twowiki_raw(i) for i in range(6)])
    rows = [f"{i + 1}\tw{i}\tdev\t{'official' if i % 2 else 'converted-B'}\tsomewhere" for i in range(6)]
    listing = "\n".join(["line\tid\tsplit\tshape\tsource", *rows])
    (folder / "2wikimultihopqa.sources.tsv").write_text(listing, encoding="utf-8")
    monkeypatch.setenv("ATOMMEM_DATA", str(folder))
    return folder


def write_lines(path: Path, records: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def options(board: ModuleType, tmp_path: Path, **changes: Any) -> Any:
    small = {"documents": (12, 20), "embedders": ("hashing",), "agents": ("silent", "keep_all", "oracle")}
    return board.Options(**small | {"episodes": 3, "store": "numpy", "out": tmp_path / "out"} | changes)


def test_it_plays_writes_table_plot_and_numbers_and_a_second_start_plays_nothing(
    board: ModuleType, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert board.main(options(board, tmp_path)) == 0
    messages = capsys.readouterr().err
    assert "musique skipped: there is no musique.jsonl" in messages
    assert "ATOMMEM_DATA" in messages
    assert "12/12" in messages

    out = tmp_path / "out"
    results = json.loads((out / "leaderboard.json").read_text(encoding="utf-8"))
    assert len(results["cells"]) == 2 * 2 * 3
    oracle = [cell for cell in results["cells"] if cell["agent"] == "oracle"]
    assert all(cell["em"] == [1.0] * 3 for cell in oracle)
    table = (out / "leaderboard.md").read_text(encoding="utf-8")
    assert "| `oracle` | hashing | 1.00 (1.00–1.00) | 1.00 (1.00–1.00) |" in table
    assert "memory and retrieval, not language" in table
    assert "`python benchmarks/leaderboard.py --documents 12 20 --embedders hashing" in table
    assert "Not as it should be" not in table

    def fail(*_: object) -> None:
        raise AssertionError("a cell was played again")

    monkeypatch.setattr(board, "play_cell", fail)
    assert board.main(options(board, tmp_path)) == 0


def test_no_text_of_a_record_and_no_path_gets_into_the_results(board: ModuleType, data: Path, tmp_path: Path) -> None:
    board.main(options(board, tmp_path, documents=(12,)))
    for name in ("leaderboard.json", "leaderboard.md"):
        text = (tmp_path / "out" / name).read_text(encoding="utf-8")
        assert str(tmp_path) not in text
        for word in ("Writer", "Region", "Director", "novelist"):
            assert word not in text


def test_an_interrupted_run_keeps_its_cells_and_goes_on(
    board: ModuleType, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play_cell = board.play_cell
    played: list[Any] = []

    def interrupted(plan: Any, *arguments: Any) -> Any:
        if len(played) == 2:
            raise KeyboardInterrupt
        played.append(plan)
        return play_cell(plan, *arguments)

    monkeypatch.setattr(board, "play_cell", interrupted)
    assert board.main(options(board, tmp_path)) == 0
    file = tmp_path / "out" / "leaderboard.json"
    assert len(json.loads(file.read_text(encoding="utf-8"))["cells"]) == 2
    monkeypatch.setattr(board, "play_cell", play_cell)
    board.main(options(board, tmp_path))
    assert len(json.loads(file.read_text(encoding="utf-8"))["cells"]) == 12


def test_results_of_other_settings_are_not_mixed_in(board: ModuleType, data: Path, tmp_path: Path) -> None:
    board.main(options(board, tmp_path, documents=(12,), agents=("silent",)))
    other = {"documents": (12,), "agents": ("silent",), "episodes": 2}
    with pytest.raises(ConfigError, match="--fresh"):
        board.main(options(board, tmp_path, **other))
    assert board.main(options(board, tmp_path, fresh=True, **other)) == 0


def test_cells_of_an_earlier_release_are_gone_on_with(board: ModuleType) -> None:
    """Environments play alike under one id, so a new version of the package has nothing to play again."""
    assert board.load_cells(scripts.FOLDER / "results" / "leaderboard.json", board.Options())


def test_only_official_records_of_2wikimultihopqa_are_played(board: ModuleType, data: Path, tmp_path: Path) -> None:
    sources = board.find_sources((), tmp_path, Console(file=io.StringIO()))
    assert sources["hotpotqa"] == data / "hotpotqa.jsonl"
    lines = sources["2wikimultihopqa"].read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["_id"] for line in lines] == ["w1", "w3", "w5"]


def test_without_data_it_says_what_to_do_and_writes_nothing(
    board: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ATOMMEM_DATA", str(tmp_path))
    assert board.main(options(board, tmp_path)) == 0
    assert capsys.readouterr().err.count("set ATOMMEM_DATA") == 3
    assert not (tmp_path / "out").exists()


def test_a_given_source_must_name_its_data_set(board: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="DATASET=PATH"):
        board.find_sources(("dev.json",), tmp_path, Console(file=io.StringIO()))
    found = board.find_sources(("musique=dev.jsonl",), tmp_path, Console(file=io.StringIO()))
    assert found == {"musique": Path("dev.jsonl")}


def test_agents_that_do_not_retrieve_are_played_with_one_embedder(board: ModuleType, tmp_path: Path) -> None:
    chosen = options(board, tmp_path, embedders=("hashing", "minilm"), documents=(12,))
    plans = board.plan_cells(chosen, {"hotpotqa": Path("x")})
    assert [(plan.embedder, plan.agent) for plan in plans] == [
        ("hashing", "silent"),
        ("hashing", "keep_all"),
        ("hashing", "oracle"),
        ("minilm", "keep_all"),
        ("minilm", "oracle"),
    ]


def cell(board: ModuleType, em: list[float], agent: str = "oracle", guess_rate: float = 0.0) -> Any:
    numbers = {"f1": em, "recall": em, "recall_exact": em, "guess_rate": guess_rate, "operations": {}}
    means = dict.fromkeys(("rejected", "peak_entries", "steps", "env_ms", "seconds"), 0.0)
    return board.Cell("hotpotqa", "hashing", 200, agent, em, **numbers, **means)


def test_finding_3_2_cells_of_before_embedded_in_part_was_counted_are_marked_and_played_again(
    board: ModuleType, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only = {"documents": (12,), "agents": ("keep_all",), "embedders": ("hashing", "minilm")}
    folder = tmp_path / "out"
    play_cell = board.play_cell

    def counted(plan: Any, *arguments: Any) -> Any:
        found = play_cell(dataclasses.replace(plan, embedder="hashing"), *arguments)
        return dataclasses.replace(found, embedder=plan.embedder, embedded_in_part=1.5 * (plan.embedder == "minilm"))

    monkeypatch.setattr(board, "play_cell", counted)
    board.main(options(board, tmp_path, **only))
    new = json.loads((folder / "leaderboard.json").read_text(encoding="utf-8"))
    page = (folder / "leaderboard.md").read_text(encoding="utf-8")
    assert "†" not in page
    assert "- HotpotQA, 12 documents, `minilm`: 1.5 of 12 entries an episode (12.5%)" in page

    old = {**new, "made": {**new["made"], "date": "2026-11-01"}, "cells": [dict(cell) for cell in new["cells"]]}
    for cell in old["cells"]:
        del cell["embedded_in_part"]
    (folder / "leaderboard.json").write_text(json.dumps(old), encoding="utf-8")
    # Nothing is played: what was made before keeps its date, and MiniLM's cells are marked.
    board.main(options(board, tmp_path, **{**only, "embedders": ("hashing",)}))
    page = (folder / "leaderboard.md").read_text(encoding="utf-8")
    assert "2026-11-01 · " in page
    assert "† Played before texts that the embedder does not read whole were counted" in page
    assert [line.count("†") for line in page.splitlines() if "`keep_all`" in line] == [0, 1, 0, 1]

    board.main(options(board, tmp_path, **only))
    again = json.loads((folder / "leaderboard.json").read_text(encoding="utf-8"))
    assert [board.plan_of(board.Cell(**cell)) for cell in again["cells"]] == [
        board.plan_of(board.Cell(**cell)) for cell in new["cells"]
    ]
    assert [cell.get("embedded_in_part") for cell in again["cells"]] == [None, None, 1.5, 1.5]


def test_intervals_are_those_of_the_bootstrap(board: ModuleType) -> None:
    low, high = cell(board, [1.0] * 40 + [0.0] * 10).interval
    # 1.96 standard errors of a share of 0.8 among 50 are 0.11.
    assert low == pytest.approx(0.69, abs=0.03)
    assert high == pytest.approx(0.91, abs=0.03)
    assert cell(board, [1.0] * 50).interval == (1.0, 1.0)


def test_a_low_ceiling_and_a_leaking_floor_are_reported(board: ModuleType) -> None:
    good = [cell(board, [1.0] * 19 + [0.0]), cell(board, [0.0] * 45 + [1.0] * 5, "silent", 0.1)]
    assert board.checks(good) == []
    low, leaking = cell(board, [1.0] * 9 + [0.0]), cell(board, [0.0] * 30 + [1.0] * 20, "silent", 0.1)
    assert [line.split()[0] for line in board.checks([low, leaking])] == ["oracle", "silent"]


def test_the_plot_is_a_picture(board: ModuleType, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib: pip install 'atommem-gym[plots]'")
    board.plot([cell(board, [1.0, 0.0]), cell(board, [0.0, 0.0], "silent", 0.1)], tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
