"""Estimates the size of a GRPO run with veRL: rows, optimizer updates, tokens, operations, memory and disk.

``atommem data verl`` and the checks before a run print these numbers, the documentation quotes them, and tests compare
them with the log of a run. The formulas estimate the large terms only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from atommem_gym.config import EnvConfig
from atommem_gym.episode import Episode
from atommem_gym.errors import ConfigError
from atommem_gym.records.record import Items
from atommem_gym.records.stream import Stream
from atommem_gym.tokenizers import load_tokenizer

GIB = 2**30
"""Bytes."""
_PADDING_ROW = 128
"""Tokens of a padding row, with which veRL fills up a batch."""
_FUSED_TOKENS = 512
"""Tokens whose logits veRL's fused log-probabilities hold at the same time (backend torch)."""
_LEARNER_COPIES = 4
"""fp32 copies of the logits that ``grpo.py`` holds at its peak: the scaled ones, and three of the backward pass."""


@dataclass(frozen=True, slots=True)
class SessionSteps:
    """The number of steps of sessions; each step is a row for the trainer."""

    items: int
    """Number of items counted."""
    chunks: float
    """Chunks per stream, mean over the items."""
    least: float
    """Steps of a session if every question is answered at once, mean over the items."""
    most: float
    """Steps of a session that runs into ``max_steps``, mean over the items."""
    longest: int
    """The greatest ``max_steps`` of the items."""

    @classmethod
    def of(cls, items: Items, config: EnvConfig, indices: Iterable[int]) -> SessionSteps:
        """Count the steps of some items, in the layout of the first epoch.

        Args:
            items: The task's items.
            config: The environment's keyword arguments, which set chunks and step limits.
            indices: Indices of the items to count.

        Raises:
            ConfigError: ``indices`` is empty.
        """
        tokenizer = load_tokenizer(config.tokenizer)
        chunks, least, most = [], [], []
        for index in indices:
            item = items.item(index)
            stream = Stream(item.documents, tokenizer, config.chunk_tokens, config.chunk_overlap)
            limit = Episode(config, item, stream, tokenizer).max_steps
            reading = 0 if config.early_answer else stream.num_chunks
            chunks.append(stream.num_chunks)
            most.append(limit)
            least.append(min(limit, reading + len(item.questions)))
        if not chunks:
            raise ConfigError("no items: a run needs at least one")
        return cls(len(chunks), fmean(chunks), fmean(least), fmean(most), max(most))

    def as_json(self) -> dict[str, float]:
        """JSON values; ``SessionSteps(**values)`` is the inverse."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The sizes of a dense decoder that the estimates need."""

    parameters: int
    """Number of weights."""
    layers: int
    """Number of decoder layers."""
    hidden: int
    """Width of the hidden states."""
    vocabulary: int
    """Number of tokens that the model knows."""
    kv_heads: int
    """Key-value heads per layer."""
    head: int
    """Width of one attention head."""

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> ModelShape:
        """The shape that a ``config.json`` of the Llama or Qwen family describes.

        Raises:
            ConfigError: a size is missing or is not a number.
        """
        try:
            layers, hidden = int(config["num_hidden_layers"]), int(config["hidden_size"])
            vocabulary, inner = int(config["vocab_size"]), int(config["intermediate_size"])
            heads = int(config["num_attention_heads"])
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"the model's config.json does not describe a dense decoder: {error!r}") from error
        kv_heads = int(config.get("num_key_value_heads") or heads)
        head = int(config.get("head_dim") or hidden // heads)
        attention = hidden * head * (2 * heads + 2 * kv_heads)
        biases = head * (heads + 2 * kv_heads) if config.get("model_type") == "qwen2" else 0
        norms = 2 * hidden + (2 * head if config.get("model_type") == "qwen3" else 0)
        tables = 1 if config.get("tie_word_embeddings", False) else 2
        parameters = tables * vocabulary * hidden + layers * (attention + biases + 3 * hidden * inner + norms) + hidden
        return cls(parameters, layers, hidden, vocabulary, kv_heads, head)


@dataclass(frozen=True, slots=True)
class TrainingNumbers:
    """The numbers of one configuration; sizes are in bytes."""

    sessions: int
    """Sessions per training step."""
    rows_least: int
    """Rows per training step if every question is answered at once, padding left out."""
    rows_most: int
    """Rows per training step if every session runs into ``max_steps``, padding left out."""
    mini_batch_rows: int
    """Rows per optimizer update."""
    updates_least: int
    """Optimizer updates per training step, at ``rows_least``."""
    updates_most: int
    """Optimizer updates per training step, at ``rows_most``."""
    tokens_most: int
    """Tokens per training step, at most: prompts and responses at their limits."""
    flop_most: float
    """Floating-point operations per training step, at most, without decoding."""
    weights: float
    """Weights and gradients in fp32, per GPU."""
    moments: float
    """Adam's two moments, per GPU; 0 if they are offloaded."""
    logits: float
    """Logits in fp32 with gradients, per GPU: of a micro-batch, or of the tokens that fused kernels take at once."""
    activations: float
    """Layer inputs that gradient checkpointing keeps, per GPU."""
    kv_token: int
    """One token in the rollout's KV cache."""
    rollout_weights: float
    """The rollout's copy of the weights in bf16, per GPU."""
    host: float
    """Host memory for offloaded tensors, per node."""
    checkpoint: float
    """Disk for one checkpoint: weights and moments in fp32."""
    checkpoints: float
    """Disk for all checkpoints of a run, at most."""

    @property
    def training_gpu(self) -> float:
        """Memory per GPU during the update, while the rollout's memory is released."""
        return self.weights + self.moments + self.logits + self.activations


def training_numbers(steps: SessionSteps, model: ModelShape, config: Mapping[str, Any]) -> TrainingNumbers:
    """The numbers of a run.

    Args:
        steps: Steps of the training items.
        model: Shape of the policy.
        config: veRL's configuration, composed and resolved.
    """
    data, trainer, actor_rollout = config["data"], config["trainer"], config["actor_rollout_ref"]
    actor, rollout = actor_rollout["actor"], actor_rollout["rollout"]
    gpus = int(trainer["n_gpus_per_node"]) * int(trainer["nnodes"])
    sessions = int(data["train_batch_size"]) * int(rollout["n"])
    mini_batch = int(actor["ppo_mini_batch_size"]) * int(rollout["n"])
    least, most = round(sessions * steps.least), round(sessions * steps.most)
    row = int(data["max_prompt_length"]) + int(data["max_response_length"])
    padding = math.ceil(most / mini_batch) * mini_batch - most
    tokens = most * row + padding * _PADDING_ROW
    size = model.parameters
    lora = int(actor_rollout["model"].get("lora_rank") or 0) > 0
    trained = 0.01 * size if lora else float(size)
    offloaded = bool(actor["fsdp_config"].get("optimizer_offload"))
    micro = max(int(actor.get("ppo_max_token_len_per_gpu") or row), row)
    bypass = bool((config["algorithm"].get("rollout_correction") or {}).get("bypass_mode"))
    reference = bool(actor.get("use_kl_loss")) or bool(config["algorithm"].get("use_kl_in_reward"))
    passes = 2 + 6 + (0 if bypass else 2) + (2 if reference else 0)
    at_once = min(micro, _FUSED_TOKENS) if actor_rollout["model"].get("use_fused_kernels") else micro
    checkpoint = 4.0 * size + 8.0 * trained
    return TrainingNumbers(
        sessions=sessions,
        rows_least=least,
        rows_most=most,
        mini_batch_rows=mini_batch,
        updates_least=math.ceil(least / mini_batch),
        updates_most=math.ceil(most / mini_batch),
        tokens_most=tokens,
        flop_most=float(passes) * size * tokens,
        weights=(4.0 * size + 4.0 * trained) / gpus,
        moments=0.0 if offloaded else 8.0 * trained / gpus,
        logits=2 * 4.0 * at_once * model.vocabulary,
        activations=2.0 * micro * model.hidden * model.layers,
        kv_token=4 * model.layers * model.kv_heads * model.head,
        rollout_weights=2.0 * size / int(rollout["tensor_model_parallel_size"]),
        host=((8.0 * trained if offloaded else 0.0) + (4.0 * size if reference and not lora else 0.0))
        / int(trainer["nnodes"]),
        checkpoint=checkpoint,
        checkpoints=checkpoint * (int(trainer.get("max_actor_ckpt_to_keep") or 1) + 1),
    )


def one_update(steps: SessionSteps, config: Mapping[str, Any], updates: int = 1) -> int:
    """The ``ppo_mini_batch_size`` with which a training step takes at most ``updates`` optimizer updates.

    Args:
        steps: Steps of the training items; no session may be longer than ``steps.longest``.
        config: veRL's configuration, composed.
        updates: Optimizer updates per training step.

    Raises:
        ConfigError: ``updates`` is below 1.
    """
    if updates < 1:
        raise ConfigError(f"updates={updates} must be at least 1")
    prompts, trainer = int(config["data"]["train_batch_size"]), config["trainer"]
    rollouts = int(config["actor_rollout_ref"]["rollout"]["n"])
    gpus = int(trainer["n_gpus_per_node"]) * int(trainer["nnodes"])
    needed = math.ceil(prompts * steps.longest / updates)
    # veRL divides a mini-batch evenly among the GPUs.
    multiple = gpus // math.gcd(gpus, rollouts)
    return math.ceil(needed / multiple) * multiple


def learner_logits(micro_batch: int, max_response: int, vocabulary: int) -> int:
    """Bytes that ``grpo.py``, the learner in plain torch, needs for logits and their gradients, at most.

    Prompts get no logits, so their length does not matter. SmolLM2-135M with the learner's defaults, in MiB:

    >>> learner_logits(micro_batch=4, max_response=256, vocabulary=49_152) // 2**20
    771

    Args:
        micro_batch: Rows that go through the model at once.
        max_response: Tokens of a response, at most; one position more gets logits, which are not used.
        vocabulary: Number of tokens that the model knows.
    """
    return _LEARNER_COPIES * 4 * micro_batch * (max_response + 1) * vocabulary


def markdown(numbers: TrainingNumbers, steps: SessionSteps) -> str:
    """The numbers as a Markdown table."""

    def span(least: float, most: float) -> str:
        return f"{least:,.0f}" if least == most else f"{least:,.0f} to {most:,.0f}"

    def gib(size: float) -> str:
        return f"{size / GIB:,.1f} GiB"

    rows = {
        f"chunks per stream ({steps.items} items)": f"{steps.chunks:.1f}",
        "steps per session, each a row": f"{steps.least:.1f} to {steps.most:.1f}",
        "sessions per training step": f"{numbers.sessions:,}",
        "rows per training step": span(numbers.rows_least, numbers.rows_most),
        "rows per mini-batch": f"{numbers.mini_batch_rows:,}",
        "optimizer updates per training step": span(numbers.updates_least, numbers.updates_most),
        "tokens per training step, at most": f"{numbers.tokens_most / 1e6:,.2f} million",
        "floating-point operations per training step, without decoding": f"{numbers.flop_most:.1e}",
        "weights and gradients, per GPU": gib(numbers.weights),
        "Adam's moments, per GPU": gib(numbers.moments),
        "logits, per GPU": gib(numbers.logits),
        "checkpointed activations, per GPU": gib(numbers.activations),
        "rollout's weights, per GPU": gib(numbers.rollout_weights),
        "one token in the KV cache": f"{numbers.kv_token / 1024:,.0f} KiB",
        "host memory for offloaded tensors, per node": gib(numbers.host),
        "one checkpoint, and all that are kept": f"{gib(numbers.checkpoint)}, {gib(numbers.checkpoints)}",
    }
    return "\n".join(["| | |", "|---|--:|", *(f"| {name} | {value} |" for name, value in rows.items())])
