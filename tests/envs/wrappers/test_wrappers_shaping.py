"""Reward shaping: the pure objects, their JSON form, and the plain wrappers over them (SPEC R4)."""

from __future__ import annotations

import json
from typing import Any

import gymnasium as gym
import pytest
from support.game import QUESTIONS, Game

from atommem_gym.envs import EvidenceReward, FormatPenalty, MemoryCost, ShapedReward, shaping
from atommem_gym.errors import ConfigError
from atommem_gym.step import REASONS

SPEC: dict[str, dict[str, Any]] = {
    "MemoryCost": {"per_entry": 0.01, "per_operation": 0.1},
    "EvidenceReward": {"weight": 0.25},
    "FormatPenalty": {"penalty": 0.5, "reasons": ["unclosed"]},
}


def test_R4_memory_cost_counts_live_entries_and_executed_operations_but_answers() -> None:
    game = Game()
    cost = shaping.MemoryCost(per_entry=1.0, per_operation=100.0)
    game.step("<create>a</create><create>b</create><read>a</read><scratchpad>s</scratchpad>")
    assert cost(game.result.info, game.episode) == -402.0
    game.step("<delete id='1'/><delete id='9'/>")
    assert cost(game.result.info, game.episode) == -101.0
    game.read_through()
    game.step("<answer>Aare</answer>")
    assert cost(game.result.info, game.episode) == -1.0


def test_R4_evidence_is_paid_once_and_in_all_what_the_metrics_say() -> None:
    game = Game(chunks=2)
    reward = shaping.EvidenceReward(weight=0.8)
    paid = []
    first, second = QUESTIONS[0].evidence
    for action in ("", "", f"<scratchpad>{first.text}</scratchpad>", "", f"<scratchpad>{second.text}</scratchpad>"):
        game.step(action)
        paid.append(reward(game.result.info, game.episode))
    assert paid == pytest.approx([0.0, 0.0, 0.4, 0.0, 0.4])
    game.step("<answer>Aare</answer>")
    assert reward(game.result.info, game.episode) == 0.0
    assert sum(paid) == pytest.approx(0.8 * game.result.info["episode_metrics"]["evidence_recall"])


def test_R4_a_format_penalty_is_for_how_an_action_is_written() -> None:
    game = Game()
    action = "<create></create><delete id='x'/><creat>a</creat><delete id='7'/><answer>early</answer><create>open"
    game.step(action)
    reasons = [record["reason"] for record in game.result.info["rejected"]]
    assert reasons == ["empty", "bad_id", "unknown_tag", "unknown_id", "not_yet", "unclosed"]
    assert shaping.FormatPenalty(1.0)(game.result.info, game.episode) == -4.0
    assert shaping.FormatPenalty(1.0, ("not_yet",))(game.result.info, game.episode) == -1.0
    assert set(shaping.FORMAT_REASONS) < set(REASONS)


def test_the_json_form_goes_there_and_back() -> None:
    loaded = shaping.load_shaping(json.loads(json.dumps(SPEC)))
    assert loaded == (
        shaping.MemoryCost(0.01, 0.1),
        shaping.EvidenceReward(0.25),
        shaping.FormatPenalty(0.5, ("unclosed",)),
    )
    assert json.loads(json.dumps(shaping.dump_shaping(loaded))) == SPEC
    assert shaping.load_shaping(loaded) == loaded
    assert shaping.load_shaping(()) == shaping.load_shaping({}) == ()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"MemoryCosts": {}}, "did you mean 'MemoryCost'"),
        ({"Zzz": {}}, "known are MemoryCost, EvidenceReward, FormatPenalty"),
        ({"MemoryCost": {"per_operations": 1}}, "no argument 'per_operations'; known are per_entry, per_operation"),
        ({"MemoryCost": 0.1}, "must be an object"),
        ({"MemoryCost": {"per_entry": "much"}}, "per_entry='much' must be a finite number"),
        ({"MemoryCost": {"per_entry": True}}, "per_entry=True must be a finite number"),
        ({"EvidenceReward": {"weight": float("nan")}}, "weight=nan must be a finite number"),
        ({"FormatPenalty": {"reasons": "unclosed"}}, "must be a list of reason codes"),
        ({"FormatPenalty": {"reasons": ["unclose"]}}, "there is no reason 'unclose'"),
        ("MemoryCost", "must be {name: arguments} or callables"),
        ([3], "must be {name: arguments} or callables"),
    ],
)
def test_a_wrong_spec_raises_and_says_what_is_right(spec: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        shaping.load_shaping(spec)


def test_what_has_no_json_form_says_so() -> None:
    with pytest.raises(ConfigError, match="not built in"):
        shaping.dump_shaping([lambda info, episode: 0.0])
    with pytest.raises(ConfigError, match="occurs twice"):
        shaping.dump_shaping([shaping.MemoryCost(1.0), shaping.MemoryCost(2.0)])


def test_R4_a_spec_gives_what_the_nested_wrappers_give_to_the_bit() -> None:
    keywords: dict[str, Any] = {"num_docs": 20, "store": "numpy", "chunk_tokens": 700}
    nested: Any = MemoryCost(gym.make("AtomMem-Synthetic-v0", **keywords), **SPEC["MemoryCost"])
    nested = FormatPenalty(EvidenceReward(nested, **SPEC["EvidenceReward"]), 0.5, ("unclosed",))
    one = ShapedReward(gym.make("AtomMem-Synthetic-v0", **keywords), SPEC)
    for env in (nested, one):
        env.reset(seed=4)
    over = False
    while not over:
        evidence = one.unwrapped.item.questions[0].evidence  # type: ignore[attr-defined]
        action = f"<create>a</create><read>a</read><scratchpad>{evidence[0].text}</scratchpad><create>b"
        (_, first, *_), (_, second, terminated, truncated, _) = nested.step(action), one.step(action)
        assert first == second != 0.0
        over = terminated or truncated
    for env in (nested, one):
        env.close()


def test_shaped_environments_survive_json() -> None:
    env = ShapedReward(gym.make("AtomMem-Synthetic-v0", num_docs=20, store="numpy"), SPEC)
    assert env.spec is not None
    again = gym.make(type(env.spec).from_json(env.spec.to_json()))
    assert isinstance(again, ShapedReward)
    assert shaping.dump_shaping(again.shaping) == SPEC
