"""Fixtures that several test files share: real records where they are at hand, made-up ones in the official shapes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent

settings.register_profile("ci", max_examples=100, deadline=None, derandomize=True)
settings.register_profile("milvus", max_examples=25, deadline=None, derandomize=True)
settings.register_profile("slow", max_examples=10_000, deadline=None)
settings.load_profile("ci")


_OTHER_STORES = {"numpy", "mirror", "milvus", "kept", "kept-milvus"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that a server answers, for `-m milvus`; they share one server, and so one worker."""
    for item in items:
        spec = getattr(item, "callspec", None)
        chosen = {value for value in spec.params.values() if isinstance(value, str)} if spec is not None else set()
        if "milvus_server" in getattr(item, "fixturenames", ()) and not chosen & _OTHER_STORES:
            item.add_marker(pytest.mark.milvus)
            item.add_marker(pytest.mark.xdist_group("milvus"))


@pytest.fixture(autouse=True, scope="session")
def _cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test reads or fills the user's cache of converted records."""
    os.environ["ATOMMEM_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real records, one JSON Lines file a data set."""
    folder = Path(os.environ.get("ATOMMEM_DATA") or ROOT.parent / "shared" / "data")
    names = ("hotpotqa", "2wikimultihopqa", "musique")
    missing = [name for name in names if not (folder / f"{name}.jsonl").is_file()]
    if missing:
        pytest.skip(f"no {', '.join(missing)} records in {folder}: set ATOMMEM_DATA to a folder with NAME.jsonl files")
    return folder


@pytest.fixture(autouse=True)
def _width_of_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests that run in parallel inherit a width that nobody sees."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture(scope="session")
def hotpot_raw() -> Callable[..., dict[str, Any]]:
    """Makes HotpotQA records in the official form, all of whose documents differ: two gold first, then distractors."""

    def make(number: int, distractors: int = 8, **changes: Any) -> dict[str, Any]:
        bridge, place = f"Writer {number}", f"Town {number}"
        context = [
            [bridge, [f"{bridge} was a novelist.", f" {bridge} was born in {place}.", " Little else is known."]],
            [place, [f"{place} is a town.", f" {place} lies in Region {number}."]],
        ]
        context += [
            [f"Village {number}-{i}", [f"Village {number}-{i} is small.", " It is old."]] for i in range(distractors)
        ]
        record = {
            "_id": f"h{number}",
            "question": f"In which region was {bridge} born?",
            "answer": f"Region {number}",
            "type": "bridge",
            "level": "hard",
            "supporting_facts": [[bridge, 1], [place, 1]],
            "context": context,
        }
        return record | changes

    return make


@pytest.fixture(scope="session")
def twowiki_raw() -> Callable[..., dict[str, Any]]:
    """Makes 2WikiMultiHopQA records in the official form: a compositional question with two gold paragraphs."""

    def make(number: int, distractors: int = 8, **changes: Any) -> dict[str, Any]:
        film, director = f"Film {number}", f"Director {number}"
        context = [
            [f"Other {number}-{i}", [f"Other {number}-{i} is a film.", "It is short."]] for i in range(distractors)
        ]
        context.insert(1, [f"{film} (1950 film)", [f"{film} is a drama.", f"It was directed by {director}."]])
        context.insert(3, [director, [f"{director} was born in City {number}.", "He liked trains."]])
        record = {
            "_id": f"w{number}",
            "type": "compositional",
            "question": f"Where was the director of film {film} born?",
            "context": context,
            "supporting_facts": [[f"{film} (1950 film)", 1], [director, 0]],
            "evidences": [[film, "director", director], [director, "place of birth", f"City {number}"]],
            "answer": f"City {number}",
        }
        return record | changes

    return make


@pytest.fixture(scope="session")
def musique_raw() -> Callable[..., dict[str, Any]]:
    """Makes MuSiQue-Ans records: two gold paragraphs, and a distractor with the title of the first."""

    def make(number: int, distractors: int = 4, **changes: Any) -> dict[str, Any]:
        band, label = f"Band {number}", f"Label {number}"
        texts = [
            (band, f"{band} never toured.", False),
            (band, f"{band} signed with {label}.", True),
            (label, f"{label} was founded in 19{number % 90 + 10}.", True),
        ]
        texts += [(f"Song {number}-{i}", f"Song {number}-{i} was a hit.", False) for i in range(distractors)]
        record = {
            "id": f"2hop__{number}_{number + 1}",
            "paragraphs": [
                {"idx": idx, "title": title, "paragraph_text": text, "is_supporting": gold}
                for idx, (title, text, gold) in enumerate(texts)
            ],
            "question": f"When was the label of {band} founded?",
            "question_decomposition": [
                {"id": 1, "question": f"{band} >> label", "answer": label, "paragraph_support_idx": 1},
                {"id": 2, "question": "#1 >> founded", "answer": f"19{number % 90 + 10}", "paragraph_support_idx": 2},
            ],
            "answer": f"19{number % 90 + 10}",
            "answer_aliases": [f"in 19{number % 90 + 10}"],
            "answerable": True,
        }
        return record | changes

    return make
