"""Every veRL configuration composes with the installed veRL's own defaults and says nothing that veRL does not know."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

CONFIGS = Path(__file__).resolve().parents[3] / "verl_configs"
NAMES = sorted(path.stem for path in CONFIGS.glob("*.yaml") if path.stem != "agent_loop")
GRPO = [name for name in NAMES if "sft" not in name]
SFT = [name for name in NAMES if "sft" in name]
ADDED = (
    # Places where veRL's defaults are open; what stands there goes to transformers, vLLM and Ray as it is.
    "actor_rollout_ref.model.override_config.",
    "actor_rollout_ref.rollout.engine_kwargs.vllm.",
    "model.override_config.",
    "data.apply_chat_template_kwargs.",
    "ray_kwargs.ray_init.",
    # Fields of veRL's dataclasses that its YAML files leave out.
    "actor_rollout_ref.actor.fsdp_config.mixed_precision",
    "actor_rollout_ref.rollout.enable_sleep_mode",
    "engine.mixed_precision",
)

pytest.importorskip("verl", reason="needs veRL: make verl-environment")
from hydra import compose, initialize_config_dir, initialize_config_module  # noqa: E402
from omegaconf import OmegaConf  # noqa: E402


@pytest.fixture(autouse=True)
def _paths(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATA", "SFT", "OUT", "MODEL", "AGENT_LOOP"):
        monkeypatch.setenv(f"ATOMMEM_{name}", f"/where/{name.lower()}")


def composed(name: str) -> dict[str, Any]:
    with initialize_config_dir(str(CONFIGS), version_base=None):
        return OmegaConf.to_container(compose(name), resolve=True)  # type: ignore[return-value]


def defaults(name: str) -> dict[str, Any]:
    own = "sft_trainer_engine" if name in SFT else "ppo_trainer"
    with initialize_config_module("verl.trainer.config", version_base=None):
        return OmegaConf.to_container(compose(own), resolve=False)  # type: ignore[return-value]


def unknown(given: Mapping[str, Any], known: Mapping[str, Any], path: str = "") -> Iterator[str]:
    for key, value in given.items():
        where = path + key
        if where.startswith(ADDED):
            continue
        if key not in known:
            yield where
        elif isinstance(value, dict) and isinstance(known[key], dict):
            yield from unknown(value, known[key], f"{where}.")


@pytest.mark.parametrize("name", NAMES)
def test_verl_knows_every_key(name: str) -> None:
    assert list(unknown(composed(name), defaults(name))) == []


def test_a_misspelt_key_would_be_found() -> None:
    given = composed("grpo_qwen3_8b")
    given["actor_rollout_ref"]["actor"]["clip_ratio_hihg"] = 0.28
    assert list(unknown(given, defaults("grpo_qwen3_8b"))) == ["actor_rollout_ref.actor.clip_ratio_hihg"]


@pytest.mark.parametrize("name", GRPO)
def test_verl_accepts_the_values(name: str) -> None:
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import omega_conf_to_dataclass, validate_config

    config = OmegaConf.create(composed(name))
    validate_config(config=config, use_reference_policy=need_reference_policy(config), use_critic=need_critic(config))
    rollout = omega_conf_to_dataclass(config.actor_rollout_ref.rollout)
    actor = omega_conf_to_dataclass(config.actor_rollout_ref.actor)
    assert rollout.agent.default_agent_loop == "atommem"
    assert rollout.prompt_length + rollout.response_length <= rollout.max_model_len
    assert actor.ppo_epochs == 1
    assert config.trainer.use_v1
    assert not config.algorithm.norm_adv_by_std_in_grpo


@pytest.mark.parametrize(
    ("name", "steps_a_session", "updates"),
    [("grpo_qwen3_8b", 45, 3), ("grpo_qwen3_8b_multinode", 45, 3), ("grpo_qwen3_0.6b_1gpu", 15, 2)],
)
def test_optimizer_updates_a_training_step(name: str, steps_a_session: int, updates: int) -> None:
    """A mini-batch counts rows: what the comments and docs/train_your_own.md say about it."""
    config = composed(name)
    n = config["actor_rollout_ref"]["rollout"]["n"]
    rows = config["data"]["train_batch_size"] * n * steps_a_session
    mini_batch = config["actor_rollout_ref"]["actor"]["ppo_mini_batch_size"] * n
    assert math.ceil(rows / mini_batch) == updates
    assert mini_batch % (config["trainer"]["n_gpus_per_node"] * config["trainer"]["nnodes"]) == 0


def test_the_released_hyper_parameters() -> None:
    """RELEASED.md 1.19."""
    config = composed("grpo_qwen3_8b")
    actor, rollout = config["actor_rollout_ref"]["actor"], config["actor_rollout_ref"]["rollout"]
    assert (config["data"]["train_batch_size"], rollout["n"]) == (8, 8)
    assert (actor["optim"]["lr"], actor["clip_ratio_high"], actor["loss_agg_mode"]) == (1e-6, 0.28, "token-mean")
    assert (actor["use_kl_loss"], actor["kl_loss_coef"], actor["kl_loss_type"]) == (True, 1e-3, "low_var_kl")
    assert (rollout["temperature"], rollout["top_p"], rollout["val_kwargs"]["temperature"]) == (1.0, 0.99, 0)
    assert config["data"]["max_response_length"] == 4096


@pytest.mark.parametrize("path", ["agent_loop.yaml", "cpu/agent_loop.yaml"])
def test_the_agent_loop_takes_its_arguments(path: str) -> None:
    import inspect

    from atommem_gym.agents.learn.verl_loop import AtomMemAgentLoop
    from atommem_gym.config import EnvConfig
    from atommem_gym.envs.shaping import load_shaping

    (given,) = OmegaConf.to_container(OmegaConf.load(CONFIGS / path), resolve=True)  # type: ignore[misc]
    assert (given.pop("name"), given.pop("_target_")) == (
        "atommem",
        "atommem_gym.agents.learn.verl_loop.AtomMemAgentLoop",
    )
    assert set(given) <= set(inspect.signature(AtomMemAgentLoop).parameters)
    load_shaping(given.get("shaping", {}))
    EnvConfig.from_keywords(given["env_keywords"])


def test_padding_rows_carry_no_loss() -> None:
    """veRL fills batches up with rows whose mask is 0, so that they count neither in the loss nor in its mean."""
    import torch
    from verl.trainer.ppo.padding_utils import construct_minimal_padding_template

    source = {"position_ids": torch.arange(3), "rm_scores": torch.ones(2)}
    template, tag = construct_minimal_padding_template(source, {"seq_len": 3}, eos_token_id=7)
    assert int(template["response_mask"].sum()) == int(template["loss_mask"].sum()) == 0
    assert float(template["rm_scores"].sum()) == 0.0
    assert tag["is_padding"]
