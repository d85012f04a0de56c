"""The losses of ``grpo.py``, equal to veRL's, and a gradient step in micro-batches of bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from atommem_gym.agents.learn.grpo_options import Options
from atommem_gym.agents.learn.grpo_policy import Policy, Row

_FARTHEST = 20.0
"""Differences of log-probabilities are clipped at this, as in veRL; the exponential of larger ones is useless."""


def policy_loss(
    new: Tensor, old: Tensor, advantages: Tensor, own: Tensor, options: Options, tokens: int | None = None
) -> Tensor:
    """The clipped policy loss, a mean over all response tokens, so a longer session counts for more.

    For negative advantages the loss has a second bound (dual clip; Ye et al., arXiv 1912.09729). Without it a token
    whose probability rose many times would dominate the gradient.

    Args:
        new: Log-probabilities ``[rows, tokens]`` of the policy.
        old: Log-probabilities ``[rows, tokens]`` before the update.
        advantages: ``[rows]``, the advantage of each row's session.
        own: ``[rows, tokens]``, 1 where the policy sampled the token, 0 on padding.
        options: The clips.
        tokens: Divisor of the mean; by default the number of tokens of these rows.
    """
    gains = advantages[:, None]
    ratio = (new - old).clamp(-_FARTHEST, _FARTHEST).exp()
    clipped = ratio.clamp(1 - options.clip_low, 1 + options.clip_high)
    losses = torch.max(-ratio * gains, -clipped * gains)
    losses = torch.where(gains < 0, torch.min(losses, -options.clip_dual * gains), losses)
    return (losses * own).sum() / (own.sum() if tokens is None else tokens)


def low_variance_kl(new: Tensor, reference: Tensor, own: Tensor, tokens: int | None = None) -> Tensor:
    """KL divergence from the reference, never negative (the estimator k3 of Schulman, "Approximating KL divergence").

    Args:
        new: Log-probabilities ``[rows, tokens]`` of the policy.
        reference: Log-probabilities ``[rows, tokens]`` of the reference.
        own: ``[rows, tokens]``, 1 where the policy sampled the token, 0 on padding.
        tokens: Divisor of the mean; by default the number of tokens of these rows.
    """
    difference = (reference - new).clamp(-_FARTHEST, _FARTHEST)
    distances = (difference.exp() - difference - 1).clamp(-10, 10)
    return (distances * own).sum() / (own.sum() if tokens is None else tokens)


@dataclass(frozen=True)
class Before:
    """Log-probabilities of the responses of some rows before the update."""

    policy: list[Tensor]
    """By the policy, one tensor ``[tokens]`` per row."""
    reference: list[Tensor] | None = None
    """By the reference, likewise; ``None`` without a reference."""


def micro_batches(rows: Sequence[Row], size: int) -> Iterator[list[int]]:
    """Split rows into lots of ``size`` rows of similar length, so that little is padding; yields their indices.

    >>> list(micro_batches([Row(0, [1] * 9, [1]), Row(0, [1], [1]), Row(0, [1] * 8, [1])], 2))
    [[1, 2], [0]]
    """
    order = sorted(range(len(rows)), key=lambda i: rows[i].tokens)
    return (order[start : start + size] for start in range(0, len(order), size))


def each_log_probs(policy: Policy, rows: Sequence[Row]) -> list[Tensor]:
    """Log-probabilities of every row's response, one tensor ``[tokens]`` per row, without gradients.

    They are computed in the same lots as the update. In bf16 a product depends on its padding, so in other lots the
    first ratio of new to old probability would not be 1.
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
    """Do one gradient step.

    The loss of each micro-batch is divided by the tokens of all rows, so that the gradients add up to that of the whole
    batch.

    Args:
        policy: The policy to train.
        optimizer: Optimizer of its parameters.
        rows: The batch: steps of sessions.
        advantages: ``[sessions]``, by the session numbers of the rows.
        before: Log-probabilities of the rows before the updates of this iteration.

    Returns:
        The loss.
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
