"""Finding 4.2: ``preset="released"`` against a model of its description, response by response.

``WANTED`` is the list of differences that are meant, as ``docs/released.md`` tells it: what is written, and what had to
be written for the released code to do the same. The environment is given the one, the model the other.
"""

from __future__ import annotations

import random
from collections import Counter
from functools import lru_cache

import numpy as np
import pytest
from support.game import QUESTIONS, Game, released
from support.released.environment import ReleasedModel, paired_tags

from atommem_gym.embedders.hashing_embedder import HashingEmbedder

EMBEDDER = HashingEmbedder()
TEXTS = ("Ada kept bees", "Zoe built boats", "Bern lies on the Aare", "a bear park", "Graz lies on the Mur", "clock")
ANSWERS = (
    r"\boxed{Aare}",
    r"\boxed{Mur}",
    r"\boxed{no}",
    r"\boxed{x}",
    r"\boxed{}",
    "Aare",
    "",
    r"So: \boxed{the Aar}.",
)
CHUNKS = 4
WANTED = {
    "a tag is closed, or a later one of its name counts": (
        "<add_memory>to store. <add_memory>a bear park</add_memory>",
        "<add_memory>a bear park</add_memory>",
    ),
    "a tag that closes itself is an empty one": ("<update_memory/>", "<update_memory></update_memory>"),
    "a place may be written in any case, and close to its word": (
        "<modify_memory>memory1: clock</modify_memory>",
        "<modify_memory>Memory 1: clock</modify_memory>",
    ),
    "a place is a whole number": ("<delete_memory>Memory 1.5</delete_memory>", "<delete_memory>half</delete_memory>"),
    "reasoning that is never closed hides what follows": ("<think> <add_memory>clock</add_memory>", ""),
    "reasoning that began in the prompt hides what is before its end": ("<add_memory>clock</add_memory></think>", ""),
    "reasoning has other spellings": ("<thinking> <add_memory>clock</add_memory>", ""),
    "a box counts wherever it stands in an answer": (
        rf"<final_answer>\boxed{{Aare}}{'.' * 400}</final_answer>",
        r"<final_answer>\boxed{Aare}</final_answer>",
    ),
    "the last whole box counts": (
        r"<final_answer>\boxed{Aare} or \boxed{Mur</final_answer>",
        r"<final_answer>\boxed{Aare}</final_answer>",
    ),
    "an upper-case box is none": (r"<final_answer>\BOXED{Aare}</final_answer>", "<final_answer>Aare</final_answer>"),
    "white space around the content of a box does not count": (
        "<final_answer>\\boxed{\tAare\t}</final_answer>",
        r"<final_answer>\boxed{Aare}</final_answer>",
    ),
}  # fmt: skip
"""What is written here, and what the released code would have been told to do the same."""


@lru_cache(maxsize=65536)
def similarity(query: str, text: str) -> float:
    a, b = (row.astype(np.float64) for row in (*EMBEDDER.embed([query], "query"), *EMBEDDER.embed([text], "document")))
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    # Rounded, so that what is equal but for the order of a sum is a tie, which the lower id wins.
    return round(float((a * b).sum()) / norms, 9) if norms else 0.0


def element(rng: random.Random) -> str:
    """One tag as a model may write it: often well-formed, often empty, malformed, or out of place."""
    text = rng.choice(TEXTS) if rng.random() < 0.75 else rng.choice(("", " ", "\n"))
    place = rng.choice((1, 1, 1, 2, 2, 3, 6, 7, 0))
    drawn = rng.random()
    if drawn < 0.3:
        return f"<add_memory>{text}</add_memory>"
    if drawn < 0.5:
        address = rng.choice((f"Memory {place}:",) * 6 + (f"Memory {place}", "Memory x:", "", ":", "Memory -1:"))
        return f"<modify_memory>{address} {text}</modify_memory>"
    if drawn < 0.62:
        address = rng.choice((f"Memory {place}",) * 6 + (f"Memory {place}.", "the first", "", "Memory"))
        return f"<delete_memory>{address}</delete_memory>"
    if drawn < 0.75:
        return f"<update_query>{text}</update_query>"
    if drawn < 0.85:
        return f"<update_memory>{text}</update_memory>"
    if drawn < 0.89:
        return f"<final_answer>{rng.choice(ANSWERS)}</final_answer>"
    return rng.choice(
        (
            "I think.", "</add_memory>", "<unknown>", "<", "a < b > c", f"<plan>{text}</plan>",
            "<plan><add_memory>inert</add_memory></plan>", f"<think><add_memory>{text}</add_memory></think>",
            f"<ADD_MEMORY kind='x'>{text}</add_Memory>",
        )
    )  # fmt: skip


def response(rng: random.Random, before: tuple[str, str]) -> tuple[str, str]:
    """Up to five tags, for the environment and for the model; now and then the response of before, once more."""
    if rng.random() < 0.15:
        return before
    tags = " ".join(element(rng) for _ in range(rng.choice((0, 1, 1, 1, 2, 2, 3, 5))))
    if rng.random() < 0.9:
        return tags, tags
    written, meant = rng.choice(list(WANTED.values()))
    # What hides what is after it comes last, what hides what is before it comes first.
    return (f"{tags} {written}", f"{tags} {meant}") if "<think" in written else (f"{written} {tags}", f"{meant} {tags}")


def state(game: Game) -> dict[str, object]:
    episode = game.episode
    return {
        "memories": game.entries,
        "next id": episode.state.memory.next_id,
        "scratchpad": game.seen["scratchpad"],
        "query": game.seen["query"],
        "reads left": game.seen["reads_left"],
        "chunk": int(game.seen["progress"][0]),
        "question": episode.open_question,
        "over": (game.result.terminated, game.result.truncated),
        "shown": game.shown,
    }


def state_of_model(model: ReleasedModel) -> dict[str, object]:
    return {
        "memories": model.memories,
        "next id": model.next_id,
        "scratchpad": model.scratchpad,
        "query": model.query,
        "reads left": 3 - model.queries_in_a_row,
        "chunk": model.chunk,
        "question": len(model.answers) if model.cut else model.question,
        "over": (model.final, model.cut),
        "shown": model.shown,
    }


def begin(questions: int) -> tuple[Game, ReleasedModel]:
    game = released(questions=questions, chunks=CHUNKS)
    answers = [question.answers for question in QUESTIONS[:questions]]
    return game, ReleasedModel(answers, game.episode.stream.num_chunks, game.seen["query"], similarity)


def play(seed: int) -> Counter[str]:
    """One episode of the environment and of the model, compared after every response."""
    rng = random.Random(seed)
    game, model = begin(rng.choice((1, 2, 3, 3)))
    met: Counter[str] = Counter(episodes=1)
    written = meant = ""
    assert state(game) == state_of_model(model)
    while not model.final and not model.cut:
        written, meant = response(rng, (written, meant))
        model.respond(meant)
        game.step(written)
        assert state(game) == state_of_model(model), (seed, model.responses, written)
        met += Counter(name for name, _ in paired_tags(meant))
        met["empty"] += sum(not text for _, text in paired_tags(meant))
        met["wanted"] += written != meant
    assert game.result.reward == pytest.approx(model.reward), seed
    met["rewarded"] += game.result.reward > 0
    met["cut"] += model.cut
    return met


def check(episodes: int) -> None:
    met: Counter[str] = Counter()
    for seed in range(episodes):
        met += play(seed)
    assert met["episodes"] == episodes
    # Episodes without these would show nothing.
    tags = ("add_memory", "modify_memory", "delete_memory", "update_query", "update_memory", "final_answer")
    for name in ("empty", "wanted", "rewarded", "cut", *tags):
        assert met[name] > episodes / 20, (name, met)


def test_finding_4_2_episodes_agree_with_the_model() -> None:
    check(40)


@pytest.mark.slow
def test_finding_4_2_a_thousand_episodes_agree_with_the_model() -> None:
    check(1000)


@pytest.mark.parametrize("name", WANTED)
def test_finding_4_2_the_wanted_differences_are_these(name: str) -> None:
    written, meant = WANTED[name]
    ends: list[object] = []
    for told in (meant, written):
        game, model = begin(1)
        for action in (
            "<add_memory>bees</add_memory><add_memory>boats</add_memory>",
            "<update_memory>x</update_memory>",
        ):
            game.step(action)
            model.respond(action)
        game.step(written)
        model.respond(told)
        ends.append((state(game), game.result.reward) == (state_of_model(model), model.reward if model.final else 0.0))
    assert ends == [True, False]


@pytest.mark.parametrize(
    ("action", "entries", "scratchpad", "query", "reads_left", "applied"),
    [
        ("<modify_memory>Memory 1:</modify_memory>", {2: "boats"}, "note", "bees", 3, {"update": 1}),
        ("<update_memory> </update_memory>", {1: "bees", 2: "boats"}, "", "bees", 3, {"scratchpad": 1}),
        ("<update_query></update_query>", {1: "bees", 2: "boats"}, "note", "bees", 1, {"read": 1}),
    ],
)
def test_finding_4_2_an_empty_text_is_carried_out(
    action: str, entries: dict[int, str], scratchpad: str, query: str, reads_left: int, applied: dict[str, int]
) -> None:
    game = released()
    game.step("<add_memory>bees</add_memory><add_memory>boats</add_memory><update_memory>note</update_memory>")
    game.step("<update_query>bees</update_query>")
    before = game.seen["progress"][0]
    game.step(action)
    assert game.entries == entries
    assert (game.seen["scratchpad"], game.seen["query"], game.seen["reads_left"]) == (scratchpad, query, reads_left)
    assert game.seen["progress"][0] - before == applied.get("update", 0)
    assert {kind: count for kind, count in game.result.info["applied"].items() if count} == applied
    assert game.reasons == []


def test_finding_4_2_the_fourth_empty_query_gives_the_question_up() -> None:
    game = released(questions=2)
    game.step("<update_query/>" * 3)
    assert (game.seen["query"], game.seen["reads_left"]) == ("no query yet", 0)
    game.step("<update_query></update_query>")
    assert (game.episode.open_question, game.reasons) == (1, [("read", 1, "read_limit")])


def test_finding_4_2_an_update_to_nothing_of_what_is_gone_changes_nothing_but_advances() -> None:
    game = released()
    game.step("<add_memory>bees</add_memory>")
    game.step("<delete_memory>Memory 1</delete_memory><modify_memory>Memory 1: </modify_memory>")
    assert (game.entries, game.seen["progress"][0]) == ({}, 2)
    assert game.reasons == [("update", 2, "unknown_id")]


@pytest.mark.parametrize(
    ("action", "kind"),
    [
        ("<modify_memory>Memory 1:</modify_memory>", "update"),
        ("<update_memory></update_memory>", "scratchpad"),
        ("<update_query> </update_query>", "read"),
    ],
)
def test_A1_without_the_preset_an_empty_text_is_rejected_in_these_tags_too(action: str, kind: str) -> None:
    game = Game(dialect="released", advance="on_write", sticky_query=True, chunks=4)
    game.step("<add_memory>bees</add_memory><update_memory>note</update_memory><update_query>bees</update_query>")
    game.step(action)
    assert game.reasons == [(kind, 1, "empty")]
    assert (game.entries, game.seen["scratchpad"], game.seen["query"]) == ({1: "bees"}, "note", "bees")
    assert game.seen["progress"][0] == 1
