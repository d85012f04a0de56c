"""The settings of ``grpo.py``; the same dataclass is its command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from atommem_gym.errors import ConfigError, check_integer

Precision: TypeAlias = Literal["auto", "bf16", "fp32"]


@dataclass
class Options:
    """Train a causal language model.

    Raises:
        ConfigError: a value is out of its range.
    """

    model: str
    """Folder or hub name."""
    env_id: str = "AtomMem-Synthetic-v0"
    """Any environment of the family."""
    source: str | None = None
    """Where its records come from, if not from its default source."""
    num_docs: int = 20
    """Documents per episode."""
    chunk_tokens: int = 1000
    """Tokens per chunk."""
    shaping: str = "{}"
    """Added to the reward, as JSON, such as '{"FormatPenalty": {"penalty": 0.1}}'."""
    items: int = 0
    """Items to train on; 0: all there are."""
    prompts: int = 4
    """Items per iteration."""
    group: int = 4
    """Sessions of each item."""
    local_groups: int = 0
    """Sessions of an iteration that are forked, each once, at a step drawn from all but its first; their continuations
    form groups of their own."""
    branches: int = 4
    """Continuations of each of them, the session's own included."""
    iterations: int = 10
    """Rollouts, each followed by one pass over its rows."""
    batch: int = 16
    """Rows (steps of sessions) per gradient step."""
    micro_batch: int = 4
    """Rows that go through the model at once: the fewer, the less memory it takes. The gradient is the same."""
    learning_rate: float = 1e-6
    """Learning rate of AdamW."""
    precision: Precision = "auto"
    """What matrix products are computed in; weights are kept in fp32, whatever the checkpoint has, since bf16 rounds
    updates of this size away. auto: bf16 on an accelerator, fp32 on a CPU."""
    clip_low: float = 0.2
    """How far the ratio of new to old probability may fall and still count."""
    clip_high: float = 0.28
    """How far it may rise and still count."""
    clip_dual: float = 3.0
    """The ratio at which the loss of a negative advantage is cut (dual clip; veRL's clip_ratio_c)."""
    kl: float = 0.0
    """Weight of the distance to the first policy, by the estimator of low variance; the release has 0.001."""
    temperature: float = 1.0
    """Temperature of sampling. Of the model's own settings for generation only the end-of-text tokens are used."""
    top_p: float = 0.99
    """Draw from the smallest set of tokens that has this probability in all."""
    max_prompt: int = 4096
    """Tokens of a prompt; a longer one is an error."""
    max_response: int = 256
    """Tokens of a response; a longer one is cut there and executed as it is."""
    max_gradient: float = 1.0
    """Norm at which gradients are cut."""
    device: str = "cpu"
    """Device of the model, such as cuda:0."""
    seed: int = 0
    """Seeds the draw of items, the sampling and the order of rows."""
    save: Path | None = None
    """Folder for the trained model, in fp32; written at the end and when training is interrupted."""
    log: Path | None = None
    """Folder for the figures of each iteration, all sessions and some whole episodes, which `atommem view --training`
    shows; see ``training_log.py``."""
    log_groups: int = 1
    """Groups of each iteration whose whole episodes go into the log."""

    def __post_init__(self) -> None:
        for name in ("prompts", "group", "batch", "micro_batch", "max_prompt", "max_response"):
            check_integer(name, getattr(self, name), 1)
        check_integer("local_groups", self.local_groups, 0, self.prompts * self.group)
        check_integer("branches", self.branches, 2)
        if not self.clip_dual > 1:
            raise ConfigError(f"clip_dual={self.clip_dual} must be above 1: it cuts ratios that have risen")
        if not self.temperature > 0:
            raise ConfigError(f"temperature={self.temperature} must be above 0: a group needs different responses")
        if self.precision not in ("auto", "bf16", "fp32"):
            raise ConfigError(f"precision={self.precision!r} must be 'auto', 'bf16' or 'fp32'")
        check_integer("log_groups", self.log_groups, 0)
