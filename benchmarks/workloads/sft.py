"""Supervised fine-tuning in plain torch, for models that are small enough to be trained while one waits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from atommem_gym.records.layout import stable_rng

IGNORED = -100
"""The label of a token that is not trained on."""


def train(start: Path, rows: Sequence[Mapping[str, Any]], out: Path, *, steps: int, batch: int, seed: int) -> float:
    """Train a saved model on exported chats, and save it; the mean loss of the last tenth of the steps.

    AdamW with 50 steps of warm-up and a learning rate of 3e-3 from there on; the loss is that of the assistant's
    tokens, the end of its turn included. A batch is drawn from all rows, each row once before any is drawn again.

    Args:
        start: The model's folder, with its tokenizer.
        rows: Each with ``messages``, the last of which is the assistant's (``atommem export --format messages``).
        out: The folder of the result.
        steps: Optimizer steps.
        batch: Rows a step.
        seed: Of the order of the rows.
    """
    tokenizer = AutoTokenizer.from_pretrained(start)
    model = AutoModelForCausalLM.from_pretrained(start, dtype=torch.float32)
    examples = [tokens(tokenizer, row["messages"]) for row in rows]
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 50))
    rng = stable_rng("sft", seed)
    waiting: list[int] = []
    losses = []
    model.train()
    for _ in range(steps):
        while len(waiting) < batch:
            waiting += rng.permutation(len(examples)).tolist()
        drawn, waiting = waiting[:batch], waiting[batch:]
        ids, labels, mask = padded([examples[i] for i in drawn], tokenizer.pad_token_id)
        loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    last = losses[-max(1, steps // 10) :]
    return sum(last) / len(last)


def tokens(tokenizer: Any, messages: Sequence[Mapping[str, str]]) -> tuple[list[int], int]:
    """A chat's tokens, and how many of them come before the assistant's."""
    prompt = tokenizer.apply_chat_template(messages[:-1], tokenize=False, add_generation_prompt=True)
    before = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    said = tokenizer(f"{messages[-1]['content']}{tokenizer.eos_token}", add_special_tokens=False)["input_ids"]
    return [*before, *said], len(before)


def padded(examples: Sequence[tuple[list[int], int]], pad: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Token ids, labels and mask of a batch, each ``[examples, longest]``, padded on the right."""
    longest = max(len(ids) for ids, _ in examples)
    shape = (len(examples), longest)
    ids, labels = torch.full(shape, pad), torch.full(shape, IGNORED)
    mask = torch.zeros(shape, dtype=torch.long)
    for row, (own, before) in enumerate(examples):
        ids[row, : len(own)] = torch.tensor(own)
        labels[row, before : len(own)] = torch.tensor(own[before:])
        mask[row, : len(own)] = 1
    return ids, labels, mask
