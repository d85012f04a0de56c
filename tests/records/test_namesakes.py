"""Several paragraphs of one title in a record: which of them is gold (SPEC E12, D3), and what ``data check`` says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

from atommem_gym.agents import make_agent
from atommem_gym.agents.play import play
from atommem_gym.cli import main
from atommem_gym.errors import RecordError
from atommem_gym.records.audit import audit
from atommem_gym.records.corpus import normalised
from atommem_gym.records.formats import hotpotqa, musique, own_records, twowiki
from atommem_gym.records.formats.paragraphs import undecided
from atommem_gym.records.reading import read
from atommem_gym.records.record import Record
from atommem_gym.records.sources import load_split, parse

Make = Callable[..., dict[str, Any]]
NAMESAKE = ["Town", ["A namesake in another land."]]
TOWN = ["Town", ["Town is small.", " It lies on the River."]]
PERSON = ["Person", ["Person was born in Town.", " She paints."]]


def hotpot(context: list[Any], facts: list[Any], **changes: Any) -> dict[str, Any]:
    return {
        "_id": "r",
        "question": "Which river runs by the town where Person was born?",
        "answer": "River",
        "type": "bridge",
        "level": "hard",
        "supporting_facts": facts,
        "context": context,
    } | changes


def hub_form(raw: dict[str, Any]) -> dict[str, Any]:
    titles, sentences = zip(*raw["context"], strict=True)
    gold, numbers = zip(*raw["supporting_facts"], strict=True)
    return raw | {
        "context": {"title": list(titles), "sentences": list(sentences)},
        "supporting_facts": {"title": list(gold), "sent_id": list(numbers)},
    }


def gold_of(record: Record) -> tuple[tuple[int, ...], list[str]]:
    return record.gold, [piece.text for piece in record.evidence]


@pytest.mark.parametrize("form", [dict, hub_form])
@pytest.mark.parametrize(
    ("context", "facts", "gold", "evidence", "open_titles"),
    [
        # Only the later one has the sentence; whichever comes first.
        ([NAMESAKE, PERSON, TOWN], [["Town", 1]], (2,), ["It lies on the River."], []),
        ([TOWN, PERSON, NAMESAKE], [["Town", 1]], (0,), ["It lies on the River."], []),
        # The earlier one has a sentence of this number, but it is empty.
        ([["Town", ["A namesake.", "  "]], TOWN], [["Town", 1]], (1,), ["It lies on the River."], []),
        # 0 is valid in both, 1 in one: all of them are in that one.
        ([NAMESAKE, TOWN], [["Town", 0], ["Town", 1]], (1,), ["Town is small.", "It lies on the River."], []),
        ([NAMESAKE, TOWN], [["Town", 1], ["Town", 0]], (1,), ["It lies on the River.", "Town is small."], []),
        # A number that exists nowhere does not matter.
        ([NAMESAKE, TOWN], [["Town", 1], ["Town", 9], ["Town", -1]], (1,), ["It lies on the River."], []),
        # Valid in both: the earliest.
        ([NAMESAKE, TOWN], [["Town", 0]], (0,), ["A namesake in another land."], ["Town"]),
        ([TOWN, NAMESAKE], [["Town", 0]], (0,), ["Town is small."], ["Town"]),
        # Valid in none: the first that says anything.
        ([["Town", [" "]], NAMESAKE], [["Town", 5]], (1,), ["A namesake in another land."], []),
        ([NAMESAKE, TOWN], [["Town", 5]], (0,), ["A namesake in another land."], ["Town"]),
        # No namesake has both: each has its own.
        (
            [["Town", ["", " One."]], ["Town", ["Zero."]]],
            [["Town", 0], ["Town", 1]],
            (0, 1),
            ["Zero.", "One."],
            ["Town"],
        ),
        # The same paragraph twice: either is right.
        ([TOWN, PERSON, TOWN], [["Town", 1]], (0,), ["It lies on the River."], []),
        # Three of them, and another title between.
        (
            [NAMESAKE, PERSON, TOWN, ["Town", ["A", "B", "C"]]],
            [["Person", 0], ["Town", 2], ["Person", 1], ["Town", 1]],
            (1, 3),
            ["Person was born in Town.", "She paints.", "C", "B"],
            [],
        ),
        # Titles are stripped on both sides.
        ([[" Town", NAMESAKE[1]], ["Town ", TOWN[1]]], [["Town  ", 1]], (1,), ["It lies on the River."], []),
    ],
)
def test_finding_4_5_the_namesake_in_which_the_sentence_numbers_are_valid_is_gold(
    context: list[Any],
    facts: list[Any],
    gold: tuple[int, ...],
    evidence: list[str],
    open_titles: list[str],
    form: Callable[[dict[str, Any]], dict[str, Any]],
) -> None:
    raw = form(hotpot(context, facts))
    assert gold_of(hotpotqa.parse(raw))[0] == gold
    assert sorted(gold_of(hotpotqa.parse(raw))[1]) == sorted(evidence)
    if len(gold) == 1:
        assert gold_of(hotpotqa.parse(raw))[1] == evidence
    assert undecided(raw) == open_titles


@pytest.mark.parametrize("form", [dict, hub_form])
def test_finding_4_5_2wiki_with_and_without_official_numbers(form: Callable[[Any], Any]) -> None:
    context = [NAMESAKE, PERSON, ["Town", ["Town is small.", "It lies on the River."]]]
    raw = form(hotpot(context, [["Person", 0], ["Town", 1]], evidences=[["Town", "lies on", "River"]]))
    record = twowiki.parse(raw)
    assert gold_of(record) == ((1, 2), ["Person was born in Town.", "It lies on the River."])
    assert [piece.hop_answer for piece in record.evidence] == ["Town", "River"]
    record = twowiki.parse(raw | {"evidences": []})
    assert gold_of(record) == (
        (1, 2),
        ["Person was born in Town.  She paints.", "Town is small. It lies on the River."],
    )


def test_finding_4_5_namesakes_without_any_text_are_no_evidence() -> None:
    with pytest.raises(RecordError, match="all gold paragraphs are empty"):
        hotpotqa.parse(hotpot([["Town", [""]], ["Town", []]], [["Town", 0]]))


def test_finding_4_5_other_records_mark_paragraphs_not_titles(musique_raw: Make) -> None:
    raw = musique_raw(7)
    gold = next(paragraph for paragraph in raw["paragraphs"] if paragraph["is_supporting"])
    raw["paragraphs"].insert(0, {"idx": 99, "title": gold["title"], "paragraph_text": "Else.", "is_supporting": False})
    assert "Else." not in {piece.text for piece in musique.parse(raw).evidence}
    documents = [{"title": "A", "text": "One."}, {"title": "A", "text": "Two.", "gold": True}]
    record = own_records.parse({"question": "?", "answer": "Two", "documents": documents})
    assert gold_of(record) == ((1,), ["Two."])


def written(path: Path, records: list[dict[str, Any]]) -> str:
    path.write_text(json.dumps(records))
    return str(path)


def cases(count: int = 8) -> list[dict[str, Any]]:
    """Records with a namesake before the gold paragraph, of a title of their own each."""
    made = []
    for i in range(count):
        context = [NAMESAKE, PERSON, TOWN, *([f"Other {j}", [f"Filler {j}."]] for j in range(6))]
        raw = hotpot(context, [["Person", 0], ["Town", 1]], _id=f"r{i}")
        text = json.dumps(raw)
        for name in ("Person", "Town", "River", "Other", "Filler", "namesake", "paints"):
            text = text.replace(name, f"{name}{i}")
        made.append(json.loads(text))
    return made


def test_finding_4_5_D3_episodes_hold_the_right_namesake_and_never_the_other(tmp_path: Path) -> None:
    split = load_split("hotpotqa", written(tmp_path / "dev.json", cases()), "train")
    for number in range(8):
        assert split.record(number).gold == (1, 2)
    env = gym.make("AtomMem-HotpotQA-v0", source=str(tmp_path / "dev.json"), num_docs=24, store="numpy").unwrapped
    for index in range(8):
        env.reset(options={"index": index})
        (question,) = env.item.questions  # type: ignore[attr-defined]
        documents = env.item.documents  # type: ignore[attr-defined]
        right = question.documents[2]
        assert "lies on the River" in right.text
        assert right in documents
        same_title = [one for one in documents if normalised(one.title) == normalised(right.title)]
        assert same_title == [right]
    env.close()


def test_finding_4_5_the_oracle_finds_the_evidence(tmp_path: Path) -> None:
    source = written(tmp_path / "dev.json", cases())
    env = gym.make("AtomMem-HotpotQA-v0", source=source, num_docs=24, store="numpy", chunk_tokens=60)
    records = play(env, make_agent("oracle"), episodes=8)
    assert [(record.em, record.evidence_recall) for record in records] == [(1.0, 1.0)] * 8
    env.close()


def test_finding_4_5_data_check_reports_namesakes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    undecidable = hotpot([NAMESAKE, PERSON, TOWN], [["Person", 0], ["Town", 0]], _id="who knows")
    source = written(
        tmp_path / "dev.json", [*cases(3), undecidable, hotpot([PERSON, TOWN], [["Town", 0]], _id="plain")]
    )
    (part,) = audit(source).parts
    assert part.gold_namesakes == ["r0", "r1", "r2", "who knows"]
    assert part.undecided_namesakes == ["who knows: 'Town'"]
    assert main(["data", "check", source]) == 0
    out = capsys.readouterr().out
    assert "who knows: 'Town'" in out
    assert "gold titles over several texts as likely; the earliest is taken as gold" in out


def test_finding_4_5_the_shared_cases(shared_data: Path) -> None:
    path = shared_data.parent / "cases" / "dup_titles.json"
    if not path.is_file():
        pytest.skip(f"no {path}")
    records = [parse("hotpotqa", entry) for entry in read(path)]
    assert len(records) == 12
    for i, record in enumerate(records):
        assert gold_of(record) == ((1, 2), [f"Person{i} was born in Town{i}.", f"It lies on River{i}."])


def test_finding_4_5_the_real_records(shared_data: Path) -> None:
    files = [shared_data / f"{name}.jsonl" for name in ("hotpotqa", "2wikimultihopqa", "musique")]
    parts = {part.dataset: part for part in audit(files).parts}
    found = {name: (len(part.gold_namesakes), len(part.undecided_namesakes)) for name, part in parts.items()}
    assert found == {"hotpotqa": (0, 0), "2wikimultihopqa": (0, 0), "musique": (280, 0)}
    assert not any(part.malformed for part in parts.values())
