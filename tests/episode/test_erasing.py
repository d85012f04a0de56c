"""What was to be erased must be gone before a question is answered, or it does not count (SPEC D9)."""

from __future__ import annotations

import asyncio
import json
import pickle
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.fixed_items import OneItem

from atommem_gym.actions import Create, Delete, Operation, Scratchpad, Update, format_action
from atommem_gym.envs import AtomMemPool
from atommem_gym.envs.team import parallel_env
from atommem_gym.errors import SnapshotError
from atommem_gym.memory.memory import squeezed
from atommem_gym.records.record import Document, Evidence, Item, Record
from atommem_gym.scoring import Scorer, ScoreRequest
from atommem_gym.testing import budget
from atommem_gym.traces import TraceRecorder
from atommem_gym.traces.rescore import recorded_requests, rescore

CODE, OTHER = "7QK2-M4XP", "ZZ99-BBBB"
DOCUMENTS = (Document("Depot", f"The gate code is {CODE}."), Document("Depot", "Please erase the gate code."))
KEPT = Record("k", "Who keeps the depot?", "Ada", DOCUMENTS, (0,), (Evidence("Depot", DOCUMENTS[0].text, ""),))
GONE = Record("g", "What is the gate code?", "", DOCUMENTS, (), (), answerable=False, trap=CODE)
SPELLED = [
    *(CODE, CODE.lower(), "7QK2M4XP", "7 Q K 2 m 4 x p", "7Q.K2/M4-XP", "\uff17QK2-M4XP", "7QK2\u200b-M4XP"),
    *("so 7QK2, an M4XP!", "7QK2\nM4XP", "x7QK2-M4XPx"),
]


def item(*questions: Record, erased: tuple[str, ...] = (CODE,)) -> Item:
    return Item("erasing/0", 0, 0, questions or (KEPT, GONE), DOCUMENTS, erased)


def env(*questions: Record, erased: tuple[str, ...] = (CODE,), **keywords: Any) -> Any:
    items = OneItem(item(*questions, erased=erased))
    return gym.make("AtomMem-Drift-v0", items=items, **{"store": "numpy", "question_visible": "end", **keywords})


def answers(made: Any, *actions: str) -> list[dict[str, Any]]:
    """What became of the questions after these actions, the first while reading."""
    made.reset(options={"index": 0})
    for action in actions:
        *_, info = made.step(action)
    found: list[dict[str, Any]] = info["episode_metrics"]["answers"]
    return found


END = ("<answer>Ada</answer>", "<answer>unknown</answer>")


def closed(found: list[dict[str, Any]]) -> list[tuple[str, float]]:
    return [(one["closed"], one["em"]) for one in found]


RIGHT = [("answered", 1.0), ("answered", 1.0)]
LOST = [("not_erased", 0.0), ("not_erased", 0.0)]


@pytest.mark.parametrize("spelled", SPELLED)
def test_D9_no_question_counts_while_an_entry_holds_an_erased_code(spelled: str) -> None:
    assert closed(answers(env(), f"<create>the code: {spelled}</create>", *END)) == LOST
    assert closed(answers(env(), f"<create>the code: {spelled}</create>", '<delete id="1"/>' + END[0], END[1])) == [
        LOST[0],
        RIGHT[1],
    ]


@pytest.mark.parametrize("text", ["7QK2", "M4XP", "7QK2 and then M4XP", "7QK2-M4XQ", OTHER, "the gate code is gone"])
def test_D9_what_is_no_erased_code_may_be_kept(text: str) -> None:
    assert closed(answers(env(), f"<create>{text}</create>", *END)) == RIGHT


def test_D9_an_update_keeps_an_entrys_history_and_only_delete_removes_it() -> None:
    tell, rewrite = f"<create>{CODE}</create>", '<update id="1">nothing</update>'
    assert closed(answers(env(), tell + rewrite, *END)) == LOST
    assert closed(answers(env(), tell, rewrite * 3 + END[0], rewrite + END[1])) == LOST
    assert closed(answers(env(), tell + '<delete id="1"/><create>nothing</create>', *END)) == RIGHT
    # A code that comes by an update, and goes by the next.
    by_update = f'<create>a</create><update id="1">{CODE}</update><update id="1">a</update>'
    assert closed(answers(env(), by_update, *END)) == LOST
    assert closed(answers(env(), by_update + '<delete id="1"/>', *END)) == RIGHT


def test_D9_what_was_cut_away_was_never_held() -> None:
    made = env(max_entry_tokens=8)
    assert closed(answers(made, f"<create>one two three four five six seven eight {CODE}</create>", *END)) == RIGHT


def test_D9_the_state_that_counts_is_the_one_before_the_closing_action() -> None:
    tell, drop = f"<create>{CODE}</create>", '<delete id="1"/>'
    assert closed(answers(env(), tell, drop + END[0], END[1])) == [LOST[0], RIGHT[1]]
    assert closed(answers(env(), "", f"{tell}{END[0]}", END[1])) == [RIGHT[0], LOST[1]]
    assert closed(answers(env(), tell, f"{END[0]}{drop}", END[1])) == [LOST[0], RIGHT[1]]


def test_D9_a_scratchpad_counts_by_what_it_holds_now() -> None:
    write, wipe = f"<scratchpad>see {CODE.lower()}</scratchpad>", "<scratchpad>nothing</scratchpad>"
    assert closed(answers(env(), write, *END)) == LOST
    assert closed(answers(env(), write + wipe, *END)) == RIGHT
    assert closed(answers(env(), write, wipe + END[0], END[1])) == [LOST[0], RIGHT[1]]


def test_D9_without_erased_codes_nothing_changes() -> None:
    assert closed(answers(env(erased=()), f"<create>{CODE}</create>", *END)) == RIGHT


def test_D9_R5_an_abstention_that_does_not_count_is_none() -> None:
    made = env()
    for action, em, precision, recall in (
        ("", 1.0, 1.0, 1.0),
        (f"<create>{CODE}</create>", 0.0, None, 0.0),
    ):
        made.reset(options={"index": 0})
        for one in (action, *END):
            _, reward, *_, info = made.step(one)
        metrics = info["episode_metrics"]
        found = (metrics["em_answerable"], metrics["abstention_precision"], metrics["abstention_recall"])
        assert found == (em, precision, recall)
        assert reward == metrics["em"]


class Counting:
    """A scorer that counts what it is asked."""

    name = "counting"
    asked = 0

    def score(self, requests: Any) -> list[float]:
        self.asked += len(requests)
        return [1.0] * len(requests)


def test_D9_no_scorer_is_asked_about_what_does_not_count() -> None:
    scorer = Counting()
    assert isinstance(scorer, Scorer)
    made = env(KEPT, reward=scorer)
    assert [one["score"] for one in answers(made, f"<create>{CODE}</create>", END[0])] == [0.0]
    assert scorer.asked == 0
    assert [one["score"] for one in answers(made, "", END[0])] == [1.0]
    assert scorer.asked == 1


TEXTS = st.sampled_from(["a", "b c", CODE, CODE.lower(), "7QK2 M4XP", OTHER, "zz99bbbb", f"{CODE} {OTHER}"])
OPERATIONS = st.one_of(
    st.builds(Create, TEXTS),
    st.builds(Update, st.integers(1, 6), TEXTS),
    st.builds(Delete, st.integers(1, 6)),
    st.builds(Scratchpad, TEXTS),
)


@given(
    st.lists(st.lists(OPERATIONS, max_size=5), min_size=1, max_size=5), st.sampled_from([(CODE,), (CODE, OTHER), ()])
)
@budget(60)
def test_D9_a_question_counts_by_the_histories_of_live_entries(
    steps: list[list[Operation]], erased: tuple[str, ...]
) -> None:
    histories: dict[int, list[str]] = {}
    notes, next_id = "", 1
    made = env(KEPT, GONE, erased=erased, max_steps=20)
    made.reset(options={"index": 0})
    for operations in (steps[0], *steps[1:]):
        made.step(format_action(operations, "crud"))
        for op in operations:
            if isinstance(op, Create):
                histories[next_id], next_id = [op.text], next_id + 1
            elif isinstance(op, Update) and op.id in histories:
                histories[op.id].append(op.text)
            elif isinstance(op, Delete):
                histories.pop(op.id, None)
            elif isinstance(op, Scratchpad):
                notes = op.text
    held = [
        text.replace(" ", "").replace("-", "").lower() for texts in (*histories.values(), [notes]) for text in texts
    ]
    spoilt = any(code.replace("-", "").lower() in text for code in erased for text in held)
    for answer in END:
        *_, info = made.step(answer)
    assert closed(info["episode_metrics"]["answers"]) == (LOST if spoilt else RIGHT)


# -- every form


def test_D9_histories_survive_a_snapshot() -> None:
    made = env()
    made.reset(options={"index": 0})
    made.step(f'<create>{CODE}</create><create>fine</create><update id="1">nothing</update>')
    saved = pickle.loads(pickle.dumps(made.unwrapped.snapshot()))
    for drop, wanted in (("", LOST), ('<delete id="2"/>', LOST), ('<delete id="1"/>', RIGHT)):
        fresh = env().unwrapped
        fresh.restore(saved)
        fresh.step(drop)
        for answer in END:
            *_, info = fresh.step(answer)
        assert closed(info["episode_metrics"]["answers"]) == wanted


def test_D9_vector_and_pool_are_as_the_plain_environment() -> None:
    actions = [f"<create>{CODE}</create>", '<delete id="1"/>' + END[0], END[1]]
    alone = answers(env(), *actions)
    assert closed(alone) == [LOST[0], RIGHT[1]]
    keywords = {"store": "numpy", "question_visible": "end", "items": OneItem(item())}
    envs: Any = gym.make_vec("AtomMem-Drift-v0", num_envs=2, **keywords)
    envs.reset(options={"index": [0, 0]})
    for action in actions:
        *_, infos = envs.step([action, ""])
    assert infos["episode_metrics"]["answers"][0] == alone
    envs.close()

    async def play() -> Any:
        async with AtomMemPool("AtomMem-Drift-v0", capacity=2, **keywords) as pool, pool.env() as one:
            await one.areset(options={"index": 0})
            for action in actions:
                *_, info = await one.astep(action)
            return info["episode_metrics"]["answers"]

    assert asyncio.run(play()) == alone


def test_D9_a_team_answers_for_all_entries_and_all_scratchpads() -> None:
    def team(reader: str, then: str = "") -> list[tuple[str, float]]:
        made = parallel_env(
            task="Drift", readers=1, store="numpy", question_visible="end", items=OneItem(item()), max_steps=9
        )
        made.reset(options={"index": 0})
        made.step({"reader_0": reader, "answerer_0": ""})
        made.step({"reader_0": then, "answerer_0": ""})
        for answer in END:
            *_, infos = made.step({"reader_0": "", "answerer_0": answer})
        made.close()
        return closed(infos["answerer_0"]["episode_metrics"]["answers"])

    tell = f"<create>{CODE}</create>"
    assert team(tell) == LOST
    assert team(tell, '<update id="1">nothing</update>') == LOST
    assert team(tell, '<delete id="1"/>') == RIGHT
    assert team(f"<scratchpad>{CODE}</scratchpad>") == LOST
    assert team(f"<scratchpad>{CODE}</scratchpad>", "<scratchpad>gone</scratchpad>") == RIGHT


def test_D9_the_released_update_deletes_and_adds_and_keeps_the_history() -> None:
    made = env(KEPT, preset="released", early_answer=False, sticky_query=False, initial_query="")
    made.reset(options={"index": 0})
    made.step(f"<add_memory>{CODE}</add_memory><update_query>code</update_query>")
    made.step("<modify_memory>Memory 1: nothing</modify_memory><update_query>nothing</update_query>")
    memory = made.unwrapped.episode.state.memory
    assert [(entry.text, entry.held) for entry in memory.entries.values()] == [("nothing", (squeezed(CODE),))]
    *_, info = made.step("<final_answer>\\boxed{Ada}</final_answer>")
    assert closed(info["episode_metrics"]["answers"]) == [("not_erased", 0.0)]


def test_D9_a_kept_memory_is_judged_by_its_texts(tmp_path: Path) -> None:
    items = OneItem(item())
    made: Any = gym.make("AtomMem-Drift-v0", items=items, store=f"milvus://{tmp_path}/kept.db", question_visible="end")
    made.reset(options={"index": 0})
    for action in (f"<create>{CODE}</create>", *END):
        made.step(action)
    key = made.unwrapped.memory_key
    for first, wanted in (("", LOST), ('<update id="1">nothing</update>', LOST), ('<delete id="1"/>', RIGHT)):
        made.reset(options={"index": 0, "memory": key})
        for action in (first, *END):
            *_, info = made.step(action)
        assert closed(info["episode_metrics"]["answers"]) == wanted
        if wanted == LOST and first:
            made.reset(options={"index": 0, "memory": key})
            made.step(f'<update id="1">{CODE}</update>')
    made.close()


def test_D9_traces_tell_and_rescoring_keeps_what_does_not_count() -> None:
    made = env()
    recorder = TraceRecorder("AtomMem-Custom", {}, "by hand")
    observation, info = made.reset(options={"index": 0})
    recorder.reset(made.unwrapped.episode, observation, info)
    for action in (f"<create>{CODE}</create>", END[0], '<delete id="1"/>', END[1]):
        recorder.step(action, *made.step(action))
    trace = recorder.finish()
    assert [one["closed"] for one in trace.metrics["answers"]] == ["not_erased", "answered"]
    assert trace.causes == ("not erased", None)
    [again] = rescore([trace], Counting())
    assert again.rescores[0].scores == (0.0, 1.0)
    assert [one for one, _ in recorded_requests(trace)] == [ScoreRequest(GONE.question, "unknown", ("",), False)]
    assert json.dumps(trace.metrics)


def test_D9_M14_a_snapshot_knows_what_is_to_be_erased_and_its_entries_histories() -> None:
    made = env()
    made.reset(options={"index": 0})
    made.step(f"<create>{CODE}</create>")
    saved = made.unwrapped.snapshot()
    with pytest.raises(SnapshotError, match="whose answers were others"):
        env(erased=(OTHER,)).unwrapped.restore(saved)
    entries = saved["episode"]["state"].memory.entries
    entries[1] = entries[1]._replace(held=None)
    with pytest.raises(SnapshotError, match="entries must be made of an Entry"):
        env().unwrapped.restore(saved)
