"""The learner to read: it trains a tiny Qwen3, and its advantages and losses are veRL's (issue 6)."""

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
from atommem_gym.errors import ConfigError  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")
NO_VERL = "needs veRL: make verl-environment"


def options(model: Path, **changes: Any) -> grpo.Options:
    return grpo.Options(
        **{
            "model": str(model),
            "num_docs": 8,
            "chunk_tokens": 2000,
            "prompts": 2,
            "group": 2,
            "iterations": 1,
            "batch": 10,
            "max_response": 4,
            "learning_rate": 1e-3,
            **changes,
        }
    )


def test_it_trains_a_tiny_model(tiny_model: Path, tmp_path: Path) -> None:  # noqa: F811
    given = options(tiny_model, kl=0.01, iterations=2, save=tmp_path / "trained")
    # Random models write nothing right, so all rewards are 0; another function makes them count.
    reports = list(grpo.train(given, lambda rewards, groups: torch.arange(len(rewards)).float() - 1.5))
    assert [report["iteration"] for report in reports] == [1, 2]
    assert all(np.isfinite(list(report.values())).all() for report in reports)
    assert all(report["updates"] == report["rows"] // 10 for report in reports)
    before, after = (grpo.Policy(options(where)).model.state_dict() for where in (tiny_model, tmp_path / "trained"))
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_the_same_seed_trains_the_same(tiny_model: Path) -> None:  # noqa: F811
    def run() -> list[dict[str, float]]:
        reports = list(grpo.train(options(tiny_model, shaping='{"MemoryCost": {"per_entry": 0.1}}')))
        return [{name: value for name, value in report.items() if name != "seconds"} for report in reports]

    assert run() == run()


def test_E8_a_group_plays_one_episode(tiny_model: Path) -> None:  # noqa: F811
    given = options(tiny_model)
    envs = gym.make_vec("AtomMem-Synthetic-v0", num_envs=4, num_docs=8, chunk_tokens=2000, store="numpy")
    played = grpo.play(envs, grpo.Policy(given), [(3, 1), (3, 1), (4, 0), (5, 0)], "{}")
    envs.close()
    first = {session: next(row.prompt for row in played.rows if row.session == session) for session in range(4)}
    assert first[0] == first[1] != first[2] != first[3]
    assert all(0 < len(row.response) <= 4 for row in played.rows)


def test_log_probabilities_are_those_of_a_row_alone(tiny_model: Path) -> None:  # noqa: F811
    policy = grpo.Policy(options(tiny_model))
    rows = [grpo.Row(0, [5, 6, 7], [8, 9]), grpo.Row(1, [5], [10, 11, 12, 13, 14, 15])]
    with torch.no_grad():
        together, own = policy.log_probs(rows)
        for i, row in enumerate(rows):
            alone, mine = policy.log_probs([row])
            assert int(own[i].sum()) == len(row.response)
            assert torch.allclose(together[i][own[i] > 0], alone[0][mine[0] > 0], atol=1e-5)


def test_a_good_response_becomes_more_probable(tiny_model: Path) -> None:  # noqa: F811
    policy = grpo.Policy(options(tiny_model))
    rows = [grpo.Row(0, [5, 6, 7], [8, 9]), grpo.Row(1, [5, 6, 7], [10, 11])]
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=1e-3)
    with torch.no_grad():
        old, own = policy.log_probs(rows)
    grpo.update(policy, optimizer, rows, torch.tensor([1.0, -1.0]), (old, None))
    policy.model.eval()
    with torch.no_grad():
        new = policy.log_probs(rows)[0]
    change = ((new - old) * own).sum(1)
    assert change[0] > 0 > change[1]


def test_a_prompt_over_the_limit_is_an_error(tiny_model: Path) -> None:  # noqa: F811
    with pytest.raises(ConfigError, match="max_prompt=50"):
        next(grpo.train(options(tiny_model, max_prompt=50)))


def test_advantages_are_verls_on_the_same_rollouts() -> None:
    core = pytest.importorskip("verl.trainer.ppo.core_algos", reason=NO_VERL)
    rng = np.random.default_rng(0)
    rewards, groups = torch.tensor(rng.random(24), dtype=torch.float32), torch.arange(6).repeat_interleave(4)
    mask = torch.ones(24, 5)
    tokens = torch.zeros(24, 5)
    tokens[:, -1] = rewards
    theirs, _ = core.compute_grpo_outcome_advantage(
        tokens, mask, np.array([str(int(g)) for g in groups], dtype=object), norm_adv_by_std_in_grpo=False
    )
    assert torch.allclose(grpo.group_advantages(rewards, groups), theirs[:, 0], atol=1e-6)


def test_losses_are_verls() -> None:
    core = pytest.importorskip("verl.trainer.ppo.core_algos", reason=NO_VERL)
    generator = torch.Generator().manual_seed(0)
    old, new, reference = (torch.randn(6, 9, generator=generator) * 0.3 - 2 for _ in range(3))
    own = (torch.rand(6, 9, generator=generator) > 0.3).float()
    advantages = torch.randn(6, generator=generator).abs()  # veRL's third clip is for negative ones
    from verl.workers.config import ActorConfig

    given = options(Path())
    config = ActorConfig(
        strategy="fsdp", rollout_n=1, ppo_micro_batch_size_per_gpu=1, clip_ratio_low=0.2, clip_ratio_high=0.28
    )
    theirs = core.compute_policy_loss_vanilla(
        old, new, advantages[:, None] * own, own, loss_agg_mode="token-mean", config=config
    )[0]
    assert float(grpo.policy_loss(new, old, advantages, own, given)) == pytest.approx(float(theirs), abs=1e-6)
    kl = (core.kl_penalty(new, reference, "low_var_kl") * own).sum() / own.sum()
    assert float(grpo.low_variance_kl(new, reference, own)) == pytest.approx(float(kl), abs=1e-6)
