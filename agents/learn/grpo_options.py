"""The settings of ``grpo.py``; the same dataclass is its command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from atommem_gym.errors import ConfigError, check_integer

Precision: TypeAlias = Literal["auto", "bf16", "fp32"]
"""The type in which matrix products are computed."""


@dataclass
class Options:
    """Train a causal language model.

    Raises:
        ConfigError: a value is out of its range.
    """

    model: str
    """Folder or hub name of the model."""
    env_id: str = "AtomMem-Synthetic-v0"
    """Gymnasium id of the environment."""
    source: str | None = None
    """Source of its records, if not the default one."""
    num_docs: int = 20
    """Documents per episode."""
    chunk_tokens: int = 1000
    """Tokens per chunk."""
    shaping: str = "{}"
    """Wrappers that add to the reward, as JSON, such as '{"FormatPenalty": {"penalty": 0.1}}'."""
    items: int = 0
    """Items to train on; 0: all."""
    prompts: int = 4
    """Items per iteration."""
    group: int = 4
    """Sessions per item and iteration."""
    local_groups: int = 0
    """Sessions per iteration that are forked, each once, at a step drawn from all but its first; the continuations of a
    fork form a group."""
    branches: int = 4
    """Continuations per fork, the session's own included."""
    iterations: int = 10
    """Rollouts, each followed by one pass over its rows."""
    batch: int = 16
    """Rows (steps of sessions) per gradient step."""
    micro_batch: int = 4
    """Rows that go through the model at once; fewer take less memory and give the same gradient."""
    learning_rate: float = 1e-6
    """Learning rate of AdamW."""
    precision: Precision = "auto"
    """Type of the matrix products. auto: bf16 on an accelerator, fp32 on a CPU. Weights are always fp32, whatever the
    checkpoint has, because bf16 rounds updates of this size away."""
    clip_low: float = 0.2
    """The ratio of new to old probability is clipped below at 1 minus this."""
    clip_high: float = 0.28
    """The ratio of new to old probability is clipped above at 1 plus this."""
    clip_dual: float = 3.0
    """The ratio at which the loss of a negative advantage is cut (dual clip; veRL's clip_ratio_c)."""
    kl: float = 0.0
    """Weight of the KL divergence from the first policy (low-variance estimator k3); 0.001 in the AtomMem release."""
    temperature: float = 1.0
    """Sampling temperature. Of the model's own generation settings only the end-of-text tokens are used."""
    top_p: float = 0.99
    """Sample from the smallest set of tokens whose probabilities add up to this."""
    max_prompt: int = 4096
    """Tokens of a prompt, at most; a longer prompt is an error."""
    max_response: int = 256
    """Tokens of a response, at most; a longer response is cut there and executed as it is."""
    max_gradient: float = 1.0
    """Norm at which gradients are clipped."""
    device: str = "cpu"
    """Device of the model, such as cuda:0."""
    seed: int = 0
    """Seeds the draw of items, the sampling and the order of rows."""
    save: Path | None = None
    """Folder for the trained model, in fp32; written at the end and when training is interrupted."""
    log: Path | None = None
    """Folder for the figures of each iteration, all sessions and some whole episodes; `atommem view --training` shows
    it. See ``training_log.py``."""
    log_groups: int = 1
    """Groups per iteration whose whole episodes go into the log."""

    def __post_init__(self) -> None:
        for name in ("prompts", "group", "batch", "micro_batch", "max_prompt", "max_response"):
            check_integer(name, getattr(self, name), 1)
        check_integer("local_groups", self.local_groups, 0, self.prompts * self.group)
        check_integer("branches", self.branches, 2)
        if not self.clip_dual > 1:
            raise ConfigError(f"clip_dual={self.clip_dual} must be above 1: it bounds ratios that have risen")
        if not self.temperature > 0:
            raise ConfigError(f"temperature={self.temperature} must be above 0: a group needs different responses")
        if self.precision not in ("auto", "bf16", "fp32"):
            raise ConfigError(f"precision={self.precision!r} must be 'auto', 'bf16' or 'fp32'")
        check_integer("log_groups", self.log_groups, 0)
