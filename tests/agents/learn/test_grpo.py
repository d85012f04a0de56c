"""The learner to read: it trains a tiny Qwen3, and its advantages and losses are veRL's (issue 6)."""

from __future__ import annotations

import json
import shutil
import time
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.tiny_model import one_thread, save_tiny_model, tiny_model  # noqa: F401  (fixtures)

torch = pytest.importorskip("torch", reason="needs torch: pip install 'atommem-gym[llm]'")
pytest.importorskip("transformers", reason="needs transformers: pip install 'atommem-gym[llm]'")

import gymnasium as gym  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from transformers import AutoModelForCausalLM, GenerationConfig  # noqa: E402

from atommem_gym.agents.learn import grpo  # noqa: E402
from atommem_gym.agents.learn.grpo_progress import Progress  # noqa: E402
from atommem_gym.agents.learn.session_log import figures, read, training_steps  # noqa: E402
from atommem_gym.agents.learn.training_numbers import learner_logits  # noqa: E402
from atommem_gym.errors import ConfigError  # noqa: E402
from atommem_gym.traces import read_traces  # noqa: E402
from atommem_gym.traces.replay import Replayer  # noqa: E402
from atommem_gym.viewer.training import training_fronts  # noqa: E402

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
        timed = ("seconds", "environment_share", "sampled_tokens_per_second", "trained_tokens_per_second")
        return [{name: value for name, value in report.items() if name not in timed} for report in reports]

    assert run() == run()


def test_a_log_has_figures_sessions_and_whole_episodes_of_each_iteration(tiny_model: Path, tmp_path: Path) -> None:  # noqa: F811
    log = tmp_path / "runs" / "grpo"
    given = options(tiny_model, iterations=2, log=log, log_groups=1, shaping='{"MemoryCost": {"per_entry": 0.1}}')
    reports = list(grpo.train(given))
    lines = {name: [json.loads(line) for line in (log / name).open()] for name in ("metrics.jsonl", "sessions.jsonl")}
    assert lines["metrics.jsonl"] == reports
    steps = training_steps(read(log / "sessions.jsonl"))
    assert [len(group) for group in steps.values()] == [4, 4]
    for report, group in zip(reports, steps.values(), strict=True):
        assert np.mean([one["reward"] for one in group]) == pytest.approx(report["reward"])
        assert np.mean([one["em"] for one in group]) == report["exact_match"]
        assert figures(group)["groups_without_variance"] == report["groups_without_variance"]
    traces = list(read_traces(log / "traces.jsonl"))
    places = [(1, 0, 0), (1, 0, 1), (2, 0, 0), (2, 0, 1)]
    names = ("iteration", "group", "session")
    assert [tuple(trace.agent.settings[name] for name in names) for trace in traces] == places
    with Replayer() as replayer:
        assert replayer.check(traces[-1]) is None
    fronts = training_fronts(log)
    assert [chart["title"] for chart in fronts["training"]["charts"]][:2] == ["reward", "exact match"]
    assert fronts.keys() == {"training", "sessions-1", "sessions-2"}


def test_E8_a_group_plays_one_episode(tiny_model: Path) -> None:  # noqa: F811
    given = options(tiny_model)
    envs = gym.make_vec("AtomMem-Synthetic-v0", num_envs=4, num_docs=8, chunk_tokens=2000, store="numpy")
    played = grpo.play(envs, grpo.Policy(given), [(3, 1), (3, 1), (4, 0), (5, 0)], "{}")
    envs.close()
    first = {session: next(row.prompt for row in played.rows if row.session == session) for session in range(4)}
    assert first[0] == first[1] != first[2] != first[3]
    assert all(0 < len(row.response) <= 4 for row in played.rows)


ROWS = (grpo.Row(0, [5, 6, 7], [8, 9]), grpo.Row(1, [5], [10, 11, 12, 13, 14, 15]), grpo.Row(1, [5] * 9, [4, 3, 2]))


def test_log_probabilities_are_those_of_a_row_alone(tiny_model: Path) -> None:  # noqa: F811
    policy = grpo.Policy(options(tiny_model))
    with torch.no_grad():
        together, own = policy.log_probs(ROWS)
        for i, row in enumerate(ROWS):
            logits = policy.model(input_ids=torch.tensor([row.prompt + row.response])).logits[0].log_softmax(-1)
            alone = [float(logits[len(row.prompt) - 1 + k, token]) for k, token in enumerate(row.response)]
            assert int(own[i].sum()) == len(row.response)
            assert together[i][own[i] > 0].tolist() == pytest.approx(alone, abs=1e-5)


def test_log_probabilities_are_at_the_temperature_of_sampling(tiny_model: Path) -> None:  # noqa: F811
    policy = grpo.Policy(options(tiny_model, temperature=0.5))
    with torch.no_grad():
        logits = policy.model(input_ids=torch.tensor([[5, 6, 7, 8]])).logits[0, 2]
        found = float(policy.log_probs([grpo.Row(0, [5, 6, 7], [8])])[0])
    assert found == pytest.approx(float((logits / 0.5).log_softmax(-1)[8]), abs=1e-5)


def test_a_good_response_becomes_more_probable(tiny_model: Path) -> None:  # noqa: F811
    policy = grpo.Policy(options(tiny_model))
    rows = [grpo.Row(0, [5, 6, 7], [8, 9]), grpo.Row(1, [5, 6, 7], [10, 11])]
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=1e-3)
    old = grpo.each_log_probs(policy, rows)
    grpo.update(policy, optimizer, rows, torch.tensor([1.0, -1.0]), grpo.Before(old))
    change = [float((new - was).sum()) for new, was in zip(grpo.each_log_probs(policy, rows), old, strict=True)]
    assert change[0] > 0 > change[1]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_finding_5_6_a_bf16_checkpoint_trains_at_the_default_rate(tmp_path: Path, precision: str) -> None:
    folder = save_tiny_model(tmp_path / "bf16")
    AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).save_pretrained(folder)
    assert json.loads((folder / "config.json").read_text())["dtype"] == "bfloat16"
    given = options(folder, learning_rate=grpo.Options("").learning_rate, precision=precision)
    policy = grpo.Policy(given)
    before = {name: value.clone() for name, value in policy.model.state_dict().items()}
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=given.learning_rate)
    for _ in range(20):
        old = grpo.each_log_probs(policy, ROWS)
        grpo.update(policy, optimizer, ROWS, torch.tensor([1.0, -0.5]), grpo.Before(old))
    policy.save(tmp_path / "trained")
    after = grpo.Policy(options(tmp_path / "trained")).model.state_dict()
    changed = sum(int((after[name] != before[name]).sum()) for name in before)
    assert changed > 0.99 * sum(value.numel() for value in before.values())


def test_finding_5_6_micro_batches_have_the_gradient_of_the_whole(tiny_model: Path) -> None:  # noqa: F811
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 30, (9, 2)).tolist()
    rows = [
        grpo.Row(i % 3, rng.integers(2, 90, p).tolist(), rng.integers(2, 90, r).tolist())
        for i, (p, r) in enumerate(lengths)
    ]
    gradients, losses = [], []
    for size in (1, 4, 9):
        policy = grpo.Policy(options(tiny_model, micro_batch=size, kl=0.3, max_gradient=1e9))
        shifted = [
            one - 0.3 * torch.rand(len(one), generator=torch.Generator().manual_seed(i))
            for i, one in enumerate(grpo.each_log_probs(policy, rows))
        ]
        optimizer = torch.optim.SGD(policy.model.parameters(), lr=0.0)
        losses.append(
            grpo.update(policy, optimizer, rows, torch.tensor([1.0, -2.0, 0.5]), grpo.Before(shifted, shifted))
        )
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in policy.model.parameters()]))
    assert losses == pytest.approx([losses[-1]] * 3, rel=1e-5)
    for one in gradients[:-1]:
        assert float((one - gradients[-1]).norm() / gradients[-1].norm()) < 1e-5


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_before_the_first_update_every_ratio_is_1(tiny_model: Path, precision: str) -> None:  # noqa: F811
    policy = grpo.Policy(options(tiny_model, micro_batch=2, precision=precision))
    old = grpo.each_log_probs(policy, ROWS)
    for lot in grpo.micro_batches(ROWS, 2):
        new, _ = policy.log_probs([ROWS[i] for i in lot])
        assert all(torch.equal(one[: len(old[i])].detach(), old[i]) for i, one in zip(lot, new, strict=True))


class Logits(TorchDispatchMode):
    """The most bytes that tensors with a row for each of ``vocabulary`` tokens took at once."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.vocabulary, self.peak = vocabulary, 0
        self.live: dict[int, int] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor) and made.dim() == 3 and made.shape[-1] == self.vocabulary:
            storage = made.untyped_storage()
            if id(storage) not in self.live:
                self.live[id(storage)] = storage.nbytes()
                weakref.finalize(storage, self.live.pop, id(storage))
                self.peak = max(self.peak, sum(self.live.values()))
        return made


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_finding_5_6_logits_take_what_the_numbers_say(tiny_model: Path, precision: str) -> None:  # noqa: F811
    peaks = []
    for prompt in (10, 300):
        policy = grpo.Policy(options(tiny_model, micro_batch=2, max_response=20, precision=precision))
        rows = [grpo.Row(0, [5] * prompt, [6] * 20) for _ in range(6)]
        before = grpo.Before(grpo.each_log_probs(policy, rows))
        vocabulary = policy.model.config.vocab_size
        with Logits(vocabulary) as logits:
            grpo.update(policy, torch.optim.SGD(policy.model.parameters()), rows, torch.ones(1), before)
        peaks.append(logits.peak)
    bound = learner_logits(2, 20, vocabulary)
    assert peaks[0] == peaks[1]
    assert 0.7 * bound < peaks[0] <= bound


def test_finding_5_6_the_models_own_generation_settings_are_not_used(tiny_model: Path, tmp_path: Path) -> None:  # noqa: F811
    published = {
        "repetition_penalty": 50.0,
        "min_p": 0.9,
        "top_k": 1,
        "no_repeat_ngram_size": 1,
        "temperature": 0.01,
        "max_length": 7,
        "do_sample": False,
        "bad_words_ids": [[9]],
        "suppress_tokens": [10],
    }
    folder = Path(shutil.copytree(tiny_model, tmp_path / "published"))
    plain = GenerationConfig.from_pretrained(tiny_model)
    ends = plain.eos_token_id
    (folder / "generation_config.json").write_text(json.dumps({**published, "eos_token_id": [ends, 11]}))

    def sampled(model: Path) -> Any:
        policy = grpo.Policy(options(model, max_response=12))
        policy.ends.discard(11)
        policy.model.generation_config.eos_token_id = [ends]
        torch.manual_seed(0)
        return policy.respond([[{"role": "user", "content": "who?"}]] * 4)

    assert sampled(folder) == sampled(tiny_model)
    policy = grpo.Policy(options(folder))
    assert policy.model.generation_config.eos_token_id == sorted({ends, 11})  # an end is an end, also a published one
    policy.save(tmp_path / "saved")
    assert GenerationConfig.from_pretrained(tmp_path / "saved").repetition_penalty == 50.0


def test_finding_5_6_progress_is_shown_while_the_model_computes() -> None:
    lines: list[str] = []
    with Progress(lines.append, every=0.01) as progress:
        progress.say("loading")
        while not lines:
            time.sleep(0.01)
        progress.say("update 1/3")
        while "update 1/3" not in lines[-1]:
            time.sleep(0.01)
    shown = len(lines)
    time.sleep(0.05)
    assert len(lines) == shown
    assert Progress(print)._every < 10


def test_finding_5_6_every_stage_says_how_far_it_is(tiny_model: Path) -> None:  # noqa: F811
    said: list[str] = []
    list(grpo.train(options(tiny_model, kl=0.1), say=said.append))
    text = "\n".join(dict.fromkeys(said))
    for part in ("loading", "iteration 1/1: sampling, 0/4 sessions over, 0 rows", "tokens/s", "0/2", "update 2/2"):
        assert part in text, text


def test_finding_5_6_an_interrupted_run_keeps_what_was_learned(
    tiny_model: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given, really = options(tiny_model, iterations=9, num_docs=4, save=tmp_path / "kept"), grpo.train

    def impatient(*arguments: Any, **keywords: Any) -> Any:
        def say(status: str) -> None:
            if status.startswith("iteration 2/9"):
                raise KeyboardInterrupt

        return really(given, lambda rewards, groups: torch.arange(len(rewards)).float(), say)

    monkeypatch.setattr(grpo, "train", impatient)
    assert grpo.main(given) == 130
    out, err = capsys.readouterr()
    assert out.startswith("iteration 1 ")
    assert "sampled_tokens_per_second" in out
    assert "interrupted" in err
    kept, first = (grpo.Policy(options(where)).model.state_dict() for where in (tmp_path / "kept", tiny_model))
    assert any(not torch.equal(kept[name], first[name]) for name in first)


@pytest.mark.parametrize(
    "wrong", [{"clip_dual": 1.0}, {"temperature": 0.0}, {"precision": "fp8"}, {"micro_batch": 0}, {"batch": -1}]
)
def test_wrong_options_are_named(wrong: dict[str, Any]) -> None:
    ((name, value),) = wrong.items()
    with pytest.raises(ConfigError, match=f"{name}={value!r}"):
        options(Path(), **wrong)


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


@pytest.mark.parametrize("sign", [1.0, -1.0, 0.0])
def test_finding_5_6_losses_are_verls_for_both_signs_of_the_advantage(sign: float) -> None:
    core = pytest.importorskip("verl.trainer.ppo.core_algos", reason=NO_VERL)
    from verl.workers.config import ActorConfig

    generator = torch.Generator().manual_seed(0)
    old, new, reference = (torch.randn(16, 9, generator=generator) * 1.5 - 2 for _ in range(3))
    new[0, 0], old[0, 0] = 0.0, -90.0  # a ratio without bounds
    own = (torch.rand(16, 9, generator=generator) > 0.3).float()
    drawn = torch.randn(16, generator=generator)
    advantages = sign * drawn.abs() if sign else drawn
    given = options(Path())
    config = ActorConfig(
        strategy="fsdp", rollout_n=1, ppo_micro_batch_size_per_gpu=1, clip_ratio_low=0.2, clip_ratio_high=0.28
    )
    theirs, metrics = core.compute_policy_loss_vanilla(
        old, new, advantages[:, None] * own, own, loss_agg_mode="token-mean", config=config
    )
    assert (metrics["actor/pg_clipfrac_lower"] > 0) is (sign <= 0)  # the third clip is met, or cannot be
    assert float(grpo.policy_loss(new, old, advantages, own, given)) == pytest.approx(float(theirs), rel=1e-6)
    kl = (core.kl_penalty(new, reference, "low_var_kl") * own).sum() / own.sum()
    assert float(grpo.low_variance_kl(new, reference, own)) == pytest.approx(float(kl), rel=1e-6)


def test_finding_5_6_a_negative_advantage_is_bounded_also_without_verl() -> None:
    """veRL's third clip: -1 × 3 in place of -1 × e^5."""
    one = torch.ones(1, 1)
    assert float(grpo.policy_loss(5 * one, 0 * one, -one[0], one, options(Path()))) == pytest.approx(3.0)
    assert float(grpo.policy_loss(5 * one, 0 * one, one[0], one, options(Path()))) == pytest.approx(-1.28)
