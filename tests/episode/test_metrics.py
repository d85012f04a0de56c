"""Observations, infos and the metrics of an episode, key by key (SPEC E10, E11, R1)."""

from __future__ import annotations

import numpy as np
import pytest
from support.game import QUESTIONS, Game

from atommem_gym.episode import Episode
from atommem_gym.memory.memory import Entry, Memory


def test_E10_an_observation_of_reading_and_one_of_answering_in_full() -> None:
    game = Game(questions=2, chunks=2, top_k=1, max_steps=9)
    start = dict(game.seen)
    assert start.pop("progress").tolist() == [0, 2]
    assert start == {
        "phase": 0,
        "question": f"1. {QUESTIONS[0].question}\n2. {QUESTIONS[1].question}",
        "chunk": game.episode.stream.core(0),
        "scratchpad": "",
        "query": "",
        "memories": (),
        "feedback": "",
        "reads_left": 3,
        "steps_left": 9,
    }
    game.step("<create>bees</create><scratchpad>note</scratchpad>")
    game.step("<read>bees</read><delete id='7'/>")
    seen = dict(game.seen)
    assert seen.pop("progress").tolist() == [2, 2]
    assert seen == {
        "phase": 1,
        "question": QUESTIONS[0].question,
        "chunk": "",
        "scratchpad": "note",
        "query": "bees",
        "memories": ({"id": 1, "text": "bees", "score": np.array(1.0)},),
        "feedback": "operation 2 (delete) rejected: unknown_id: there is no entry 7",
        "reads_left": 3,
        "steps_left": 7,
    }


def test_E11_an_info_counts_what_was_applied_and_names_what_was_rejected() -> None:
    game = Game(chunks=2)
    game.step("<create>a</create><create>b</create><read>a</read><update>x</update>")
    assert game.result.info == {
        "applied": {"create": 2, "read": 1, "update": 0, "delete": 0, "scratchpad": 0, "answer": 0},
        "rejected": [
            {"operation": "update", "position": 4, "reason": "bad_id", "detail": "update needs an integer id"}
        ],
        "entries": 2,
        "item": "game/0",
    }


def test_E11_the_metrics_of_an_episode_in_full() -> None:
    game = Game(questions=2, chunks=1)
    evidence = "".join(f"<create>{piece.text}</create>" for piece in QUESTIONS[0].evidence)
    game.step(f"{evidence}<create>x</create><delete id='3'/><delete id='3'/>")
    game.step("<read>Ada Bern</read>")
    game.step("<answer>the Aar</answer>")
    game.step("<answer>Mur river</answer>")
    assert (game.result.terminated, game.result.truncated) == (True, False)
    assert game.result.reward == 0.5
    f1_of_second = pytest.approx(2 / 3)
    assert game.result.info["episode_metrics"] == {
        "em": 0.5,
        "f1": pytest.approx((1 + 2 / 3) / 2),
        "answers": [
            {
                "id": "q1",
                "question": QUESTIONS[0].question,
                "type": "bridge",
                "gold": ["Aare", "the Aar"],
                "answer": "the Aar",
                "closed": "answered",
                "score": 1.0,
                "em": 1.0,
                "f1": 1.0,
            },
            {
                "id": "q2",
                "question": QUESTIONS[1].question,
                "type": "bridge",
                "gold": ["Mur"],
                "answer": "Mur river",
                "closed": "answered",
                "score": 0.0,
                "em": 0.0,
                "f1": f1_of_second,
            },
        ],
        "operations": {"create": 3, "read": 1, "update": 0, "delete": 1, "scratchpad": 0, "answer": 2},
        "rejected": 1,
        "peak_entries": 2,
        "final_entries": 2,
        "evidence_recall": 0.5,
        "evidence_recall_exact": 0.5,
        "steps": 4,
    }


def test_R1_a_scorer_is_given_the_answer_the_accepted_answers_and_the_question() -> None:
    seen: list[tuple[str, tuple[str, ...], str]] = []

    def reward(prediction: str, answers: tuple[str, ...], question: str) -> float:
        seen.append((prediction, answers, question))
        return 0.25

    game = Game(chunks=1, questions=2, reward=reward)
    game.step("")
    game.step("<answer>x</answer>")
    game.step("<answer>y</answer>")
    assert seen == [
        ("x", ("Aare", "the Aar"), QUESTIONS[0].question),
        ("y", ("Mur",), QUESTIONS[1].question),
    ]
    assert game.result.reward == 0.25


def test_E10_after_the_only_question_none_is_shown() -> None:
    game = Game(chunks=4, early_answer=True)
    game.step("<answer>Aare</answer>")
    assert game.result.terminated
    assert (game.seen["phase"], game.seen["question"]) == (0, "")
    game = Game(chunks=1)
    game.step("")
    game.step("<answer>Aare</answer>")
    assert (game.seen["phase"], game.seen["question"]) == (1, "")


def test_E11_the_peak_begins_with_the_entries_of_a_kept_memory() -> None:
    game = Game(chunks=1)
    kept = Memory({4: Entry("a", 1), 6: Entry("b", 1)}, 7)
    episode = Episode(game.config, game.running.episode.item, game.episode.stream, game.backend.tokenizer, kept)
    assert episode.state.peak_entries == 2
    assert episode.state.memory is kept
    assert game.episode.state.peak_entries == 0
