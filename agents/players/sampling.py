"""Draws tokens row by row: each row of a batch has settings and a generator of its own, so batches can be mixed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from atommem_gym.agents.players.language_model import Sampling


class RowSampler:
    """Turns the logits of a batch so that their argmax is a draw: temperature, top-k, top-p, then Gumbel noise.

    ``argmax(log p + g)`` with Gumbel noise ``g`` is a draw from ``p`` (Gumbel 1954; Maddison et al. 2014). The noise of
    a row comes from that row's generator alone, so what is drawn for a prompt does not depend on its neighbours in the
    batch, apart from the rounding of the model itself. Called by ``generate`` as a logits processor.
    """

    def __init__(self, samplings: Sequence[Sampling], seeds: Sequence[int], device: Any) -> None:
        self._samplings = samplings
        self._generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Scores ``[rows, vocabulary]``; rows with temperature 0 are left as they are."""
        scores = scores.float()
        for row, (sampling, generator) in enumerate(zip(self._samplings, self._generators, strict=True)):
            if sampling.temperature > 0:
                drawn = _filtered(scores[row] / sampling.temperature, sampling)
                noise = torch.empty_like(drawn).exponential_(generator=generator)
                scores[row] = drawn - noise.log()
        return scores


def _filtered(logits: Any, sampling: Sampling) -> Any:
    """Logits with minus infinity where top-k or top-p forbid a token; the most probable one always stays."""
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
    """Says which rows of a batch are done: at their ``max_tokens``, at a stop string, or because their caller is gone.

    Called by ``generate`` as a stopping criterion; ``lengths`` holds the tokens of each row that ended here.
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
            samplings: Of each row.
            room: Tokens that the context leaves for each row.
            prompt_length: Of the padded prompts.
            decode: Tokens to text.
            abandoned: Whether a row's caller is gone.
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
        # A token has a byte at least, so the string lies within as many of the last tokens as it has bytes.
        longest = max(len(stop.encode()) for stop in self._stops[row])
        tail = self._decode(new[-(longest + 4) :])
        return any(stop in tail for stop in self._stops[row])
