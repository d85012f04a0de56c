"""Every veRL configuration composes with the installed veRL's own defaults and says nothing that veRL does not know."""

from __future__ import annotations

import re
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
    # What a sampler of one's own is given.
    "trainer.v1.sampler.sampler_kwargs.",
)
CHOICES = [
    (),
    ("recipe=paper", "attention=flash", "adapter=lora"),
    ("algorithm.filter_groups.enable=true", "algorithm.rollout_correction.bypass_mode=true"),
]
LARGE = [name for name in GRPO if not name.startswith("cpu")]

pytest.importorskip("verl", reason="needs veRL: make verl-environment")
from hydra import compose, initialize_config_dir, initialize_config_module  # noqa: E402
from omegaconf import OmegaConf  # noqa: E402
from omegaconf.errors import InterpolationResolutionError  # noqa: E402


@pytest.fixture(autouse=True)
def _paths(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATA", "SFT", "OUT", "MODEL", "AGENT_LOOP", "STORE", "EMBEDDER", "SESSIONS", "RUN", "TEMPLATE"):
        monkeypatch.setenv(f"ATOMMEM_{name}", f"/where/{name.lower()}")
    monkeypatch.setenv("ATOMMEM_STORE", "http://where:19530")  # of a known form
    monkeypatch.setenv("VERL_FILE_LOGGER_PATH", "/where/metrics.jsonl")


def composed(name: str, *overrides: str) -> dict[str, Any]:
    with initialize_config_dir(str(CONFIGS), version_base=None):
        return OmegaConf.to_container(compose(name, overrides=list(overrides)), resolve=True)  # type: ignore[return-value]


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


@pytest.mark.parametrize(
    ("name", "overrides"), [*((name, ()) for name in NAMES), *((name, more) for name in LARGE for more in CHOICES[1:])]
)
def test_verl_knows_every_key(name: str, overrides: tuple[str, ...]) -> None:
    assert list(unknown(composed(name, *overrides), defaults(name))) == []


def test_a_misspelt_key_would_be_found() -> None:
    given = composed("grpo_qwen3_8b")
    given["actor_rollout_ref"]["actor"]["clip_ratio_hihg"] = 0.28
    assert list(unknown(given, defaults("grpo_qwen3_8b"))) == ["actor_rollout_ref.actor.clip_ratio_hihg"]


@pytest.mark.parametrize(
    ("name", "overrides"), [*((name, ()) for name in GRPO), *((name, more) for name in LARGE for more in CHOICES[1:])]
)
def test_verl_accepts_the_values(name: str, overrides: tuple[str, ...]) -> None:
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import omega_conf_to_dataclass, validate_config

    config = OmegaConf.create(composed(name, *overrides))
    validate_config(config=config, use_reference_policy=need_reference_policy(config), use_critic=need_critic(config))
    rollout = omega_conf_to_dataclass(config.actor_rollout_ref.rollout)
    actor = omega_conf_to_dataclass(config.actor_rollout_ref.actor)
    assert rollout.agent.default_agent_loop == "atommem"
    assert rollout.prompt_length + rollout.response_length <= rollout.max_model_len
    assert actor.ppo_epochs == 1
    assert config.trainer.use_v1
    assert not config.algorithm.norm_adv_by_std_in_grpo


# Facts of the release's script/train/run_memory_longcontext.sh (RUCBM/AtomMem, commit 7b50580), by the names of its
# veRL. Where the installed veRL names or counts otherwise, the second table says what stands for it here, and why.
RELEASE = {
    "algorithm.adv_estimator": "grpo",
    "trainer.save_freq": 10,
    "actor_rollout_ref.rollout.n": 8,
    "actor_rollout_ref.rollout.val_kwargs.n": 1,
    "actor_rollout_ref.actor.optim.lr_warmup_steps": 20,
    "actor_rollout_ref.actor.clip_ratio_high": 0.28,
    "actor_rollout_ref.actor.entropy_coeff": 0,
    "data.filter_overlong_prompts": False,
    "data.train_batch_size": 8,
    "data.max_response_length": 4096,
    "actor_rollout_ref.actor.optim.lr": 1e-6,
    "actor_rollout_ref.actor.use_dynamic_bsz": True,
    "actor_rollout_ref.actor.ppo_max_token_len_per_gpu": 32768,
    "actor_rollout_ref.ref.log_prob_max_token_len_per_gpu": 32768,
    "actor_rollout_ref.rollout.log_prob_max_token_len_per_gpu": 32768,
    "actor_rollout_ref.actor.use_kl_loss": True,
    "actor_rollout_ref.actor.kl_loss_coef": 0.001,
    "actor_rollout_ref.actor.kl_loss_type": "low_var_kl",
    "actor_rollout_ref.model.enable_gradient_checkpointing": True,
    "actor_rollout_ref.actor.fsdp_config.optimizer_offload": True,
    "actor_rollout_ref.rollout.name": "vllm",
    "actor_rollout_ref.rollout.temperature": 1,
    "actor_rollout_ref.rollout.top_p": 0.99,
    "actor_rollout_ref.rollout.tensor_model_parallel_size": 1,
    "actor_rollout_ref.rollout.val_kwargs.do_sample": False,
    "actor_rollout_ref.rollout.val_kwargs.temperature": 0.0,
    "actor_rollout_ref.rollout.val_kwargs.top_p": 0.99,
    "actor_rollout_ref.ref.fsdp_config.param_offload": True,
    "trainer.critic_warmup": 0,
    "trainer.val_before_train": False,
    "trainer.n_gpus_per_node": 8,
    "trainer.nnodes": 1,
    "trainer.test_freq": 20,
    "trainer.total_epochs": 5,
}
OTHERWISE = {
    "algorithm.norm_adv_by_std_in_grpo": False,  # its grpo_use_adv=False: no division by the deviation
    "actor_rollout_ref.actor.fsdp_config.param_offload": False,  # it offloads weights, too: 4 GB of 80
    "actor_rollout_ref.rollout.gpu_memory_utilization": 0.6,  # 0.65 there; the embedding server shares a card
    "actor_rollout_ref.rollout.max_num_batched_tokens": 16384,  # 32768 there
    "data.max_prompt_length": 12288,  # 16384 there, of which its environment uses what a prompt has
    "actor_rollout_ref.model.use_remove_padding": False,  # True there; attention=flash
}
PAPER = {
    "data.train_batch_size": 16,
    "actor_rollout_ref.rollout.n": 16,
    "actor_rollout_ref.actor.use_kl_loss": False,
    "actor_rollout_ref.actor.kl_loss_coef": 0,
    "actor_rollout_ref.rollout.val_kwargs.temperature": 0.7,
    "actor_rollout_ref.rollout.val_kwargs.top_p": 1.0,
    "actor_rollout_ref.rollout.val_kwargs.do_sample": True,
}
"""Version 3, table 7."""


def at(config: Mapping[str, Any], path: str) -> Any:
    for name in path.split("."):
        config = config[name]
    return config


def test_finding_5_7_the_hyper_parameters_of_the_release() -> None:
    config = composed("grpo_qwen3_8b")
    assert {path: at(config, path) for path in RELEASE} == RELEASE
    assert {path: at(config, path) for path in OTHERWISE} == OTHERWISE
    assert at(composed("grpo_qwen3_8b", "attention=flash"), "actor_rollout_ref.model.use_remove_padding") is True


def test_finding_5_7_the_hyper_parameters_of_the_paper() -> None:
    config = composed("grpo_qwen3_8b", "recipe=paper")
    assert {path: at(config, path) for path in PAPER} == PAPER
    rest = {path: value for path, value in RELEASE.items() if path not in PAPER}
    assert {path: at(config, path) for path in rest} == rest


@pytest.mark.parametrize("name", LARGE)
@pytest.mark.parametrize("updates", [1, 2])
def test_finding_5_2_every_row_of_a_step_fits_into_the_updates_that_were_asked_for(
    name: str, updates: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from atommem_gym.agents.learn.training_numbers import ModelShape, SessionSteps, one_update, training_numbers

    steps = SessionSteps(64, 7.0, 8.0, 11.0, 11)
    monkeypatch.setenv("ATOMMEM_MINI_BATCH", str(one_update(steps, composed(name), updates)))
    numbers = training_numbers(steps, ModelShape(8_000_000_000, 36, 4096, 151_936, 8, 128), composed(name))
    assert (numbers.updates_most, numbers.rows_most) == (updates, numbers.sessions * 11)
    trainer = composed(name)["trainer"]
    assert numbers.mini_batch_rows % (trainer["n_gpus_per_node"] * trainer["nnodes"]) == 0


@pytest.mark.parametrize("name", LARGE)
def test_finding_5_1_every_setting_is_told_to_the_workers(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told = composed(name)["ray_kwargs"]["ray_init"]["runtime_env"]["env_vars"]
    loop = (CONFIGS / "agent_loop.yaml").read_text()
    needed = set(re.findall(r"\$\{oc\.env:(\w+)\}", loop))
    assert needed
    assert needed <= set(told)
    monkeypatch.delenv("ATOMMEM_EMBEDDER")
    with pytest.raises(InterpolationResolutionError, match="ATOMMEM_EMBEDDER"):
        composed(name)


@pytest.mark.parametrize("name", GRPO)
def test_finding_5_5_every_run_drops_groups_in_which_a_session_failed(name: str) -> None:
    config = composed(name)
    sampler = config["trainer"]["v1"]["sampler"]
    assert sampler["custom_sampler"]["name"] == "GroupSampler"
    assert sampler["sampler_kwargs"]["train_batch_size"] == config["data"]["train_batch_size"]


def test_finding_5_4_without_flash_attn_nothing_asks_for_it() -> None:
    for name in GRPO:
        model = composed(name)["actor_rollout_ref"]["model"]
        assert model["override_config"] == {"attn_implementation": "sdpa"}
        assert (model["use_remove_padding"], model["use_fused_kernels"]) == (False, True)
    assert composed("sft_qwen3_8b")["model"]["override_config"] == {"attn_implementation": "sdpa"}


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
