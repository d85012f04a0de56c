"""Local groups of ``grpo.py``: sessions are forked, and their continuations are compared with each other (SPEC M14)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.tiny_model import one_thread, tiny_model  # noqa: F401  (fixtures)

torch = pytest.importorskip("torch", reason="needs torch: pip install 'atommem-gym[llm]'")
pytest.importorskip("transformers", reason="needs transformers: pip install 'atommem-gym[llm]'")

import gymnasium as gym  # noqa: E402

from atommem_gym.agents.learn import grpo  # noqa: E402
from atommem_gym.agents.learn.grpo_rollout import LocalGroups, Session, assembled  # noqa: E402
from atommem_gym.agents.playing import Playing  # noqa: E402
from atommem_gym.errors import ConfigError  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


def options(model: Path, **changes: Any) -> grpo.Options:
    small = {"num_docs": 8, "chunk_tokens": 200, "prompts": 2, "group": 2, "iterations": 1, "batch": 10}
    return grpo.Options(str(model), **{**small, "max_response": 4, "learning_rate": 1e-3, **changes})


def session(*gained: float, forked_at: int | None = None) -> Session:
    made = Session(Playing("policy", 0), gained=list(gained))
    if forked_at is not None:
        made.forked_at, made.state = forked_at, {}
    return made


def test_advantages_of_a_small_case_are_those_worked_out_by_hand() -> None:
    plain, forked = session(0.0, 0.0, 1.0), session(0.25, 0.0, 0.0, forked_at=1)
    forks = [session(0.0, 1.0), session(0.5)]
    taken = [
        *((plain, step, ([step], [0])) for step in range(3)),
        *((forked, step, ([10 + step], [0])) for step in range(3)),
        *((forks[0], step, ([20 + step], [0])) for step in range(2)),
        (forks[1], 0, ([30], [0])),
    ]
    rows, rewards, local = assembled(taken, [plain, forked], [[forked, *forks]])
    # The steps before the fork earned 0.25, and the continuations 0, 1 and 0.5.
    assert rewards.tolist() == [1.0, 0.75, 0.0, 1.0, 0.5]
    assert local.tolist() == [0, 0, 0]
    assert [(row.session, row.prompt[0]) for row in rows] == [
        *((0, step) for step in range(3)),
        *((1, 10), (2, 11), (2, 12)),
        *((3, 20), (3, 21), (4, 30)),
    ]
    played = grpo.Played(rows, rewards, local, 0.0, 0.0, 0.0)
    groups = grpo.groups_of(grpo.Options("", prompts=1, group=2), played)
    assert groups.tolist() == [0, 0, 1, 1, 1]
    assert grpo.group_advantages(rewards, groups).tolist() == [0.125, -0.125, -0.5, 0.5, 0.0]


def play(model: Path, local: LocalGroups | None) -> grpo.Played:
    envs = gym.make_vec("AtomMem-Synthetic-v0", num_envs=3, num_docs=8, chunk_tokens=200, store="numpy")
    torch.manual_seed(0)
    played = grpo.play(
        envs,  # type: ignore[arg-type]
        grpo.Policy(options(model)),
        [(3, 1), (3, 1), (4, 0)],
        '{"MemoryCost": {"per_entry": 0.1}}',
        local=local,
    )
    envs.close()
    return played


def test_M14_continuations_share_the_prompt_at_which_they_part_and_end_as_sessions_do(tiny_model: Path) -> None:  # noqa: F811
    without = play(tiny_model, None)
    played = play(tiny_model, LocalGroups(2, 3, np.random.default_rng(0)))
    assert without.local.tolist() == []
    assert played.local.tolist() == [0, 0, 0, 1, 1, 1]
    assert len(played.rewards) == 3 + 6
    of = [[row for row in played.rows if row.session == number] for number in range(9)]
    for first in (3, 6):
        assert of[first][0].prompt == of[first + 1][0].prompt == of[first + 2][0].prompt
    # The sessions of the items are played as they are without forks; what was forked is in two parts.
    whole = [[row for row in without.rows if row.session == number] for number in range(3)]
    for number in range(3):
        candidates = [of[number]] + [of[number] + of[first] for first in (3, 6)]
        assert [(row.prompt, row.response) for row in whole[number]] in [
            [(row.prompt, row.response) for row in rows] for rows in candidates
        ]
    assert all(of)
    assert sum(len(rows) for rows in of[:3]) < len(without.rows)


def test_a_session_of_one_step_is_not_forked(tiny_model: Path) -> None:  # noqa: F811
    envs = gym.make_vec("AtomMem-Synthetic-v0", num_envs=2, num_docs=8, chunk_tokens=2000, store="numpy", max_steps=1)
    local = LocalGroups(2, 2, np.random.default_rng(0))
    played = grpo.play(envs, grpo.Policy(options(tiny_model)), [(3, 1), (3, 1)], "{}", local=local)  # type: ignore[arg-type]
    envs.close()
    assert (len(played.rows), len(played.rewards), len(played.local)) == (2, 2, 0)


def test_it_trains_and_reports_groups_without_variance_apart(tiny_model: Path) -> None:  # noqa: F811
    given = options(
        tiny_model, chunk_tokens=800, local_groups=3, branches=2, shaping='{"MemoryCost": {"per_operation": 0.1}}'
    )
    seen: list[list[int]] = []

    def advantages(rewards: Any, groups: Any) -> Any:
        seen.append(groups.tolist())
        return grpo.group_advantages(rewards, groups)

    (report,) = grpo.train(given, advantages)
    assert seen == [[0, 0, 1, 1, 2, 2, 3, 3, 4, 4]]
    assert report["local_groups"] == 3
    assert 0 <= report["local_groups_without_variance"] <= 1
    assert 0 <= report["groups_without_variance"] <= 1
    (plain,) = grpo.train(options(tiny_model, chunk_tokens=2000))
    assert "local_groups" not in plain


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"local_groups": -1}, "local_groups=-1 must be an integer from 0 to 4"),
        ({"local_groups": 5}, "local_groups=5 must be an integer from 0 to 4"),
        ({"branches": 1}, "branches=1 must be an integer of at least 2"),
    ],
)
def test_wrong_options_are_named(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        options(Path(), **wrong)


def test_every_step_but_the_first_is_forked_equally_often() -> None:
    from atommem_gym.agents.learn.grpo_rollout import Rollout

    class Envs:
        def snapshot(self, slot: int) -> dict[str, Any]:
            return {}

    rollout = object.__new__(Rollout)
    rollout._envs = Envs()  # type: ignore[assignment]
    rng, found = np.random.default_rng(0), []
    for _ in range(3000):
        one = session()
        one.forks = True
        for _ in range(6):
            rollout._maybe_fork(0, one, rng)
            one.gained.append(0.0)
        found.append(one.forked_at)
    counts = np.bincount(found, minlength=6)
    assert counts[0] == 0
    assert np.abs(counts[1:] / 600 - 1).max() < 0.15
