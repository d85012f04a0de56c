"""What a GRPO run with veRL is made of, in numbers: rows, optimizer updates, tokens, arithmetic, memory and disk.

One place for all of them: ``atommem data verl`` and the checks before a run print them, the documentation quotes them,
and tests compare them with what a run wrote down. Formulas are estimates of what is large, not a profile.
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
_PADDING_ROW = 128
"""Tokens of a row that veRL fills a batch up with."""
_FUSED_TOKENS = 512
"""Tokens whose logits veRL's fused log-probabilities hold at a time (backend torch)."""
_LEARNER_COPIES = 4
"""Logits that ``grpo.py`` holds at its peak, in fp32: scaled, and three of the backward pass."""


@dataclass(frozen=True, slots=True)
class SessionSteps:
    """How many steps sessions have; each step is a row for the trainer."""

    items: int
    """How many items were looked at."""
    chunks: float
    """Chunks of a stream, their mean."""
    least: float
    """Steps if every question is answered at once, their mean over the items."""
    most: float
    """Steps if every session runs into ``max_steps``, their mean over the items."""
    longest: int
    """The greatest ``max_steps`` of an item."""

    @classmethod
    def of(cls, items: Items, config: EnvConfig, indices: Iterable[int]) -> SessionSteps:
        """Those of some items, in the layout of the first epoch.

        Args:
            items: What is played.
            config: The rules, which say how a stream is cut and when an episode ends.
            indices: Which items.

        Raises:
            ConfigError: there are none.
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
    """What of a dense decoder's size matters here."""

    parameters: int
    layers: int
    hidden: int
    vocabulary: int
    kv_heads: int
    head: int
    """Numbers of one attention head."""

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> ModelShape:
        """The shape that a ``config.json`` of the Llama or Qwen family describes.

        Raises:
            ConfigError: a number is missing.
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
    """The numbers of one configuration; bytes are bytes, and "a GPU" means on each."""

    sessions: int
    """Sessions a training step."""
    rows_least: int
    rows_most: int
    """Rows a training step, real ones."""
    mini_batch_rows: int
    updates_least: int
    updates_most: int
    """Optimizer updates a training step."""
    tokens_most: int
    """Tokens a training step at most: prompts and responses at their limits."""
    flop_most: float
    """Floating-point operations a training step at most, decoding aside."""
    weights: float
    """Weights and gradients in fp32, a GPU."""
    moments: float
    """Adam's two moments, a GPU; 0 if they are offloaded."""
    logits: float
    """Logits in fp32 with their gradient, a GPU: of a micro-batch, or of the tokens that fused ones take at a time."""
    activations: float
    """Inputs of the layers that gradient checkpointing keeps, a GPU."""
    kv_token: int
    """One token in the rollout's KV cache."""
    rollout_weights: float
    """The rollout's copy of the weights in bf16, a GPU."""
    host: float
    """Memory of a node for what is offloaded."""
    checkpoint: float
    """One checkpoint on disk: weights and moments in fp32."""
    checkpoints: float
    """Disk that the checkpoints of a run take at most."""

    @property
    def training_gpu(self) -> float:
        """Memory a GPU while it trains, the rollout asleep."""
        return self.weights + self.moments + self.logits + self.activations


def training_numbers(steps: SessionSteps, model: ModelShape, config: Mapping[str, Any]) -> TrainingNumbers:
    """The numbers of a run.

    Args:
        steps: Of the training items.
        model: The policy.
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
    """The ``ppo_mini_batch_size`` with which every row of a training step fits into ``updates`` optimizer updates.

    Args:
        steps: Of the training items; none may be longer than the longest of them.
        config: veRL's configuration, composed.
        updates: Optimizer updates a training step.

    Raises:
        ConfigError: ``updates`` is below 1.
    """
    if updates < 1:
        raise ConfigError(f"updates={updates} must be at least 1")
    prompts, trainer = int(config["data"]["train_batch_size"]), config["trainer"]
    rollouts = int(config["actor_rollout_ref"]["rollout"]["n"])
    gpus = int(trainer["n_gpus_per_node"]) * int(trainer["nnodes"])
    needed = math.ceil(prompts * steps.longest / updates)
    # veRL shares a mini-batch out evenly.
    multiple = gpus // math.gcd(gpus, rollouts)
    return math.ceil(needed / multiple) * multiple


def learner_logits(micro_batch: int, max_response: int, vocabulary: int) -> int:
    """Bytes that ``grpo.py``, the learner in plain torch, takes at most for logits and their gradients.

    Prompts have none, so it does not matter how long they are. SmolLM2-135M with the learner's defaults, in MiB:

    >>> learner_logits(micro_batch=4, max_response=256, vocabulary=49_152) // 2**20
    771

    Args:
        micro_batch: Rows that go through the model at once.
        max_response: Tokens of a response; one more has logits, which are not used.
        vocabulary: Of the model.
    """
    return _LEARNER_COPIES * 4 * micro_batch * (max_response + 1) * vocabulary


def markdown(numbers: TrainingNumbers, steps: SessionSteps) -> str:
    """The numbers as a table."""

    def span(least: float, most: float) -> str:
        return f"{least:,.0f}" if least == most else f"{least:,.0f} to {most:,.0f}"

    def gib(size: float) -> str:
        return f"{size / GIB:,.1f} GiB"

    rows = {
        f"chunks a stream ({steps.items} items)": f"{steps.chunks:.1f}",
        "steps a session, each a row": f"{steps.least:.1f} to {steps.most:.1f}",
        "sessions a training step": f"{numbers.sessions:,}",
        "rows a training step": span(numbers.rows_least, numbers.rows_most),
        "rows a mini-batch": f"{numbers.mini_batch_rows:,}",
        "optimizer updates a training step": span(numbers.updates_least, numbers.updates_most),
        "tokens a training step, at most": f"{numbers.tokens_most / 1e6:,.2f} million",
        "floating-point operations of it, decoding aside": f"{numbers.flop_most:.1e}",
        "weights and gradients, a GPU": gib(numbers.weights),
        "Adam's moments, a GPU": gib(numbers.moments),
        "logits, a GPU": gib(numbers.logits),
        "checkpointed activations, a GPU": gib(numbers.activations),
        "rollout's weights, a GPU": gib(numbers.rollout_weights),
        "a token in the KV cache": f"{numbers.kv_token / 1024:,.0f} KiB",
        "memory of a node for what is offloaded": gib(numbers.host),
        "a checkpoint, and all that are kept": f"{gib(numbers.checkpoint)}, {gib(numbers.checkpoints)}",
    }
    return "\n".join(["| | |", "|---|--:|", *(f"| {name} | {value} |" for name, value in rows.items())])
