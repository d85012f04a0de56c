"""Files of records as a source holds them, and what is read of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from atommem_gym.records import sources
from atommem_gym.records.record import Record
from atommem_gym.records.sources import load_split

Make = Callable[..., dict[str, Any]]


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is loaded yet and the cache is empty; for the modules that import it."""
    monkeypatch.setattr(sources, "_loaded", {})
    monkeypatch.setenv("ATOMMEM_CACHE", str(tmp_path / "cache"))


def write_lines(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


def records(source: Path | str, dataset: str = "hotpotqa", split: str = "train") -> list[Record]:
    found = load_split(dataset, str(source), split)
    return [found.record(i) for i in range(len(found))]


def expected(rows: list[dict[str, Any]], dataset: str = "hotpotqa") -> list[Record]:
    return [sources.PARSERS[dataset](row) for row in rows]
