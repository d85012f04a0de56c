"""What an embedder does not read of a text is reported, alike in every form of the environment (SPEC M18)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from support.pools import ENV_ID, SMALL, make_plain, make_pool, run

from atommem_gym.embedders.hashing_embedder import HashingEmbedder
from atommem_gym.embedders.loading import CachedEmbedder
from atommem_gym.envs import RecordTraces
from atommem_gym.errors import ConfigError, EmbedderError
from atommem_gym.memory.protocols import Embedded, TextKind, Vectors
from atommem_gym.traces import read_traces

READS = 20
"""Characters that the embedder of these tests reads."""
LONG = "The gate of the old ward was painted. The vault's password is marigold."
TAIL = "marigold password"


class Short:
    """Reads the first characters of a text; a query may be read otherwise than a document."""

    name = "short"
    max_tokens = READS

    def __init__(self, tells_queries: bool = False) -> None:
        self.tells_queries = tells_queries
        self.fails = 0
        self._hashing = HashingEmbedder()
        self.dim = self._hashing.dim

    def embed(self, texts: Sequence[str], kind: TextKind) -> Vectors:
        return self.embed_in_part(texts, kind).vectors

    def embed_in_part(self, texts: Sequence[str], kind: TextKind) -> Embedded:
        if self.fails:
            self.fails -= 1
            raise EmbedderError("not now")
        vectors = self._hashing.embed([text[:READS] for text in texts], kind)
        return Embedded(vectors, {i: READS for i, text in enumerate(texts) if len(text) > READS})


@pytest.fixture(params=[False, True], ids=["alike", "tells queries"])
def short(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Short:
    embedder = Short(request.param)
    monkeypatch.setattr("atommem_gym.envs.backend.load_embedder", lambda name, options: CachedEmbedder(embedder))
    return embedder


def said(info: dict[str, Any]) -> list[tuple[str, int, str]]:
    return [(report["operation"], report["position"], report["reason"]) for report in info["rejected"]]


def in_part(kind: str, position: int) -> tuple[str, int, str]:
    return (kind, position, "embedded_in_part")


ACTION = f"<create>{LONG}</create><create>short</create><read>{LONG} where?</read>"


def test_M18_a_text_that_is_embedded_in_part_is_reported_and_stays_whole(short: Short) -> None:
    env = make_plain()
    env.reset(seed=0)
    observation, _, _, _, info = env.step(ACTION)
    assert said(info) == [in_part("create", 1), in_part("read", 3)]
    assert info["applied"]["create"] == 2
    assert [memory["text"] for memory in observation["memories"]] == [LONG, "short"]
    lines = observation["feedback"].split("\n")
    assert lines[:2] == ["created 1", "created 2"]
    assert lines[2].startswith("operation 1 (create) cut: embedded_in_part: the embedder reads 20 tokens of a text; ")
    assert f"of its {len(LONG)} characters it read the first {READS}" in lines[2]
    assert "operation 3 (read) cut: embedded_in_part: " in lines[3]

    # An update is reported; a text that fits, or that another operation of the action replaces, is not.
    assert said(env.step(f'<update id="2">{LONG}</update>')[4]) == [in_part("update", 1)]
    assert said(env.step(f'<update id="2">{LONG}</update><update id="2">brief</update>')[4]) == []
    assert said(env.step(f'<create>{LONG}</create><delete id="3"/>')[4]) == []
    assert said(env.step("<create>brief</create><read>brief</read>")[4]) == []
    env.close()


def test_M18_the_tail_of_a_text_is_what_a_read_does_not_find(short: Short) -> None:
    env = make_plain()
    env.reset(seed=0)
    env.step(f"<create>{LONG}</create>")
    assert float(env.step(f"<read>{TAIL}</read>")[0]["memories"][0]["score"]) == pytest.approx(0, abs=0.2)
    assert float(env.step(f"<read>{LONG[:READS]}</read>")[0]["memories"][0]["score"]) == pytest.approx(1)
    env.close()


def test_M18_what_was_cut_to_a_limit_and_is_embedded_in_part_is_reported_twice(short: Short) -> None:
    env = make_plain(max_entry_tokens=10)
    env.reset(seed=0)
    info = env.step(f"<create>{LONG}</create>")[4]
    assert said(info) == [("create", 1, "cut"), in_part("create", 1)]
    env.close()


def test_M18_of_several_reads_the_one_that_is_searched_is_reported(short: Short) -> None:
    env = make_plain()
    env.reset(seed=0)
    # Nothing is stored, so nothing is searched, and no query is embedded.
    assert said(env.step(f"<read>{LONG}</read>")[4]) == []
    assert said(env.step(f"<create>a</create><read>{LONG}</read><read>brief</read>")[4]) == []
    assert said(env.step(f"<read>brief</read><read>{LONG}</read>")[4]) == [in_part("read", 2)]
    env.close()


def test_M18_the_executed_one_of_two_equal_reads_is_reported(short: Short) -> None:
    env = make_plain(early_answer=True)
    env.reset(seed=0)
    read = f"<read>{LONG}</read>"
    info = env.step(f"<create>a</create>{read}<answer>x</answer>{read}")[4]
    assert said(info) == [("read", 4, "question_closed"), in_part("read", 2)]
    env.reset(seed=0)
    assert said(env.step(f"<create>a</create>{read}{read}")[4]) == [in_part("read", 3)]
    env.close()


def test_M18_a_standing_query_is_reported_without_a_place(short: Short) -> None:
    env = make_plain(sticky_query=True)
    env.reset(seed=0)
    assert said(env.step(f"<create>a</create><read>{LONG}</read>")[4]) == [in_part("read", 2)]
    observation, *_, info = env.step("")
    assert said(info) == [in_part("read", 0)]
    assert observation["feedback"].startswith("read cut: embedded_in_part: ")
    env.close()


def test_M18_a_step_that_failed_and_is_repeated_reports_once(short: Short) -> None:
    env = make_plain()
    env.reset(seed=0)
    short.fails = 1
    with pytest.raises(EmbedderError):
        env.step(ACTION)
    assert said(env.step(ACTION)[4]) == [in_part("create", 1), in_part("read", 3)]
    env.close()


def test_M18_remembered_vectors_are_reported_as_new_ones(short: Short) -> None:
    env = make_plain()
    for _ in range(2):
        env.reset(seed=0)
        assert said(env.step(ACTION)[4]) == [in_part("create", 1), in_part("read", 3)]
    env.close()


def test_M18_M15_vector_and_pool_report_what_the_plain_environment_does(short: Short) -> None:
    actions = [ACTION, f'<update id="1">{LONG} It was green.</update><read>{TAIL}</read>', f"<read>{LONG}</read>"]
    plain = make_plain()
    plain.reset(seed=3)
    expected = [(observation["feedback"], info["rejected"]) for observation, *_, info in map(plain.step, actions)]
    plain.close()
    assert [len(rejected) for _, rejected in expected] == [2, 1, 1]

    envs = gym.make_vec(ENV_ID, num_envs=3, **SMALL)
    envs.reset(seed=[5, 3, 4])
    for action, (feedback, rejected) in zip(actions, expected, strict=True):
        observations, *_, infos = envs.step(["<create>brief</create>", action, ""])
        assert (observations["feedback"][1], infos["rejected"][1]) == (feedback, rejected)
        assert list(infos["rejected"][0]) == list(infos["rejected"][2]) == []
    envs.close()

    async def pooled() -> list[tuple[str, Any]]:
        async with make_pool(2) as pool, pool.env() as env:
            await env.areset(seed=3)
            steps = [await env.astep(action) for action in actions]
            return [(observation["feedback"], info["rejected"]) for observation, *_, info in steps]

    assert run(pooled()) == expected


def test_M18_a_pool_that_tries_a_batch_again_reports_once(short: Short) -> None:
    async def main() -> list[Any]:
        async with make_pool(1) as pool, pool.env() as env:
            await env.areset(seed=3)
            return said((await env.astep(ACTION))[4])

    assert run(main()) == [in_part("create", 1), in_part("read", 3)]


def test_M18_in_a_team_each_agent_hears_of_its_own_texts(short: Short) -> None:
    pytest.importorskip("pettingzoo", reason="pip install 'atommem-gym[team]'")
    from atommem_gym.envs.team.team import parallel_env

    env = parallel_env(ENV_ID, readers=2, **SMALL)
    env.reset(seed=0)
    quiet = dict.fromkeys(env.agents, "")
    infos = env.step(
        quiet | {"reader_0": "<create>brief</create>", "reader_1": f"<read>{LONG}</read><create>{LONG}</create>"}
    )[4]
    assert {name: said(info) for name, info in infos.items()} == {
        "reader_0": [],
        "reader_1": [in_part("create", 2), in_part("read", 1)],
        "answerer_0": [],
    }
    observations, *_, infos = env.step(quiet | {"answerer_0": f"<read>{LONG}</read>", "reader_0": ACTION})
    assert said(infos["answerer_0"]) == [in_part("read", 1)]
    assert said(infos["reader_0"]) == [in_part("create", 1), in_part("read", 3)]
    assert "operation 1 (read) cut: embedded_in_part" in observations["answerer_0"]["feedback"]
    assert said(infos["reader_1"]) == []
    env.close()


def test_M18_a_snapshot_restores_what_was_embedded_in_part_without_a_word(short: Short) -> None:
    env, other = make_plain(), make_plain()
    env.reset(seed=0)
    env.step(f"<create>{LONG}</create>")
    other.reset(seed=1)
    other.restore(env.snapshot())
    ours, theirs = (one.step(f"<read>{TAIL}</read>") for one in (env, other))
    assert ours[4]["rejected"] == theirs[4]["rejected"]
    assert ours[0]["memories"] == theirs[0]["memories"]
    for one in (env, other):
        one.close()


def test_M18_preset_released_reports_the_entry_that_an_update_adds(short: Short) -> None:
    env = make_plain(preset="released", questions_per_episode=1)
    env.reset(seed=0)
    env.step("<add_memory>a fact</add_memory><update_query>fact</update_query>")
    info = env.step(f"<modify_memory>Memory 1: {LONG}</modify_memory>")[4]
    assert in_part("update", 1) in said(info)
    env.close()


def test_M18_a_trace_says_cut_and_not_rejected(short: Short, tmp_path: Path) -> None:
    env = RecordTraces(make_plain(max_steps=3, sticky_query=True), tmp_path / "traces.jsonl")
    env.reset(seed=0)
    env.step(ACTION + f"<create>{'x' * 5000}</create>")
    env.step("")
    env.step("")
    env.close()
    (trace,) = read_traces(tmp_path / "traces.jsonl")
    outcomes = [[(op.kind, op.outcome, op.reason, op.entry_id) for op in step.operations] for step in trace.steps]
    assert outcomes[0] == [
        ("create", "cut", "embedded_in_part", 1),
        ("create", "applied", None, 2),
        ("read", "cut", "embedded_in_part", None),
        # Cut to max_entry_tokens as well, which is what the trace then names.
        ("create", "cut", "cut", 3),
    ]
    assert outcomes[1:] == [[("read", "cut", "embedded_in_part", None)]] * 2


def test_M18_the_built_in_embedder_reads_everything() -> None:
    env = make_plain(max_entry_tokens=4096, max_memory_tokens=4096)
    env.reset(seed=0)
    assert said(env.step(f"<create>{'word ' * 4000}end</create><read>{'word ' * 4000}</read>")[4]) == []
    env.close()


def test_M18_an_embedder_that_cannot_say_what_it_read_is_refused() -> None:
    class Silent:
        name, dim, max_tokens = "silent", 2, 5

        def embed(self, texts: Sequence[str], kind: TextKind) -> Vectors:
            return np.ones((len(texts), 2), np.float32)

    with pytest.raises(ConfigError, match=r"'silent' reads max_tokens=5 .*embed_in_part"):
        CachedEmbedder(Silent())


@pytest.mark.parametrize("bad", [[0.0, 0.0], [np.nan, 1.0], [np.inf, 1.0]])
def test_finding_3_3_a_vector_that_is_similar_to_nothing_is_refused(bad: list[float]) -> None:
    class Broken:
        name, dim = "broken", 2

        def embed(self, texts: Sequence[str], kind: TextKind) -> Vectors:
            return np.array([bad if text == "the bad one" else [1, 2] for text in texts], np.float32)

    cache = CachedEmbedder(Broken())
    with pytest.raises(EmbedderError, match=r"'broken' gave a vector that is zero or not finite.*'the bad one'"):
        cache.embed(["good", "the bad one"], "document")
    assert cache.embed(["good"], "document").tolist() == [[1, 2]]
