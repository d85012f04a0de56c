"""The policy of ``grpo.py``: a causal language model that samples responses and says how probable they are."""

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
    prompt: list[int]
    response: list[int]
    """With the end-of-text token, if the model came to it."""

    @property
    def tokens(self) -> int:
        """Of prompt and response."""
        return len(self.prompt) + len(self.response)


class Policy:
    """A causal language model with its tokenizer.

    Weights are fp32, whatever the checkpoint has; products are computed in what ``precision`` says. Dropout stays
    off: the ratio of new to old probability would measure it.

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
        # generate() fills up what it is not told from here, such as a published repetition penalty: then what is
        # sampled would not be what is trained.
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
        """``bf16`` or ``fp32``."""
        if self.options.precision != "auto":
            return self.options.precision
        return "fp32" if torch.device(self.options.device).type == "cpu" else "bf16"

    def respond(
        self, messages: Sequence[list[dict[str, str]]], tell: Callable[[int], None] | None = None
    ) -> list[tuple[list[int], list[int]]]:
        """A prompt and a sampled response for each chat, as token ids.

        Args:
            messages: The chats.
            tell: Is called after each token with how many there are so far, of all responses together.

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
        """The actions that responses stand for."""
        return [str(text) for text in self.tokenizer.batch_decode(responses, skip_special_tokens=True)]

    def log_probs(self, rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
        """Log-probabilities ``[rows, tokens]`` of the responses at the sampling temperature, and which are real.

        Prompts are filled up on the left, so that all responses begin in one column, and only what predicts them
        becomes logits: at most ``rows`` × (``max_response`` + 1) × vocabulary of them.
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
        """Write the model, in fp32 and with the settings for generation that it came with, and its tokenizer."""
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
        """A response up to its first end-of-text token; what follows is padding."""
        for i, one in enumerate(response):
            if one in self.ends:
                return response[: i + 1]
        return response


class _Counting(StoppingCriteria):  # type: ignore[misc]  # transformers has no types
    """Stops nothing: tells how many tokens responses have, while they grow."""

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
