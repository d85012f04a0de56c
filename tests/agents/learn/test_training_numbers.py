"""The numbers of a training run, against an environment that is played and models that are made."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import pytest

from atommem_gym.agents.learn.training_numbers import (
    GIB,
    ModelShape,
    SessionSteps,
    TrainingNumbers,
    markdown,
    one_update,
    training_numbers,
)
from atommem_gym.errors import ConfigError
from atommem_gym.registration import configure, load_items

KEYWORDS: dict[str, Any] = {"num_docs": 30, "chunk_tokens": 300, "questions_per_episode": [1, 3], "store": "numpy"}
QWEN3_8B = ModelShape(8_190_735_360, 36, 4096, 151_936, 8, 128)


def config(**changes: Any) -> dict[str, Any]:
    """veRL's configuration, as far as numbers come from it."""
    given: dict[str, Any] = {
        "data": {"train_batch_size": 8, "max_prompt_length": 12288, "max_response_length": 4096},
        "trainer": {"n_gpus_per_node": 8, "nnodes": 1, "max_actor_ckpt_to_keep": 2},
        "algorithm": {"use_kl_in_reward": False},
        "actor_rollout_ref": {
            "model": {"use_fused_kernels": False},
            "actor": {
                "ppo_mini_batch_size": 88,
                "use_kl_loss": True,
                "ppo_max_token_len_per_gpu": 32768,
                "fsdp_config": {"optimizer_offload": True},
            },
            "rollout": {"n": 8, "tensor_model_parallel_size": 1},
        },
    }
    for path, value in changes.items():
        *parents, name = path.split("__")
        place = given
        for parent in parents:
            place = place[parent]
        place[name] = value
    return given


def steps_of(**changes: Any) -> tuple[SessionSteps, list[int]]:
    resolved = configure("Synthetic", {**KEYWORDS, **changes})
    return SessionSteps.of(load_items("Synthetic", resolved), resolved, range(6)), list(range(6))


@pytest.mark.parametrize("changes", [{}, {"early_answer": True}, {"max_steps": 5}, {"chunk_overlap": 40}])
def test_finding_5_2_steps_are_those_of_the_environment(changes: dict[str, Any]) -> None:
    """Sessions that answer at once, and sessions that never do, are played."""
    told, indices = steps_of(**changes)
    env = gym.make("AtomMem-Synthetic-v0", **{**KEYWORDS, **changes})
    taken: dict[str, list[int]] = {"<answer>x</answer>": [], "": []}
    for action, lengths in taken.items():
        for index in indices:
            env.reset(options={"index": index})
            steps, over = 0, False
            while not over:
                _, _, terminated, truncated, _ = env.step(action)
                steps, over = steps + 1, terminated or truncated
            lengths.append(steps)
    env.close()
    assert told.least == pytest.approx(sum(taken["<answer>x</answer>"]) / 6)
    assert told.most == pytest.approx(sum(taken[""]) / 6)
    assert told.longest == max(taken[""])


def test_no_items_is_an_error() -> None:
    resolved = configure("Synthetic", KEYWORDS)
    with pytest.raises(ConfigError, match="at least one"):
        SessionSteps.of(load_items("Synthetic", resolved), resolved, [])


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", ["Qwen3", "Qwen2", "Llama"])
def test_parameters_are_counted_as_the_model_has_them(family: str, tied: bool) -> None:
    transformers = pytest.importorskip("transformers", reason="needs transformers: pip install 'atommem-gym[llm]'")
    made = getattr(transformers, f"{family}Config")(
        vocab_size=300,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        tie_word_embeddings=tied,
    )
    model = getattr(transformers, f"{family}ForCausalLM")(made)
    shape = ModelShape.of(made.to_dict())
    assert shape.parameters == sum(one.numel() for one in model.parameters())
    assert (shape.layers, shape.vocabulary, shape.kv_heads, shape.head) == (3, 300, 2, 16)


@pytest.mark.parametrize("broken", [{}, {"hidden_size": None}, {"model_type": "mamba", "hidden_size": 8}])
def test_another_kind_of_model_is_an_error(broken: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"config\.json"):
        ModelShape.of(broken)


def test_rows_updates_and_tokens_of_the_documented_run() -> None:
    numbers = training_numbers(SessionSteps(64, 7.0, 8.0, 11.0, 11), QWEN3_8B, config())
    assert (numbers.sessions, numbers.rows_least, numbers.rows_most) == (64, 512, 704)
    assert (numbers.mini_batch_rows, numbers.updates_least, numbers.updates_most) == (704, 1, 1)
    assert numbers.tokens_most == 704 * 16384
    assert numbers.flop_most == 12.0 * QWEN3_8B.parameters * 704 * 16384


@pytest.mark.parametrize(
    ("changes", "passes"),
    [
        ({"actor_rollout_ref__actor__use_kl_loss": False}, 10),
        ({"algorithm__rollout_correction": {"bypass_mode": True}}, 10),
    ],
)
def test_passes_that_are_left_out_are_not_counted(changes: dict[str, Any], passes: int) -> None:
    steps = SessionSteps(64, 7.0, 8.0, 11.0, 11)
    numbers = training_numbers(steps, QWEN3_8B, config(**changes))
    assert numbers.flop_most == float(passes) * QWEN3_8B.parameters * numbers.tokens_most


def test_memory_of_a_gpu_a_node_and_the_disk() -> None:
    steps, size = SessionSteps(64, 7.0, 8.0, 11.0, 11), QWEN3_8B.parameters
    numbers = training_numbers(steps, QWEN3_8B, config())
    assert (numbers.weights, numbers.moments) == (size, 0.0)
    assert numbers.logits == 8 * 32768 * 151_936  # 37 GiB: what fused log-probabilities are for
    assert numbers.host == 8 * size + 4 * size  # moments, and the reference
    assert (numbers.checkpoint, numbers.checkpoints) == (12 * size, 36 * size)
    assert numbers.kv_token == 144 * 1024
    fused = training_numbers(steps, QWEN3_8B, config(actor_rollout_ref__model__use_fused_kernels=True))
    assert fused.logits == 8 * 512 * 151_936
    assert fused.training_gpu < numbers.training_gpu - 36 * GIB
    lora = training_numbers(steps, QWEN3_8B, config(actor_rollout_ref__model__lora_rank=32))
    assert lora.weights < 0.6 * numbers.weights
    assert lora.host < numbers.host / 50


def test_a_mini_batch_for_any_number_of_updates_is_shared_out_evenly() -> None:
    steps = SessionSteps(64, 7.0, 8.0, 11.0, 13)
    for gpus in (1, 3, 8, 12):
        for updates in (1, 2, 5):
            given = config(trainer__n_gpus_per_node=gpus)
            size = one_update(steps, given, updates)
            given["actor_rollout_ref"]["actor"]["ppo_mini_batch_size"] = size
            numbers: TrainingNumbers = training_numbers(steps, QWEN3_8B, given)
            assert numbers.mini_batch_rows % gpus == 0
            assert numbers.mini_batch_rows * updates >= 64 * 13
    with pytest.raises(ConfigError, match="updates=0"):
        one_update(steps, config(), 0)


def test_the_table_says_each_number_once() -> None:
    steps = SessionSteps(64, 7.0, 8.0, 11.0, 11)
    table = markdown(training_numbers(steps, QWEN3_8B, config()), steps)
    assert "| rows per training step | 512 to 704 |" in table
    assert "| optimizer updates per training step | 1 |" in table
    assert "| one token in the KV cache | 144 KiB |" in table
