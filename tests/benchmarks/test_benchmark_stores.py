"""The benchmark of the stores: every contestant plays the workload right, and the report adds up."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest

pytest.importorskip("tyro")
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import stores
from reports.stores import Cell, LongRun, markdown
from workloads.stores import DELETES, UPDATES, workload


@pytest.mark.parametrize("name", ["floor", "numpy", "milvus", "milvus-kept", "milvus-reads", "milvus-reads-kept"])
@pytest.mark.parametrize("entries", [0, 70])
def test_every_read_of_ours_finds_what_brute_force_finds(name: str, entries: int) -> None:
    contestant = stores.ENTRANTS[name].open(16)
    for seed in range(2):
        played = stores.play(contestant, 3, entries, 12, seed, 60.0, 16)
        assert (played.steps, played.right) == (12, 1.0)
        assert len(played.wall) == len(played.cpu) == 12
    contestant.close()


@pytest.mark.parametrize("name", [name for name, entrant in stores.ENTRANTS.items() if entrant.module])
def test_every_peer_plays_the_workload(name: str) -> None:
    entrant = stores.ENTRANTS[name]
    pytest.importorskip(entrant.module, reason=f"pip install {entrant.package} to play against it")
    contestant = entrant.open(16)
    played = stores.play(contestant, 2, 20, 8, 0, 60.0, 16)
    # mem0 shows no entry with a negative cosine.
    assert played.right == 1.0 or name == "mem0"
    contestant.close()


def test_a_store_that_finds_the_wrong_entries_is_found_out() -> None:
    class Wrong(stores.ours.Floor):
        def step(self, moves: list[stores.ours.Move]) -> list[list[int]]:
            return [ids[::-1] for ids in super().step(moves)]

    assert stores.play(Wrong(16), 2, 0, 10, 0, 60.0, 16).right < 0.2


def test_a_slow_store_is_stopped_and_says_how_far_it_came() -> None:
    assert stores.play(stores.ours.Floor(16), 2, 0, 10, 0, 0.0, 16).steps == 1
    assert stores.play(stores.ours.Floor(16), 2, 100, 10, 0, 0.0, 16).steps == 0


def test_the_workload_is_what_it_says() -> None:
    moves = [move for step in workload(50, 40, 4, "test") for move in step]
    assert sum(len(move.updates) for move in moves) / len(moves) == pytest.approx(UPDATES, abs=0.05)
    assert sum(len(move.deletes) for move in moves) / len(moves) == pytest.approx(DELETES, abs=0.03)
    assert {len(text) for move in moves for text in move.texts} == {200}
    for move in moves:
        assert not set(move.deletes) & set(move.ids)
        assert len(move.ids) == len(set(move.ids)) == 1 + len(move.updates)


def test_the_report_says_what_was_met_what_was_cut_short_and_what_was_not_run() -> None:
    cell = Cell("numpy", 64, 0, 0.019, 0.018, 0.05, 0.02, 0.026, 1.0, 40, True, False)
    cells = [
        cell,
        dataclasses.replace(cell, store="floor", median_ms=0.006),
        dataclasses.replace(cell, store="milvus", median_ms=0.2, cpu_ms=0.14, complete=False, last_ms=None, right=0.5),
    ]
    runs = [LongRun("numpy", 1000, 0.02, 0.021, 50.0, 51.0, (9, 2), (9, 2))]
    made = {name: name for name in ("date", "cpu", "python", "versions", "command")}
    labels = {"floor": "floor", "numpy": "numpy", "milvus": "Milvus", "faiss": "faiss", "mem0": "mem0"}
    text = markdown(cells, runs, labels, {"faiss": "`faiss-cpu` is not installed"}, {"mem0": "ValueError: no"}, made)
    assert "| numpy | 64 | 0.02 | 0.019 (0.018) | 0.006 (0.018) | yes |" in text
    assert "| Milvus | 64 | 0.15 | 0.200* (0.140) | 0.006 (0.018) | on the processor, but cut short |" in text
    assert "| Milvus | 0.200* (0.140) | 50.0 % | no |" in text
    assert "| numpy | 2.6 | 1.30 |" in text
    assert "- faiss: `faiss-cpu` is not installed" in text
    assert "- mem0: ValueError: no" in text


def test_finding_3_9_a_real_milvus_is_measured_beside_one_strong_search_of_the_same_run() -> None:
    def cell(store: str, num_envs: int, median_ms: float) -> Cell:
        return Cell(store, num_envs, 0, median_ms, 0.1, 1.0, 1.0, 1.0, 1.0, 40, True, False)

    cells = [cell("real", 1, 210.0), cell("real-search", 1, 200.0), cell("real", 64, 6.0), cell("real-search", 64, 3.0)]
    made = {name: name for name in ("date", "cpu", "python", "versions", "command")}
    cells.append(cell("real-write", 64, 5.5))
    text = markdown(cells, [], {"real-search": "search", "real": "real"}, {}, {}, made, "servers")
    assert "| 1 | 210 | 200 | – | 1.05 | 210 | 1.2 searches | yes |" in text
    assert "| 64 | 384 | 192 | 352 | 2.00 | 6.00 | 5 ms an episode step | no |" in text
    assert "(servers_envs.png)" in text
    assert "| real | 210 (–) | 6.00 (–) |" in text


def test_finding_3_9_without_a_server_its_rows_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ATOMMEM_MILVUS", raising=False)
    assert "`ATOMMEM_MILVUS` names no server" in stores.why_absent(stores.ENTRANTS["real"])
    monkeypatch.setenv("ATOMMEM_MILVUS", "http://localhost:19530")
    assert stores.why_absent(stores.ENTRANTS["real"]) == ""
    assert stores.why_absent(stores.ENTRANTS["numpy"]) == ""
