"""When evidence counts as seen: its recall, word by word and step by step (SPEC E12, M12)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from support.game import DOCUMENTS, QUESTIONS, Game

from atommem_gym.evidence import all_visible, held, holds, suggests
from atommem_gym.records.reading import read
from atommem_gym.records.record import Item, Record
from atommem_gym.records.sources import parse


def test_E12_evidence_that_was_found_once_hides_none_that_comes_later() -> None:
    game = Game(chunks=1, top_k=1)
    game.step("".join(f"<create>{piece.text}</create>" for piece in QUESTIONS[0].evidence))
    first, second = QUESTIONS[0].evidence
    game.step(f"<read>{first.text}</read>")
    assert game.episode.evidence_recall == 0.5
    game.step(f"<read>{second.text}</read>")
    game.step("<answer>x</answer>")
    metrics = game.result.info["episode_metrics"]
    assert (metrics["evidence_recall"], metrics["evidence_recall_exact"]) == (1.0, 1.0)


def test_E12_a_paraphrase_counts_for_the_lenient_recall_alone() -> None:
    game = Game(chunks=1)
    game.step("<scratchpad>Ada: Bern</scratchpad>")
    assert game.episode.evidence_recall == 0.5
    game.step("<scratchpad>Ada: Bern, Aare</scratchpad>")
    game.step("<answer>x</answer>")
    metrics = game.result.info["episode_metrics"]
    assert (metrics["evidence_recall"], metrics["evidence_recall_exact"]) == (1.0, 0.0)


def test_E12_the_recall_of_questions_without_evidence_is_absent() -> None:
    game = Game(chunks=1)
    bare = Item("bare", 0, 0, (replace(QUESTIONS[0], evidence=()),), DOCUMENTS)
    game.running = game.backend.new_episode(bare)
    game.episode = game.running.episode
    game.step("")
    game.step("<answer>x</answer>")
    metrics = game.result.info["episode_metrics"]
    assert (metrics["evidence_recall"], metrics["evidence_recall_exact"]) == (None, None)


def test_E12_evidence_is_held_word_by_word_and_all_of_it_must_be_visible() -> None:
    first, second = QUESTIONS[0].evidence
    assert holds(first, "I note: ADA was born in Bern!")
    assert not holds(first, "Nevada was born in Bern")
    assert not holds(first, "Ada was born in Berne")
    assert suggests(first, "In Bern, Ada.")
    assert not suggests(first, "Ada of Berne")
    assert not suggests(first, "Canada, Bern")
    assert all_visible(QUESTIONS[0], iter([second.text, "x", first.text]))
    assert not all_visible(QUESTIONS[0], [first.text, first.text])


@pytest.mark.parametrize(
    ("text", "held_there"),
    [
        ("It began in 2002.Ada was born in Bern.She moved on.", True),
        ("It began in 2002.Ada was born in Bern. She moved on.", True),
        ("Ada was born in Bern.She moved on.", True),
        ("1815:Ada was born in Bern.", True),
        ("NevAda was born in Bern.", False),
        ("7Ada was born in Bern.", False),
        ("NevAda was born in Bern. 2002.Ada was born in Bern.x", True),
        ("2002.ada was born in Bern.She", False),
        ("2002.Ada was  born in Bern.She", False),
    ],
)
def test_finding_4_4_evidence_is_held_to_the_letter_where_sentences_are_glued(text: str, held_there: bool) -> None:
    first, second = QUESTIONS[0].evidence
    padded = structs.replace(first, text=f"  {first.text} ")
    assert holds(first, text) is holds(padded, text) is held_there
    assert held([first, second, padded], text) == [held_there, False, held_there]


def test_finding_4_4_a_piece_within_a_word_is_not_held() -> None:
    piece = structs.replace(QUESTIONS[0].evidence[0], text="Bern 7")
    assert not any(holds(piece, text) for text in ("x.Bern 75", "aBern 7.y", "Bern 7é"))
    assert all(holds(piece, text) for text in ("x.Bern 7", "a.Bern 7.y", "in Bern 75.Bern 7;B"))
    empty = structs.replace(piece, text=" ")
    assert holds(empty, "x") is holds(structs.replace(piece, text=""), "x") is False


def unheld(records: Iterable[Record]) -> list[tuple[str, str]]:
    """The pieces of evidence that no document of their record holds."""
    missing = []
    for record in records:
        texts = [f"{document.title}\n{document.text}" for document in record.documents]
        missing += [(record.id, p.text) for p in record.evidence if not any(holds(p, text) for text in texts)]
    return missing


def test_finding_4_4_a_record_that_glues_sentences_holds_its_evidence(
    tmp_path: Path, hotpot_raw: Callable[..., dict[str, Any]]
) -> None:
    glued = hotpot_raw(1)
    title, sentences = glued["context"][0]
    glued["context"][0] = [title, ["It began in 2002.", sentences[0], *sentences[1:]]]
    path = tmp_path / "dev.jsonl"
    path.write_text(json.dumps(glued) + "\n")
    (record,) = (parse("hotpotqa", entry) for entry in read(path))
    assert "2002.Writer 1 was" in record.documents[0].text
    assert "Writer 1 was a novelist." in [piece.text for piece in record.evidence]
    assert unheld([record]) == []


def test_finding_4_4_all_real_records_hold_their_evidence(shared_data: Path) -> None:
    for dataset in ("hotpotqa", "2wikimultihopqa", "musique"):
        assert unheld(parse(dataset, entry) for entry in read(shared_data / f"{dataset}.jsonl")) == []


def told(question: int) -> str:
    """An operation that writes all evidence of a question to the scratchpad."""
    return f"<scratchpad>{' '.join(piece.text for piece in QUESTIONS[question].evidence)}</scratchpad>"


def recall(game: Game) -> float:
    return game.episode.evidence_recall


def test_E12_what_the_scratchpad_holds_when_a_question_is_closed_counts_also_while_reading() -> None:
    game = Game(questions=2, chunks=4, early_answer=True)
    game.step(told(1) + "<answer>x</answer>")
    assert recall(game) == 0.0
    game.step(told(1) + "<answer>x</answer>")
    assert recall(game) == 0.5
    game = Game(questions=2, chunks=4, early_answer=True)
    game.step(told(1) + "<answer>x</answer>")
    game.step("<scratchpad>-</scratchpad><answer>x</answer>")
    assert recall(game) == 0.0


def test_E12_the_end_of_the_steps_closes_all_questions_with_what_the_scratchpad_holds() -> None:
    game = Game(questions=2, chunks=4, max_steps=2)
    game.step(told(1))
    assert recall(game) == 0.0
    game.step("")
    assert game.result.truncated
    metrics = game.result.info["episode_metrics"]
    assert metrics["evidence_recall"] == 0.5
    assert [answer["closed"] for answer in metrics["answers"]] == ["unanswered", "unanswered"]
    assert metrics["peak_entries"] == 0


def test_E12_what_is_seen_after_a_question_was_closed_no_longer_counts_for_it() -> None:
    game = Game(questions=2, chunks=1)
    game.step("".join(f"<create>{piece.text}</create>" for piece in QUESTIONS[0].evidence))
    game.step("<answer>x</answer>")
    game.step("<read>Ada Bern</read>")
    assert game.shown == [1, 2]
    assert recall(game) == 0.0
    game.step(told(0) + "<answer>x</answer>")
    assert recall(game) == 0.0


def test_E12_the_state_says_what_recall_a_step_gained() -> None:
    game = Game(questions=2, chunks=1)
    gained = []
    for action in ("", told(0), "", told(1), "<answer>x</answer>"):
        game.step(action)
        gained.append(game.episode.state.recall_gained)
    assert gained == [0.0, 0.5, 0.0, 0.5, 0.0]


def test_M12_without_scratchpad_a_kept_one_is_neither_shown_nor_counted() -> None:
    game = Game(chunks=1, scratchpad=False)
    game.episode.state.memory.scratchpad = " ".join(piece.text for piece in QUESTIONS[0].evidence)
    game.step("")
    assert game.seen["scratchpad"] == ""
    game.step("<answer>x</answer>")
    assert recall(game) == 0.0
