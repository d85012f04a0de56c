"""Generated items are what they were, to the bit: generators may become faster, their items may not change (SPEC M15).

``python tests/worlds/test_golden_items.py`` records the hashes anew. Only a change of what items contain, which raises
``ITEMS_VERSION`` of its world and the environment's version, asks for that.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from atommem_gym.records.layout import ORDERS
from atommem_gym.records.record import Items, Record
from atommem_gym.tokenizers import load_tokenizer
from atommem_gym.worlds.drift import DriftItems
from atommem_gym.worlds.drift.options import DriftOptions
from atommem_gym.worlds.needle import NeedleItems
from atommem_gym.worlds.needle.options import NeedleOptions
from atommem_gym.worlds.synthetic import SHAPES, SPLITS, SyntheticItems

RECORDED = Path(__file__).parent / "golden" / "items.json"
INDICES = (0, 1, 2, 3, 5, 9_999)
SHUFFLE_SEEDS = (0, 7)
TEXT = " ".join(f"This is sentence {i} of a text about nothing in particular." for i in range(400))


def _synthetic() -> dict[str, Callable[[Path], Items]]:
    made: dict[str, Callable[[Path], Items]] = {}
    for shape in SHAPES:
        for split, num_docs, questions in zip(SPLITS, (200, 60, 45), (1, (1, 5), "released"), strict=True):
            made[f"synthetic {shape} {split}"] = lambda _, shape=shape, split=split, n=num_docs, q=questions: (
                SyntheticItems(shape=shape, split=split, num_docs=n, questions_per_episode=q)
            )
    for order in ORDERS:
        made[f"synthetic {order}"] = lambda _, order=order: SyntheticItems(num_docs=30, order=order)
    return made


def _needle() -> dict[str, Callable[[Path], Items]]:
    words = load_tokenizer("words")
    options = {
        "single": {},
        "multi_key": {"kind": "multi_key", "value_type": "words"},
        "multi_value": {"kind": "multi_value", "value_type": "uuids", "needles": 3, "distractors": 2},
        "multi_query": {"kind": "multi_query", "depth": (0.0, 0.5, 1.0), "length": (1_000, 3_000)},
        "noise": {"haystack": "noise", "depth": 0.5},
    }
    made: dict[str, Callable[[Path], Items]] = {
        f"needle {name}": lambda _, one=one: NeedleItems(words, options=NeedleOptions(**one), num_docs=120)
        for name, one in options.items()
    }
    made["needle many"] = lambda _: NeedleItems(words, split="test", num_docs=75, questions_per_episode=(2, 6))
    made["needle text"] = lambda folder: NeedleItems(
        words, options=NeedleOptions(haystack="text", text=str(_text(folder))), split="validation", num_docs=120
    )
    return made


def _drift() -> dict[str, Callable[[Path], Items]]:
    options = {
        "default": {},
        "one paper": {"sources": 1, "corrections": 0.0, "hearsay": 0.0, "turnover": 0.0},
        "crowded": {"entities": 3, "attributes": 3, "turnover": 2.0, "corrections": 1.0, "hearsay": 1.0, "sources": 3},
        "near": {"distance": 4, "changes_per_fact": 6, "distractors": 0.5, "question_kinds": {"known": 1, "count": 1}},
    }
    made: dict[str, Callable[[Path], Items]] = {
        f"drift {name}": lambda _, one=one: DriftItems(options=DriftOptions(**one), num_docs=200)
        for name, one in options.items()
    }
    made["drift many"] = lambda _: DriftItems(split="test", num_docs=90, questions_per_episode=(1, 4))
    return made


ITEMS = {**_synthetic(), **_needle(), **_drift()}
"""What makes the items of each recorded setting; it is given a folder for its files."""


def _text(folder: Path) -> Path:
    path = folder / "text.txt"
    path.write_text(TEXT, encoding="utf-8", newline="\n")
    return path


def _fields(record: Record) -> list[object]:
    """Every field of a question, spelled out so that a class may become one of another kind."""
    evidence = [[one.title, one.text, one.hop_answer] for one in record.evidence]
    documents = [[one.title, one.text, one.date, one.speakers] for one in record.documents]
    said = [record.id, record.question, record.answer, record.gold, evidence, record.aliases, record.type]
    return [*said, documents, record.options, record.answerable, record.trap, record.context]


def digest(items: Items) -> str:
    """A hash of all that some items say, in two layouts each."""
    found = hashlib.sha256()
    for index in INDICES:
        for seed in SHUFFLE_SEEDS:
            item = items.item(index, seed)
            documents = [[one.title, one.text, one.date, one.speakers] for one in item.documents]
            said = [item.id, item.index, item.shuffle_seed, [_fields(one) for one in item.questions], documents]
            found.update(json.dumps(said).encode("ascii"))
        if isinstance(items, SyntheticItems):
            truth = items.ground_truth(index)
            found.update(json.dumps([truth.facts, repr(truth.queries)]).encode("ascii"))
    return found.hexdigest()


def test_every_setting_is_recorded() -> None:
    assert sorted(json.loads(RECORDED.read_text(encoding="ascii"))) == sorted(ITEMS)


@pytest.mark.parametrize("name", ITEMS)
def test_M15_generated_items_are_what_they_were(name: str, tmp_path: Path) -> None:
    recorded = json.loads(RECORDED.read_text(encoding="ascii"))
    assert digest(ITEMS[name](tmp_path)) == recorded[name], (
        f"the items of {name!r} are others than those recorded: a change of what items contain raises ITEMS_VERSION "
        "of their world and the environment's version, and is recorded anew"
    )


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        hashes = {name: digest(make(Path(folder))) for name, make in sorted(ITEMS.items())}
    RECORDED.write_text(json.dumps(hashes, indent=1) + "\n", encoding="ascii", newline="\n")
