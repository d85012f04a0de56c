"""Classical learners train on the macro-actions: Stable-Baselines3, the single file, and the benchmark (issue 4)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from support.benchmarks import scripts

torch = pytest.importorskip("torch", reason="needs torch: pip install 'atommem-gym[rl]'")

import gymnasium as gym  # noqa: E402

from atommem_gym.agents.learn import ppo  # noqa: E402
from atommem_gym.envs import EvidenceReward  # noqa: E402
from atommem_gym.envs.macro.embedding_observation import FEATURES, SCALARS, EmbeddingObservation  # noqa: E402
from atommem_gym.envs.macro.macro_actions import MacroActions  # noqa: E402

ROOT = Path(__file__).resolve().parents[3]
TASK: dict[str, Any] = {
    "num_docs": 12,
    "chunk_tokens": 300,
    "max_entries": 4,
    "max_entry_tokens": 160,
    "store": "numpy",
    "render_mode": None,  # make_vec_env would ask for rgb_array
}
NO_SB3 = "needs stable-baselines3: pip install 'atommem-gym[rl]'"


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small are slower on several threads, and much slower where other processes want the cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make_env() -> EmbeddingObservation:
    env = gym.make("AtomMem-Synthetic-v0", disable_env_checker=True, **TASK)
    return EmbeddingObservation(MacroActions(env, slots=2), vectors=4)


def wrap(env: gym.Env[Any, Any]) -> EmbeddingObservation:
    return EmbeddingObservation(MacroActions(env, slots=2), vectors=4)


def test_check_env_of_stable_baselines3_passes() -> None:
    checker = pytest.importorskip("stable_baselines3.common.env_checker", reason=NO_SB3)
    with closing(make_env()) as env:
        checker.check_env(env)


@pytest.mark.filterwarnings("ignore:.*tensorboard.*")
def test_stable_baselines3_trains_by_make_vec_env() -> None:
    sb3 = pytest.importorskip("stable_baselines3", reason=NO_SB3)
    from stable_baselines3.common.env_util import make_vec_env

    envs = make_vec_env("AtomMem-Synthetic-v0", n_envs=2, seed=0, env_kwargs=TASK, wrapper_class=wrap)
    model = sb3.PPO("MlpPolicy", envs, n_steps=32, batch_size=16, n_epochs=2, seed=0, device="cpu")
    before = [parameter.detach().clone() for parameter in model.policy.parameters()]
    model.learn(128)
    assert any(not torch.equal(a, b) for a, b in zip(before, model.policy.parameters(), strict=True))
    assert len(model.ep_info_buffer) > 0
    envs.close()


@pytest.mark.slow
def test_stable_baselines3_trains_in_processes() -> None:
    sb3 = pytest.importorskip("stable_baselines3", reason=NO_SB3)
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import SubprocVecEnv

    envs = make_vec_env(
        "AtomMem-Synthetic-v0", n_envs=2, seed=0, env_kwargs=TASK, wrapper_class=wrap, vec_env_cls=SubprocVecEnv
    )
    sb3.PPO("MlpPolicy", envs, n_steps=16, batch_size=16, n_epochs=1, seed=0, device="cpu").learn(64)
    envs.close()


def small(**changes: Any) -> ppo.Options:
    settings: dict[str, Any] = {"num_docs": 12, "slots": 2, "steps": 128, "num_envs": 2, "rollout": 32, "epochs": 2}
    return ppo.Options(**settings | {"batch": 32, "width": 8} | changes)


@pytest.mark.parametrize("network", ["shared", "plain"])
@pytest.mark.parametrize("vectors", [0, 4])
def test_the_single_file_trains_and_is_reproducible(network: str, vectors: int) -> None:
    seen: list[int] = []
    first, second = (
        ppo.train(small(network=network, vectors=vectors), lambda steps, _: seen.append(steps)) for _ in range(2)
    )
    assert seen == [0, 64, 128] * 2
    weights = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in weights)
    with closing(ppo.make_env(small(vectors=vectors))) as env:
        assert env.action_space.contains(first.act(env.reset(seed=0)[0]))


def test_the_shared_scorer_judges_a_document_alike_in_every_slot() -> None:
    policy = ppo.Policy(np.array([3, 3, 2, 3]), len(SCALARS) + 2 * len(FEATURES))
    scalars, one, other = torch.rand(len(SCALARS)), torch.rand(len(FEATURES)), torch.rand(len(FEATURES))
    (first, second, *_), _ = policy(torch.cat([scalars, one, other])[None])
    (swapped_first, swapped_second, *_), _ = policy(torch.cat([scalars, other, one])[None])
    assert torch.allclose(first.logits, swapped_second.logits)
    assert torch.allclose(second.logits, swapped_first.logits)
    assert not torch.allclose(first.logits, second.logits)


@pytest.mark.parametrize("network", ["shared", "plain"])
def test_where_no_document_is_offered_nothing_is_chosen(network: str) -> None:
    policy = ppo.Policy(np.array([3, 3, 2, 3]), len(SCALARS) + 2 * len(FEATURES), network)
    observation = torch.rand(len(SCALARS) + 2 * len(FEATURES))
    observation[-len(FEATURES) :] = 0.0
    (taken, free, *_), _ = policy(observation[None])
    assert free.probs[0].tolist() == [1.0, 0.0, 0.0]
    assert 0.0 < taken.probs[0, 0] < 1.0
    assert torch.isfinite(free.entropy()).all()


def test_a_batch_of_one_row_leaves_weights_that_are_numbers() -> None:
    size = len(SCALARS) + 2 * len(FEATURES)
    policy = ppo.Policy(np.array([3, 3, 2, 3]), size)
    optimizer = torch.optim.Adam(policy.parameters())
    before = [one.clone() for one in policy.parameters()]
    one_row = [torch.ones(1, size), torch.zeros(1, 4, dtype=torch.int64), torch.tensor([-1.0])]
    ppo.update(policy, optimizer, [*one_row, torch.tensor([0.5]), torch.tensor([1.0])], ppo.Options())
    after = list(policy.parameters())
    assert all(torch.isfinite(one).all() for one in after)
    assert any((one != old).any() for one, old in zip(after, before, strict=True))


def test_advantages_are_those_of_a_loop_over_definitions() -> None:
    generator = torch.Generator().manual_seed(0)
    rewards, values = torch.rand(6, 2, generator=generator), torch.rand(6, 2, generator=generator)
    ends = (torch.rand(6, 2, generator=generator) < 0.3).float()
    last, gamma, lam = torch.rand(2, generator=generator), 0.9, 0.8
    following = torch.cat([values[1:], last[None]])
    errors = rewards + gamma * following * (1 - ends) - values
    expected = torch.zeros(6, 2)
    for t in range(6):
        weight = torch.ones(2)
        for later in range(t, 6):
            expected[t] += weight * errors[later]
            weight = weight * gamma * lam * (1 - ends[later])
    assert torch.allclose(ppo.generalised_advantages(rewards, values, ends, last, gamma, lam), expected, atol=1e-6)


@pytest.mark.slow
def test_it_learns_what_a_rule_would_say_on_a_tiny_task() -> None:
    """With room for everything, keeping and reading is all there is to learn: a few thousand steps are enough."""
    options = small(
        steps=6144,
        num_docs=12,
        max_entries=12,
        chunk_tokens=900,
        slots=6,
        num_envs=4,
        rollout=64,
        batch=64,
        epochs=8,
        width=32,
        learning_rate=3e-3,
        shaping=1.0,
    )
    policy = ppo.train(options)
    scores = []
    with closing(ppo.make_env(options)) as env:
        for index in range(40):
            observation, _ = env.reset(options={"index": 9000 + index})
            over = False
            while not over:
                observation, _, over, _, info = env.step(policy.act(observation))
            scores.append(info["episode_metrics"]["evidence_recall"])
    assert np.mean(scores) > 0.6


@pytest.fixture(scope="module")
def bench() -> Iterator[ModuleType]:
    """``benchmarks/ppo.py``, imported as it is when it is run."""
    with scripts.imported("ppo", "ppo_benchmark") as module:
        yield module


def test_intervals_hold_the_mean_and_narrow_with_agreement(bench: ModuleType) -> None:
    from reports.ppo import interval

    rng = np.random.default_rng(0)
    wide = interval((rng.random((3, 100)) < 0.5).astype(float).tolist())
    assert wide[1] < wide[0] < wide[2]
    assert interval([[1.0] * 50] * 3) == pytest.approx((1.0, 1.0, 1.0))
    together = [[1.0] * 40 + [0.0] * 40] * 4
    apart = [[1.0] * 80, [1.0] * 80, [0.0] * 80, [0.0] * 80]
    narrow, broad = interval(together), interval(apart)
    assert narrow[0] == broad[0] == 0.5
    assert broad[2] - broad[1] > narrow[2] - narrow[1]  # seeds that disagree count as uncertainty


def test_all_players_meet_the_same_test_items_and_the_table_is_written(bench: ModuleType, tmp_path: Path) -> None:
    options = bench.Options(seeds=(0,), steps=1, episodes=4, out=tmp_path)
    baselines = bench.play_baselines(4)
    assert len({tuple(p.index for p in played) for played in baselines.values()}) == 1
    assert [p.em for p in baselines["oracle"]] == [1.0] * 4
    assert all(p.entries <= bench.TASK["max_entries"] for played in baselines.values() for p in played)
    curve = [bench.Point(0, 0.1, 0.2), bench.Point(1, 0.5, 0.6)]
    trained = bench.Trained("sb3", 0, curve, baselines["greedy rule"], 60.0, 30.0)
    results = {"trained": [trained], "baselines": baselines}
    bench.write(tmp_path / "ppo.json", results, options)
    assert bench.load(tmp_path / "ppo.json", options)["trained"] == [trained]
    pytest.importorskip("matplotlib", reason="needs matplotlib: pip install 'atommem-gym[viewer]'")
    bench.report(results, options)
    table = (tmp_path / "ppo.md").read_text(encoding="utf-8")
    assert "| PPO (Stable-Baselines3) | +" in table
    assert "`oracle` | 1.00 (1.00–1.00)" in table
    assert (tmp_path / "ppo.png").stat().st_size > 10_000


def test_results_of_other_settings_are_not_overwritten(bench: ModuleType, tmp_path: Path) -> None:
    from atommem_gym.errors import ConfigError

    options = bench.Options(out=tmp_path)
    bench.write(tmp_path / "ppo.json", {"trained": [], "baselines": {}}, options)
    with pytest.raises(ConfigError, match="results of other settings"):
        bench.load(tmp_path / "ppo.json", bench.Options(out=tmp_path, steps=5))


def test_the_committed_results_are_of_these_settings(bench: ModuleType) -> None:
    file = ROOT / "benchmarks" / "results" / "ppo.json"
    if not file.is_file():
        pytest.skip("no results: python benchmarks/ppo.py")
    results = bench.load(file, bench.Options())
    for played in (*(trained.test for trained in results["trained"]), *results["baselines"].values()):
        assert [p.index for p in played] == [p.index for p in results["baselines"]["tidy"]]


def test_every_block_of_the_docs_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("stable_baselines3", reason=NO_SB3)
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "classical_rl.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) >= 4
    names: dict[str, Any] = {"__name__": "docs"}
    for block in blocks:
        # Budgets are cut; everything else runs as it is written.
        short = re.sub(r"\b(n_steps|rollout|eval_freq)=\d+", r"\1=8", re.sub(r"\b\d+_000\b", "256", block))
        short = re.sub(r"\bn_eval_episodes=\d+", "n_eval_episodes=6", short)
        exec(compile(short, "docs/classical_rl.md", "exec"), names)
    assert 0 <= names["mean"] <= 1, "shaping is no part of what is evaluated"
    assert {path.name for path in (tmp_path / "ppo").iterdir()} == {
        "best_model.zip",
        "evaluations.npz",
        "last_model.zip",
    }


def test_evaluate_policy_scores_as_the_environment_does_and_the_same_items_the_same(tmp_path: Path) -> None:
    pytest.importorskip("stable_baselines3", reason=NO_SB3)
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.utils import set_random_seed

    def wrap(env: Any) -> Any:
        return EmbeddingObservation(MacroActions(EvidenceReward(env, weight=0.5), slots=3), vectors=0)

    keywords = {"num_docs": 8, "chunk_tokens": 600, "store": "numpy", "render_mode": None}
    envs = make_vec_env("atommem_gym:AtomMem-Synthetic-v0", n_envs=2, env_kwargs=keywords, wrapper_class=wrap)
    model = PPO("MlpPolicy", envs, n_steps=8, batch_size=16, device="cpu", seed=0)
    # A policy that keeps every document, and reads or answers by chance: right now and then, by the oracle reader.
    model.policy.action_net.bias.data[:9] = torch.tensor([0.0, 9.0, 0.0] * 3)
    model.save(tmp_path / "model")
    loaded = PPO.load(tmp_path / "model", device="cpu")
    scores = []
    ends: list[float] = []

    def note(seen: dict[str, Any], _: dict[str, Any]) -> None:
        if seen["done"]:
            ends.append(seen["info"]["episode_metrics"]["em"])

    for policy in (model, loaded):
        envs.seed(3)
        set_random_seed(3)
        scores.append(evaluate_policy(policy, envs, 16, False, return_episode_rewards=True, callback=note))
    assert scores[0] == scores[1]
    assert sorted(scores[0][0] * 2) == sorted(ends)
    assert 0 < sum(ends) < len(ends), "all alike, this would show nothing"
    envs.close()
