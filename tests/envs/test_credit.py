"""Hindsight credit: who gets what, worked out by hand, and that it always adds up to the reward (SPEC R7)."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.game import DOCUMENTS, QUESTIONS, STREAM_TOKENS, Game, released
from support.properties import RULES, Play, item

from atommem_gym.actions import Answer, Create, Delete, Read, Update, format_action
from atommem_gym.config import EnvConfig
from atommem_gym.envs.backend import Backend
from atommem_gym.envs.credit import KEY, Ledger, note, step_rewards
from atommem_gym.evidence import holds
from atommem_gym.records.record import Evidence, Item, Record
from atommem_gym.step import StepResult
from atommem_gym.testing import budget
from atommem_gym.testing.strategies import actions

ADA, BERN = (piece.text for piece in QUESTIONS[0].evidence)
ANSWERS = [question.answer for question in QUESTIONS]


def credited(game: Game, *texts: str) -> dict[str, Any]:
    """The credit after these actions, which end the episode; on the way the ledger survives pickling and copying."""
    for text in texts:
        ledger = Ledger.of(game.episode)
        game.episode.ledger = pickle.loads(pickle.dumps(ledger.branch()))
        game.step(text)
        note(game.episode, game.result.info)
    assert game.episode.state.over
    found: dict[str, Any] = game.result.info[KEY]
    check_sums(found, game.result, game)
    return found


def check_sums(credit: dict[str, Any], result: StepResult, game: Game) -> None:
    shares = [one["credit"] for one in credit["operations"]]
    assert all(share >= 0 for share in shares)
    assert math.isclose(math.fsum(shares), result.reward, abs_tol=1e-12)
    assert math.isclose(math.fsum(credit["by_step"]), result.reward, abs_tol=1e-12)
    assert len(credit["by_step"]) == game.episode.state.steps
    for step, earned in enumerate(credit["by_step"]):
        mine = [one["credit"] for one in credit["operations"] if one["step"] == step]
        assert math.isclose(math.fsum(mine), earned, abs_tol=1e-12)
    assert step_rewards(result.info) == credit["by_step"]


def shares(credit: dict[str, Any]) -> list[tuple[str, int | None, float]]:
    return [(one["operation"], one["entry"], pytest.approx(one["credit"])) for one in credit["operations"]]


READ, RIGHT = "<read>Ada Bern river Aare</read>", f"<answer>{ANSWERS[0]}</answer>"


def test_R7_evidence_goes_to_the_operations_that_brought_it_and_nothing_to_the_rest() -> None:
    found = credited(
        Game(chunks=1),
        f"<create>{ADA}</create><create>rain</create><create>{BERN}</create>",
        READ,
        RIGHT,
    )
    assert shares(found) == [("create", 1, 0.5), ("create", 2, 0.0), ("create", 3, 0.5)]
    assert found["by_step"] == [1.0, 0.0, 0.0]
    assert found["operations"][2] == {"step": 0, "position": 3, "operation": "create", "entry": 3, "credit": 0.5}


def test_R7_an_update_earns_what_it_brings_and_not_what_it_keeps() -> None:
    both = f"{ADA} {BERN}"
    actions = [f"<create>{ADA}</create>", f'<update id="1">{both}</update>', f'<update id="1">So: {both}</update>']
    found = credited(Game(chunks=3), *actions, READ, RIGHT)
    assert shares(found) == [("create", 1, 0.5), ("update", 1, 0.5), ("update", 1, 0.0)]
    lost_and_found = [
        f"<create>{both}</create>",
        '<update id="1">nothing</update>',
        f'<update id="1">{both}</update>',
    ]
    found = credited(Game(chunks=3), *lost_and_found, READ, RIGHT)
    assert shares(found) == [("create", 1, 0.0), ("update", 1, 0.0), ("update", 1, 1.0)]


def test_R7_a_wrong_answer_earns_nothing() -> None:
    found = credited(Game(chunks=1), f"<create>{ADA}</create><create>{BERN}</create>", READ, "<answer>Rhine</answer>")
    assert shares(found) == [("create", 1, 0.0), ("create", 2, 0.0)]


def test_R7_a_guess_earns_for_itself() -> None:
    found = credited(Game(chunks=1), f"<create>{ADA}</create>", RIGHT)
    assert shares(found) == [("create", 1, 0.0), ("answer", None, 1.0)]
    assert found["operations"][1]["step"] == 1
    assert found["operations"][1]["position"] == 1


def test_R7_what_only_the_scratchpad_held_goes_to_the_answer() -> None:
    start = f"<create>{ADA}</create><scratchpad>{BERN}</scratchpad>"
    assert shares(credited(Game(chunks=1), start, READ, RIGHT)) == [("create", 1, 0.5), ("answer", None, 0.5)]


def test_R7_where_no_evidence_was_in_sight_all_entries_shown_share() -> None:
    start = "<create>Ada: the Aare, I think</create><create>Aare river</create><create>zzz</create><delete id='3'/>"
    found = credited(Game(chunks=1), start, READ, RIGHT)
    assert shares(found) == [("create", 1, 0.5), ("create", 2, 0.5), ("create", 3, 0.0), ("delete", 3, 0.0)]


def test_R7_each_question_has_its_part_and_what_was_shown_for_it() -> None:
    game = Game(chunks=1, questions=2, top_k=2)
    zoe, graz = (piece.text for piece in QUESTIONS[1].evidence)
    start = "".join(f"<create>{text}</create>" for text in (ADA, BERN, zoe, graz))
    found = credited(game, start, f"<read>{ADA} {BERN}</read>", RIGHT, "<answer>unknown</answer>")
    assert shares(found) == [("create", 1, 0.25), ("create", 2, 0.25), ("create", 3, 0.0), ("create", 4, 0.0)]


def test_R7_a_delete_that_made_room_shares_with_the_create_that_needed_it() -> None:
    game = Game(chunks=4, max_entries=2)
    steps = [
        "<create>rain</create><delete id='1'/><create>snow</create><create>hail</create>",  # the first was not needed
        f"<create>{ADA}</create>",  # rejected: memory is full
        f"<delete id='2'/><create>{ADA}</create>",
        f"<delete id='3'/><create>{BERN}</create><delete id='77'/>",
    ]
    found = credited(game, *steps, READ, RIGHT)
    # Of "rain", "snow", "hail" the third needed the place of the first, the later ones those of "snow" and "hail".
    assert [one for one in shares(found) if one[2] != 0] == [
        ("delete", 2, 0.25),
        ("create", 4, 0.25),
        ("delete", 3, 0.25),
        ("create", 5, 0.25),
    ]
    assert len(found["operations"]) == 8
    unlimited = credited(Game(chunks=4), *[step.replace("77", "9") for step in steps], READ, RIGHT)
    assert sum(one["credit"] for one in unlimited["operations"] if one["operation"] == "delete") == 0


def test_R7_room_is_taken_in_the_order_in_which_it_was_made() -> None:
    both = f"<create>{ADA} {BERN}</create>"
    made = "<create>rain</create><create>snow</create><delete id='2'/><delete id='1'/>"
    found = credited(Game(chunks=1, max_entries=2), f"{made}{both}<create>hail</create>", READ, RIGHT)
    assert [one for one in shares(found) if one[2] != 0] == [("delete", 2, 0.5), ("create", 3, 0.5)]


CODE = "7QK2-M4XP"


GONE = Record("g", "The code?", "", DOCUMENTS, (), (), answerable=False)


def erasing(*questions: Record, answerable: bool = True) -> Game:
    game = Game(chunks=1)
    asked = questions or (QUESTIONS[0] if answerable else GONE,)
    game.running = game.backend.new_episode(Item("erasing/0", 0, 0, asked, DOCUMENTS, (CODE,)))
    game.episode = game.running.episode
    game.result = game.backend.run([(game.running, game.episode.open())])[0]
    return game


def test_R7_a_delete_that_erased_what_had_to_go_is_a_piece_of_every_right_answer() -> None:
    start = f"<create>code {CODE}</create><create>{ADA}</create><create>{BERN}</create><create>rain</create>"
    gone = '<update id="1">nothing</update><delete id="1"/><delete id="4"/>' + READ
    third = pytest.approx(1 / 3)
    found = credited(erasing(answerable=True), start, gone, RIGHT)
    assert [one for one in shares(found) if one[2] != 0] == [
        ("create", 2, third),
        ("create", 3, third),
        ("delete", 1, third),
    ]
    found = credited(erasing(answerable=False), f"<create>code {CODE}</create>", '<delete id="1"/>', "<answer/>")
    assert [one for one in shares(found) if one[2] != 0] == [("delete", 1, 1.0)]
    too_late = credited(erasing(answerable=False), f"<create>code {CODE}</create>", '<delete id="1"/><answer/>')
    assert sum(one["credit"] for one in too_late["operations"]) == 0


def test_R7_a_delete_earns_nothing_of_what_was_answered_before_it() -> None:
    late = f"<create>code {CODE}</create>", '<delete id="1"/>', "<answer/>"
    found = credited(erasing(GONE, GONE), "", "<answer/>", *late)
    assert [one for one in shares(found) if one[2] != 0] == [("answer", None, 0.5), ("delete", 1, 0.5)]


def test_R7_an_erased_code_is_one_piece_that_goes_to_the_last_delete_of_it() -> None:
    wrote = f"<create>{ADA}</create><create>{BERN}</create><create>code {CODE}</create>"
    again = f"<delete id='3'/><create>my own {CODE}</create>", f"<delete id='4'/>{READ}"
    found = credited(erasing(), wrote, *again, RIGHT)
    third = pytest.approx(1 / 3)
    assert [one for one in shares(found) if one[2] != 0] == [
        ("create", 1, third),
        ("create", 2, third),
        ("delete", 4, third),
    ]


def test_R7_a_delete_of_what_never_came_into_memory_erases_nothing() -> None:
    farm = "".join(f"<create>{CODE}</create><delete id='{number}'/>" for number in range(3, 9))
    found = credited(erasing(), f"<create>{ADA}</create><create>{BERN}</create>{farm}", READ, RIGHT)
    assert [one for one in shares(found) if one[2] != 0] == [("create", 1, 0.5), ("create", 2, 0.5)]


def test_R7_a_text_counts_as_it_was_stored_also_if_its_entry_changes_again_in_the_same_action() -> None:
    long = "rain " * 60 + ADA
    found = credited(
        Game(chunks=1, max_entry_tokens=40), f"<create>{long}</create><update id='1'>{ADA}</update>", READ, RIGHT
    )
    assert [one for one in shares(found) if one[2] != 0] == [("update", 1, 1.0)]


def boxed(answer: str) -> str:
    return f"<final_answer>\\boxed{{{answer}}}</final_answer>"


def test_R7_an_update_of_the_released_preset_keeps_the_history_of_the_entry_that_it_replaces() -> None:
    steps = [
        f"<add_memory>{ADA}</add_memory><update_query>{ADA}</update_query>",
        f"<modify_memory>Memory 1: {ADA} Indeed. {BERN}</modify_memory>",
        f"<update_query>{ADA}</update_query>",
    ]
    found = credited(released(chunks=2), *steps, boxed(ANSWERS[0]))
    assert shares(found) == [("create", 1, 0.5), ("update", 2, 0.5)]


def test_R7_an_update_of_the_released_preset_takes_no_further_place() -> None:
    steps = [
        "<add_memory>rain</add_memory><update_query>rain</update_query>",
        "<modify_memory>Memory 1: snow</modify_memory><update_query>snow</update_query>",
        "<delete_memory>Memory 1</delete_memory>",
        f"<add_memory>{ADA} {BERN}</add_memory><update_query>{ADA}</update_query>",
    ]
    found = credited(released(chunks=4, max_entries=2), *steps, boxed(ANSWERS[0]))
    assert [one for one in shares(found) if one[2] != 0] == [("create", 3, 1.0)]
    # The third entry that is created needs the place that the delete has made.
    steps[-1] = f"<add_memory>hail</add_memory>{steps[-1]}"
    found = credited(released(chunks=4, max_entries=2), *steps, boxed(ANSWERS[0]))
    assert [one for one in shares(found) if one[2] != 0] == [("delete", 2, 0.5), ("create", 4, 0.5)]


def test_R7_an_answer_has_its_own_position_after_a_read_over_the_limit_has_closed_a_question() -> None:
    reads = "<update_query>a</update_query><update_query>b</update_query>"
    game = released(chunks=1, questions=2, max_reads_per_question=1)
    found = credited(game, "<add_memory></add_memory>", reads + boxed(ANSWERS[1]))
    assert [one["closed"] for one in game.result.info["episode_metrics"]["answers"]] == ["read_limit", "answered"]
    assert found["operations"][-1] == {"step": 1, "position": 3, "operation": "answer", "entry": None, "credit": 0.5}


def test_R7_an_abstention_rests_on_nothing_that_was_shown() -> None:
    found = credited(erasing(answerable=False), "<create>rain</create>", "<read>rain</read>", "<answer/>")
    assert shares(found) == [("create", 1, 0.0), ("answer", None, 1.0)]


def test_R7_an_early_answer_rests_on_what_its_observation_showed() -> None:
    game = Game(chunks=5, early_answer=True)
    found = credited(game, f"<create>{ADA} {BERN}</create>{READ}", RIGHT)
    assert shares(found) == [("create", 1, 1.0)]


def test_R7_what_stood_in_memory_before_goes_to_the_answer() -> None:
    game = Game(chunks=2)
    game.step(f"<create>{ADA}</create>")  # without a ledger
    found = credited(game, f"<create>{BERN}</create>", READ, RIGHT)
    assert shares(found) == [("create", 2, 0.5), ("answer", None, 0.5)]
    assert found["begun"] == 1


def test_R7_the_lenient_heuristic_counts_where_the_text_is_not_exact() -> None:
    paraphrased = [f"{piece.title}: {piece.hop_answer}, so to say" for piece in QUESTIONS[0].evidence]
    start = "".join(f"<create>{text}</create>" for text in ("rain", *paraphrased))
    found = credited(Game(chunks=1), start, READ, RIGHT)
    assert shares(found) == [("create", 1, 0.0), ("create", 2, 0.5), ("create", 3, 0.5)]


def test_R7_a_truncated_episode_and_one_without_answers_earn_what_was_answered() -> None:
    game = Game(chunks=1, questions=2, max_steps=3)
    found = credited(game, f"<create>{ADA}</create><create>{BERN}</create>", READ, RIGHT)
    assert game.result.truncated
    assert found["by_step"] == [0.5, 0.0, 0.0]
    nothing = credited(Game(chunks=1, max_steps=1), "<create></create><update id='1'>x</update><delete id='x'/>")
    assert nothing == {"operations": [], "by_step": [0.0], "begun": 0}


@pytest.fixture(scope="module")
def backends() -> Iterator[list[Backend]]:
    made = [EnvConfig.from_keywords({"chunk_tokens": STREAM_TOKENS // 3, "store": "numpy", **r}) for r in RULES]
    opened = [Backend(config) for config in made]
    yield opened
    for backend in opened:
        backend.close()


def useful(dialect: str) -> st.SearchStrategy[str]:
    """Actions that write and look for evidence, and answer right, so that there is something to share."""
    texts = [piece.text for question in QUESTIONS for piece in question.evidence]
    short = st.sampled_from([*texts, "rain", " ".join(texts)])
    drawn = st.one_of(
        st.builds(Create, short),
        st.builds(Update, st.integers(1, 5), short),
        st.builds(Delete, st.integers(1, 5)),
        st.builds(Read, short),
        st.builds(Answer, st.sampled_from(ANSWERS)),
    )
    return st.lists(drawn, min_size=1, max_size=4).map(lambda ops: format_action(ops, dialect))


@given(data=st.data(), rules=st.integers(0, len(RULES) - 1), questions=st.integers(1, 3))
@budget(60)
def test_R7_credits_add_up_to_the_reward_whatever_is_done(
    backends: list[Backend], data: st.DataObject, rules: int, questions: int
) -> None:
    backend = backends[rules]
    dialect = backend.config.dialect
    ugly = actions(dialect, hostile=True)
    played = data.draw(st.lists(st.one_of(useful(dialect), useful(dialect), ugly), min_size=0, max_size=12))
    forked_at = data.draw(st.integers(0, 12))
    with Play(backend, item(questions)) as game:
        forks = []
        for number in range(60):
            if number == forked_at and game.episode.ledger is not None:
                forks = [Play(backend, running=one) for one in backend.fork(game.running, 1)]
            text = played[number] if number < len(played) else format_action([], dialect)
            for one in (game, *forks):
                Ledger.of(one.episode)
                result = one.step(text)
                note(one.episode, result.info)
            if game.over:
                break
        assert game.over
        found = game.result.info[KEY]
        check_sums(found, game.result, game)
        assert all(fork.result.info[KEY] == found for fork in forks)
        backend.release([fork.running for fork in forks])
        executed = game.result.info["episode_metrics"]["operations"]
        kinds = ("create", "update", "delete")
        written = [one["operation"] for one in found["operations"] if one["operation"] != "answer"]
        assert len(written) == sum(executed.get(kind, 0) for kind in kinds)
        once = [(one["step"], one["position"], one["operation"]) for one in found["operations"]]
        assert len(set(once)) == len(once)


def test_R7_a_ledger_that_is_branched_goes_on_by_itself() -> None:
    game = Game(chunks=3)
    ledger = Ledger.of(game.episode)
    game.step(f"<create>{ADA}</create>{READ}")
    note(game.episode, game.result.info)
    twin = ledger.branch()
    before = copy.deepcopy(twin)
    assert twin == ledger
    for text in (f'<update id="1">{BERN}</update>', "<create>x</create>", READ, READ):
        game.step(text)
        note(game.episode, game.result.info)
    assert twin == before != ledger
    assert holds(Evidence("Ada", ADA, "Bern"), twin.versions[1][0].text)
