"""The test kit itself: it passes what is right, says which rule is broken, and its manual page does what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test

import atommem_gym  # noqa: F401  (registers the ids)
from atommem_gym.actions import Delete, Invalid, format_action, parse
from atommem_gym.envs import SyntheticEnv
from atommem_gym.memory.protocols import Rows, Search, Store, StoredEpisode, Write
from atommem_gym.stores.numpy_store import NumpyStore
from atommem_gym.testing import (
    HOSTILE_TEXTS,
    MemoryEnvMachine,
    MemoryStoreMachine,
    NetEffect,
    actions,
    budget,
    check_memory_env,
    episodes,
    hostile_texts,
    items,
    operations,
    records,
)

ROOT = Path(__file__).resolve().parents[2]
MANUAL = ROOT / "docs" / "testing.md"
DIALECTS = ["crud", "tools", "released"]
FAILING = settings(
    derandomize=True, database=None, stateful_step_count=12, phases=[Phase.generate], deadline=None, max_examples=500
)
"""Finds a failure and does not shrink it."""


_GROUPS: tuple[type[BaseException], ...] = (ExceptionGroup,) if sys.version_info >= (3, 11) else ()  # noqa: F821
"""One defect may break several rules, and Hypothesis then raises a group."""


# -- the manual page


def test_the_manual_page_does_and_prints_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    page = MANUAL.read_text(encoding="utf-8")
    blocks = re.findall(r"^```(python|text)\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {"__name__": "manual", "NetEffect": NetEffect}
    printed = ""
    for language, block in blocks:
        if language == "text" and "state = " in block:
            # Which run of steps Hypothesis ends with depends on its version: that it fails, and that the run on the
            # page fails as printed there, does not.
            assert "Failing test case" in printed or "Falsifying example" in printed
            check_failing_run(block, names)
        elif language == "text":
            assert block.strip() == printed.strip()
        else:
            known = set(names)
            exec(compile(block, str(MANUAL), "exec"), names)
            printed = capsys.readouterr().out
            for name in sorted(set(names) - known):
                if name.startswith("test_"):
                    names[name]()
                elif name.startswith("Test"):
                    printed += run(names[name])


def check_failing_run(block: str, names: dict[str, Any]) -> None:
    """The run of steps in a printed failure is Python; playing it must raise the error printed above it."""
    error, _, *steps = block.strip().splitlines()
    assert steps.pop() == "state.teardown()"
    with pytest.raises(AssertionError, match=f"^{re.escape(error.removeprefix('AssertionError: '))}$"):
        exec("\n".join(steps), names)
    names["state"].teardown()


def run(case: Any) -> str:
    """What a failing test case of a machine prints; empty if it passes."""
    try:
        case("runTest").runTest()
    except AssertionError as error:
        return "\n".join([f"AssertionError: {error}", *error.__notes__])
    return ""


# -- the machines find what is broken


class _Broken(NumpyStore):
    """Right in everything; each of the stores below breaks one thing."""


class _MixesEpisodes(_Broken):
    def candidates(self, searches: Any) -> list[Rows]:
        keys = self.episodes()
        return super().candidates([Search(keys[0] if keys else s.episode, s.vector, s.k) for s in searches])


class _ProposesTooFew(_Broken):
    def candidates(self, searches: Any) -> list[Rows]:
        return [Rows(rows.ids[: s.k], rows.vectors[: s.k]) for rows, s in zip(super().candidates(searches), searches)]  # noqa: B905


class _DropsAll(_Broken):
    def drop(self, episodes: Any) -> None:
        super().drop(self.episodes() if episodes else [])


class _KeepsDeleted(_Broken):
    def write(self, writes: Any) -> None:
        super().write([Write(w.episode, w.ids, w.texts, w.vectors, list(w.deletes)[:1]) for w in writes])


class _StripsText(_Broken):
    def load(self, episode: str) -> StoredEpisode | None:
        stored = super().load(episode)
        if stored is None:
            return None
        return StoredEpisode(stored.ids, tuple(t.strip("\0") for t in stored.texts), stored.vectors, stored.state)


class _Rounds(_Broken):
    def candidates(self, searches: Any) -> list[Rows]:
        return [Rows(rows.ids, rows.vectors.round(2)) for rows in super().candidates(searches)]


class _FirstOfBatch(_Broken):
    def write(self, writes: Any) -> None:
        super().write(writes[:1])


class _ForgetsItsFile(_Broken):
    kept = True


@pytest.mark.parametrize(
    "store",
    [_MixesEpisodes, _ProposesTooFew, _DropsAll, _KeepsDeleted, _StripsText, _Rounds, _FirstOfBatch, _ForgetsItsFile],
)
def test_the_store_machine_finds_every_kind_of_broken_store(store: Callable[[int], Store]) -> None:
    broken = type("Machine", (MemoryStoreMachine,), {"open_store": lambda self, dim: store(dim)})
    with pytest.raises((AssertionError, *_GROUPS)):
        run_state_machine_as_test(broken, settings=FAILING)


def test_a_machine_without_a_store_says_what_to_override() -> None:
    with pytest.raises(NotImplementedError, match=r"override open_store\(self, dim\)"):
        run_state_machine_as_test(MemoryStoreMachine, settings=FAILING)


def test_the_env_machine_refuses_rules_that_its_model_does_not_know() -> None:
    class Machine(MemoryEnvMachine):
        def make_env(self) -> gym.Env[Any, str]:
            return gym.make("AtomMem-Synthetic-v0", num_docs=16, store="numpy", dialect="tools")

    with pytest.raises(ValueError, match=r"this environment has \{'dialect': 'tools'\}"):
        run_state_machine_as_test(Machine, settings=FAILING)


# -- environments with one defect each


class _Env(SyntheticEnv):
    """Small, and right in everything."""

    def __init__(self, **keywords: Any) -> None:
        super().__init__(num_docs=16, chunk_tokens=300, store="numpy", **keywords)


class _ShowsAtOnce(_Env):
    """Shows what a read will find one step too early: it plays its own step twice."""

    def step(self, action: str) -> Any:
        result = super().step(action)
        return result if any(result[2:4]) else super().step("<read>honey bees</read>")


class _ReusesIds(_Env):
    def step(self, action: str) -> Any:
        result = super().step(action)
        memory = self.episode.state.memory
        memory.next_id = max(memory.entries, default=0) + 1
        return result


class _PaysEarly(_Env):
    def step(self, action: str) -> Any:
        observation, reward, *rest = super().step(action)
        return observation, reward + 0.1, *rest


class _Unlucky(_Env):
    """Another item every time."""

    count = 0

    def reset(self, **keywords: Any) -> Any:
        _Unlucky.count += 1
        return super().reset(options={"index": _Unlucky.count})


class _Chokes(_Env):
    def step(self, action: str) -> Any:
        action.encode()
        return super().step(action)


class _StepsAfterTheEnd(_Env):
    def step(self, action: str) -> Any:
        if self._current.exists and self.episode.state.over:
            return self.last
        self.last = super().step(action)
        return self.last


class _ForgetsTheMemoryInSnapshots(_Env):
    def restore(self, snapshot: Any) -> None:
        super().restore(snapshot)
        self.episode.state.memory.next_id += 1


class _Talks(_Env):
    """All instances share one scratchpad."""

    shared: Any = ""

    def step(self, action: str) -> Any:
        result = super().step(action)
        said = self.episode.state.memory.scratchpad
        _Talks.shared = said or _Talks.shared
        return ({**result[0], "scratchpad": _Talks.shared}, *result[1:])

    def reset(self, **keywords: Any) -> Any:
        if not self._current.exists or self.episode.state.steps:
            _Talks.shared = ""
        return super().reset(**keywords)


@pytest.mark.parametrize(
    ("broken", "rule"),
    [
        (_ShowsAtOnce, "M11|M4"),
        (_ReusesIds, "M1"),
        (_PaysEarly, "R1"),
        (_Unlucky, "E8"),
        (_Chokes, "A3"),
        (_StepsAfterTheEnd, "E7"),
        (_ForgetsTheMemoryInSnapshots, "M14"),
        (_Talks, "M13"),
    ],
)
def test_check_memory_env_names_the_rule_that_is_broken(broken: type[_Env], rule: str) -> None:
    with pytest.raises(AssertionError, match=rf"^({rule}):"):
        check_memory_env(broken(), another=broken())


@pytest.mark.parametrize(
    "keywords",
    [
        {},
        {"preset": "released"},
        {"dialect": "tools", "store": "milvus"},
        {"addressing": "visible", "top_k": 1},
        {"storage": False},
        {"operations": ["create"], "scratchpad": False},
        {"sticky_query": True, "question_visible": "end", "questions_per_episode": 3},
        {"dialect": "released", "advance": "on_write", "early_answer": True, "max_steps": 5},
    ],
    ids=str,
)
def test_check_memory_env_passes_every_member_of_the_family(keywords: dict[str, Any]) -> None:
    env = gym.make("AtomMem-Synthetic-v0", **{"num_docs": 48, "chunk_tokens": 900, "store": "numpy", **keywords})
    check_memory_env(env)
    env.close()


def test_check_memory_env_says_what_it_needs() -> None:
    with pytest.raises(ValueError, match="pass one as another="):
        check_memory_env(_Env())
    with pytest.raises(ValueError, match="max_entries=1 leaves the battery no room"):
        check_memory_env(_Env(max_entries=1), another=_Env())
    with pytest.raises(AssertionError, match=r"E10: .* before it is wrapped"):
        check_memory_env(gym.wrappers.FlattenObservation(_Dicted()), another=_Env())


class _Dicted(gym.Env[Any, str]):
    observation_space = gym.spaces.Dict({"phase": gym.spaces.Discrete(2)})
    action_space = gym.spaces.Text(5)


# -- the strategies draw what they promise


@pytest.mark.parametrize("dialect", DIALECTS)
@given(data=st.data())
@budget(25)
def test_A6_valid_operations_can_be_written_and_actions_parsed(dialect: str, data: st.DataObject) -> None:
    op = data.draw(operations(dialect))
    assert parse(format_action([op], dialect), dialect) == [op]
    assert not any(isinstance(op, Invalid) for op in parse(data.draw(actions(dialect)), dialect))


def test_invalid_operations_and_hostile_texts_are_drawn() -> None:
    quick = settings(database=None, derandomize=True, max_examples=2000)
    assert find(operations(valid=False), lambda op: isinstance(op, Delete) and op.id < 0, settings=quick)
    assert find(hostile_texts(), lambda text: "\ud800" in text, settings=quick)
    assert find(actions(hostile=True), lambda text: any(map(_unclosed, parse(text))), settings=quick)
    assert max(map(len, HOSTILE_TEXTS)) < 10_000


def _unclosed(op: object) -> bool:
    return isinstance(op, Invalid) and op.reason == "unclosed"


@given(records("a"), items(), episodes("tools", hostile=True))
@budget(15)
def test_records_items_and_episodes_are_consistent(record: Any, item: Any, plan: Any) -> None:
    titles = [document.title for document in record.documents]
    assert len(set(titles)) == len(titles)
    for piece in record.evidence:
        assert any(piece.title == d.title and piece.text in d.text and piece.text for d in record.gold_documents)
    assert all(d.text == d.text.strip() for d in record.documents)
    assert {d for question in item.questions for d in question.documents} == set(item.documents)
    assert plan.actions


def test_profiles_scale_every_budget() -> None:
    ordinary = settings().max_examples
    assert budget(100).max_examples == ordinary
    assert budget(10).max_examples == max(1, ordinary // 10)
    assert settings.get_profile("slow").max_examples == 10_000
    assert budget(3, steps=7).stateful_step_count == 7


def test_without_hypothesis_the_kit_says_how_to_get_it_and_the_rest_of_the_package_works() -> None:
    program = (
        "import sys\n"
        "sys.modules['hypothesis'] = None\n"
        "import atommem_gym, atommem_gym.envs\n"
        "try:\n"
        "    from atommem_gym.testing import check_store\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert "pip install 'atommem-gym[test]'" in done.stdout
