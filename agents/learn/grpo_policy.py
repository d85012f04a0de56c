"""The policy of ``grpo.py``: a causal language model that samples responses and computes their log-probabilities."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, StoppingCriteria, StoppingCriteriaList

from atommem_gym.agents.learn.grpo_options import Options
from atommem_gym.errors import ConfigError


@dataclass(frozen=True)
class Row:
    """One step of a session, as tokens."""

    session: int
    """Number of its session in the rollout."""
    prompt: list[int]
    """Token ids of the prompt."""
    response: list[int]
    """Token ids of the response, end-of-text included if the model sampled it."""

    @property
    def tokens(self) -> int:
        """Number of tokens of prompt and response."""
        return len(self.prompt) + len(self.response)


class Policy:
    """A causal language model with its tokenizer.

    Weights are fp32, whatever the checkpoint has; ``precision`` is the type of the matrix products. Dropout is off,
    because it would change the ratio of new to old probability.

    Args:
        options: Model, device, precision, sampling and limits.

    Raises:
        ConfigError: the model cannot leave out the logits of prompts.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.tokenizer = AutoTokenizer.from_pretrained(options.model, padding_side="left")
        self.pad = int(
            self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else self.tokenizer.eos_token_id
        )
        self.model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32).to(options.device).eval()
        if "logits_to_keep" not in inspect.signature(self.model.forward).parameters:
            raise ConfigError(
                f"{type(self.model).__name__} computes the logits of whole prompts (it knows no logits_to_keep), which "
                "takes more memory than the model: choose another model, or another version of transformers"
            )
        self._published = self.model.generation_config
        ends = self._published.eos_token_id
        listed = ends if isinstance(ends, list) else [ends]
        self.ends = {one for one in (self.tokenizer.eos_token_id, *listed) if one is not None}
        # generate() takes other settings from the model, such as a published repetition penalty; with those it would
        # sample from another distribution than the one that is trained.
        self.model.generation_config = GenerationConfig(
            do_sample=True,
            temperature=options.temperature,
            top_p=options.top_p,
            top_k=0,
            max_new_tokens=options.max_response,
            eos_token_id=sorted(self.ends),
            pad_token_id=self.pad,
        )

    @property
    def precision(self) -> str:
        """The type of the matrix products: ``bf16`` or ``fp32``."""
        if self.options.precision != "auto":
            return self.options.precision
        return "fp32" if torch.device(self.options.device).type == "cpu" else "bf16"

    def respond(
        self, messages: Sequence[list[dict[str, str]]], tell: Callable[[int], None] | None = None
    ) -> list[tuple[list[int], list[int]]]:
        """Sample a response to each chat.

        Args:
            messages: The chats, each a list of messages with ``role`` and ``content``.
            tell: Called after each token with the number of tokens so far, over all responses.

        Returns:
            Token ids of prompt and response for each chat.

        Raises:
            ConfigError: a prompt is longer than ``max_prompt``.
        """
        options = self.options
        prompts = [
            list(self.tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False))
            for chat in messages
        ]
        longest = max(map(len, prompts))
        if longest > options.max_prompt:
            raise ConfigError(
                f"a prompt has {longest} tokens: raise max_prompt={options.max_prompt} or lower chunk_tokens"
            )
        ids = torch.tensor([[self.pad] * (longest - len(one)) + one for one in prompts], device=options.device)
        mask = torch.tensor([[0] * (longest - len(one)) + [1] * len(one) for one in prompts], device=options.device)
        counting = [] if tell is None else [_Counting(sorted(self.ends), tell)]
        with torch.no_grad(), self._autocast():
            out = self.model.generate(
                input_ids=ids, attention_mask=mask, stopping_criteria=StoppingCriteriaList(counting)
            )
        return [(one, self._ended(response)) for one, response in zip(prompts, out[:, longest:].tolist(), strict=True)]

    def texts(self, responses: Sequence[list[int]]) -> list[str]:
        """The action texts of responses, without special tokens."""
        return [str(text) for text in self.tokenizer.batch_decode(responses, skip_special_tokens=True)]

    def log_probs(self, rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
        """Log-probabilities of the responses at the sampling temperature.

        Prompts are padded on the left, so that all responses begin in one column. Only the positions that predict
        response tokens get logits: at most ``rows`` × (``max_response`` + 1) × vocabulary numbers.

        Args:
            rows: Steps of sessions.

        Returns:
            Log-probabilities ``[rows, tokens]``, and a mask of the same shape, 1 where a token is not padding.
        """
        before = max(len(row.prompt) for row in rows)
        after = max(len(row.response) for row in rows)
        ids = torch.full((len(rows), before + after), self.pad, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for i, row in enumerate(rows):
            start, end = before - len(row.prompt), before + len(row.response)
            ids[i, start:end] = torch.tensor(row.prompt + row.response)
            mask[i, start:end] = 1
        ids, mask = ids.to(self.options.device), mask.to(self.options.device)
        with self._autocast():
            logits = self.model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=(mask.cumsum(-1) - 1).clamp(min=0),
                logits_to_keep=after + 1,
                use_cache=False,
            ).logits
        logits = logits[:, :-1].float() / self.options.temperature
        chosen = logits.gather(-1, ids[:, before:, None]).squeeze(-1) - logits.logsumexp(-1)
        return chosen, mask[:, before:].float()

    def save(self, folder: Path) -> None:
        """Write the model, in fp32 and with its published generation settings, and the tokenizer into a folder."""
        self.model.save_pretrained(folder)
        # Written by hand: some published settings (a temperature without sampling) are refused by save_pretrained.
        self._published.to_json_file(folder / "generation_config.json")
        self.tokenizer.save_pretrained(folder)

    def _autocast(self) -> AbstractContextManager[Any]:
        device = torch.device(self.options.device).type
        context: AbstractContextManager[Any] = torch.autocast(
            device, dtype=torch.bfloat16, enabled=self.precision == "bf16"
        )
        return context

    def _ended(self, response: list[int]) -> list[int]:
        """A response up to and with its first end-of-text token; padding follows it."""
        for i, one in enumerate(response):
            if one in self.ends:
                return response[: i + 1]
        return response


class _Counting(StoppingCriteria):  # type: ignore[misc]  # transformers has no types
    """Never stops a row; reports the number of sampled tokens while responses grow."""

    def __init__(self, ends: list[int], tell: Callable[[int], None]) -> None:
        self._ends = torch.tensor(ends)
        self._tell = tell
        self._open: Tensor | None = None
        self._tokens = 0

    def __call__(self, input_ids: Tensor, scores: Tensor, **_: Any) -> Tensor:
        newest = input_ids[:, -1].cpu()
        going = torch.ones_like(newest, dtype=torch.bool) if self._open is None else self._open
        self._tokens += int(going.sum())
        self._open = going & ~torch.isin(newest, self._ends)
        self._tell(self._tokens)
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
