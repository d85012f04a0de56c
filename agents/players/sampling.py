"""Samples tokens row by row: each row of a batch has its own settings and generator, so any calls share a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from atommem_gym.agents.players.language_model import Sampling


class RowSampler:
    """Changes the logits of a batch so that their argmax is a sample: temperature, top-k, top-p, then Gumbel noise.

    ``argmax(log p + g)`` with Gumbel noise ``g`` is a sample from ``p`` (Gumbel 1954; Maddison et al. 2014). The noise
    of a row comes only from that row's generator, so the sample for a prompt does not depend on the other rows of the
    batch, apart from the model's own rounding. ``generate`` calls it as a logits processor.

    Args:
        samplings: Settings of each row.
        seeds: Seed of each row's generator.
        device: Device of the logits.
    """

    def __init__(self, samplings: Sequence[Sampling], seeds: Sequence[int], device: Any) -> None:
        self._samplings = samplings
        self._generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Scores ``[rows, vocabulary]`` with noise; rows with temperature 0 are unchanged."""
        scores = scores.float()
        for row, (sampling, generator) in enumerate(zip(self._samplings, self._generators, strict=True)):
            if sampling.temperature > 0:
                drawn = _filtered(scores[row] / sampling.temperature, sampling)
                noise = torch.empty_like(drawn).exponential_(generator=generator)
                scores[row] = drawn - noise.log()
        return scores


def _filtered(logits: Any, sampling: Sampling) -> Any:
    """Logits ``[vocabulary]``, minus infinity where top-k or top-p exclude a token; the most probable token stays."""
    if sampling.top_k and sampling.top_k < logits.numel():
        least = torch.topk(logits, sampling.top_k).values[-1]
        logits = logits.masked_fill(logits < least, float("-inf"))
    if sampling.top_p < 1:
        ordered, indices = torch.sort(logits, descending=True)
        before = torch.softmax(ordered, dim=-1).cumsum(dim=-1) - torch.softmax(ordered, dim=-1)
        outside = before >= sampling.top_p
        outside[0] = False
        logits = logits.masked_fill(torch.zeros_like(outside).scatter(0, indices, outside), float("-inf"))
    return logits


class RowEnd:
    """Says which rows of a batch are done: at ``max_tokens``, at a stop string, or because their caller has gone.

    ``generate`` calls it as a stopping criterion. ``lengths`` holds the number of tokens of each row that ended here.
    """

    def __init__(
        self,
        samplings: Sequence[Sampling],
        room: Sequence[int],
        prompt_length: int,
        decode: Callable[[Any], str],
        abandoned: Callable[[int], bool],
    ) -> None:
        """Prepare for a batch.

        Args:
            samplings: Settings of each row.
            room: Tokens that the context leaves for the reply of each row.
            prompt_length: Tokens of the padded prompts.
            decode: Turns tokens into text.
            abandoned: Whether the caller of a row, by its number, has gone.
        """
        self._limits = [min(sampling.max_tokens, left) for sampling, left in zip(samplings, room, strict=True)]
        self._stops = [sampling.stop for sampling in samplings]
        self._prompt_length = prompt_length
        self._decode = decode
        self._abandoned = abandoned
        self.lengths: dict[int, int] = {}

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        """Which rows are done: booleans ``[rows]``."""
        length = input_ids.shape[1] - self._prompt_length
        for row in range(input_ids.shape[0]):
            if row in self.lengths:
                continue
            new = input_ids[row, self._prompt_length :]
            if length >= self._limits[row] or self._abandoned(row) or self._stopped(row, new):
                self.lengths[row] = length
        return torch.tensor([row in self.lengths for row in range(input_ids.shape[0])], device=input_ids.device)

    def _stopped(self, row: int, new: Any) -> bool:
        if not self._stops[row]:
            return False
        # Every token has at least one byte, so a string of n bytes lies within the last n tokens.
        longest = max(len(stop.encode()) for stop in self._stops[row])
        tail = self._decode(new[-(longest + 4) :])
        return any(stop in tail for stop in self._stops[row])
