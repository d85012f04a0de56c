"""The losses of ``grpo.py``, equal to veRL's, and one gradient step that takes a bounded number of rows at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from atommem_gym.agents.learn.grpo_options import Options
from atommem_gym.agents.learn.grpo_policy import Policy, Row

_FARTHEST = 20.0
"""Differences of log-probabilities beyond this are cut, as in veRL: their exponential is no number to train on."""


def policy_loss(
    new: Tensor, old: Tensor, advantages: Tensor, own: Tensor, options: Options, tokens: int | None = None
) -> Tensor:
    """The clipped loss, a mean over all real tokens: a long session counts by its tokens.

    A negative advantage has a second bound (Ye et al., arXiv 1912.09729): without it a token that became many times as
    probable would push without limit.

    Args:
        new: Log-probabilities ``[rows, tokens]`` of the policy.
        old: Log-probabilities with which the responses were sampled.
        advantages: ``[rows]``, of each row's session.
        own: ``[rows, tokens]``, 1 where the policy wrote the token.
        options: The clips.
        tokens: Of how many tokens it is a mean; by default those of these rows.
    """
    gains = advantages[:, None]
    ratio = (new - old).clamp(-_FARTHEST, _FARTHEST).exp()
    clipped = ratio.clamp(1 - options.clip_low, 1 + options.clip_high)
    losses = torch.max(-ratio * gains, -clipped * gains)
    losses = torch.where(gains < 0, torch.min(losses, -options.clip_dual * gains), losses)
    return (losses * own).sum() / (own.sum() if tokens is None else tokens)


def low_variance_kl(new: Tensor, reference: Tensor, own: Tensor, tokens: int | None = None) -> Tensor:
    """Distance to the reference, never negative (Schulman, "Approximating KL divergence", the estimator k3).

    Args:
        new: Log-probabilities ``[rows, tokens]`` of the policy.
        reference: Those of the reference.
        own: ``[rows, tokens]``, 1 where the policy wrote the token.
        tokens: Of how many tokens it is a mean; by default those of these rows.
    """
    difference = (reference - new).clamp(-_FARTHEST, _FARTHEST)
    distances = (difference.exp() - difference - 1).clamp(-10, 10)
    return (distances * own).sum() / (own.sum() if tokens is None else tokens)


@dataclass(frozen=True)
class Before:
    """How probable the responses of some rows were before the update, one tensor ``[tokens]`` a row."""

    policy: list[Tensor]
    reference: list[Tensor] | None = None
    """The same of the reference, if there is one."""


def micro_batches(rows: Sequence[Row], size: int) -> Iterator[list[int]]:
    """The places of rows in lots of ``size``, rows of like length together, so that little is padding.

    >>> list(micro_batches([Row(0, [1] * 9, [1]), Row(0, [1], [1]), Row(0, [1] * 8, [1])], 2))
    [[1, 2], [0]]
    """
    order = sorted(range(len(rows)), key=lambda i: rows[i].tokens)
    return (order[start : start + size] for start in range(0, len(order), size))


def each_log_probs(policy: Policy, rows: Sequence[Row]) -> list[Tensor]:
    """Log-probabilities of every row's response, without a gradient, computed in the lots of the update.

    In the same lots, since a product in bf16 depends on what it is padded with: else the first ratio were not 1.
    """
    found: dict[int, Tensor] = {}
    with torch.no_grad():
        for lot in micro_batches(rows, policy.options.micro_batch):
            together, _ = policy.log_probs([rows[i] for i in lot])
            found |= {i: one[: len(rows[i].response)].clone() for i, one in zip(lot, together, strict=True)}
    return [found[i] for i in range(len(rows))]


def update(
    policy: Policy, optimizer: torch.optim.Optimizer, rows: Sequence[Row], advantages: Tensor, before: Before
) -> float:
    """One gradient step; the loss.

    Gradients of micro-batches add up to that of the whole: each is divided by the tokens of all rows.

    Args:
        policy: What is trained.
        optimizer: Of its parameters.
        rows: Which steps of which sessions.
        advantages: ``[sessions]``.
        before: Of the rows.
    """
    options = policy.options
    tokens = sum(len(row.response) for row in rows)
    optimizer.zero_grad()
    total = 0.0
    for lot in micro_batches(rows, options.micro_batch):
        new, own = policy.log_probs([rows[i] for i in lot])
        mine = advantages[torch.tensor([rows[i].session for i in lot])].to(options.device)
        old = pad_sequence([before.policy[i] for i in lot], batch_first=True)
        loss = policy_loss(new, old, mine, own, options, tokens)
        if before.reference is not None:
            reference = pad_sequence([before.reference[i] for i in lot], batch_first=True)
            loss = loss + options.kl * low_variance_kl(new, reference, own, tokens)
        loss.backward()
        total += float(loss.detach())
    torch.nn.utils.clip_grad_norm_(policy.model.parameters(), options.max_gradient)
    optimizer.step()
    return total
