"""A language model in this process, by transformers; the calls of many coroutines share padded batches."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from atommem_gym.agents.players.batching import Batcher
from atommem_gym.agents.players.language_model import Completion, Messages, Sampling, ToolSchemas, encodable
from atommem_gym.errors import (
    ConfigError,
    ContextLengthError,
    LanguageModelError,
    check_choice,
    check_integer,
    check_number,
)
from atommem_gym.files.model_hub import why_not_there
from atommem_gym.records.layout import stable_rng
from atommem_gym.replies.thinking import KNOWN


@dataclass(slots=True)
class _Request:
    """One call of the model."""

    messages: Messages
    """The chat messages."""
    sampling: Sampling
    """How the reply is sampled."""
    tools: ToolSchemas
    """Function schemas for the chat template."""
    seed: int
    """Seeds the sampling of this reply."""
    abandoned: bool = False
    """Whether the caller was cancelled, so that the reply may end at once."""


@dataclass(frozen=True, slots=True)
class _Prompt:
    """A request as tokens."""

    request: _Request
    """The call."""
    ids: list[int]
    """Token ids of the prompt."""
    opened: str
    """The opening tag of reasoning with which the chat template ended the prompt; it is put before the reply."""


class TransformersModel:
    """A causal language model from a folder or the Hugging Face hub, for local evaluation without a server.

    Calls that wait while a batch is generated share the next one, whatever their sampling settings are. The sample for
    a prompt depends on its seed, not on the other prompts of the batch. It is equal bit for bit only if the model's
    arithmetic is the same, which is certain only for batches of one size and padding (``max_batch=1``).

    Args:
        model: Folder or hub name.
        dtype: Type of the weights: ``"auto"`` (as saved), ``"float32"``, ``"bfloat16"`` or ``"float16"``.
        device: Such as ``"cpu"`` or ``"cuda:0"``; by default the GPU if there is one.
        max_batch: Prompts in a batch, at most.
        max_wait_ms: Milliseconds to wait for further calls before a batch that is not full begins.
        chat_template_kwargs: Variables for the chat template, such as ``{"enable_thinking": False}``.

    Raises:
        ConfigError: torch or transformers is missing, there is no such model, or a number is out of range.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        dtype: str = "auto",
        device: str | None = None,
        max_batch: int = 16,
        max_wait_ms: float = 20.0,
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        check_integer("max_batch", max_batch, 1)
        check_number("max_wait_ms", max_wait_ms)
        check_choice("dtype", dtype, ("auto", "float32", "bfloat16", "float16"))
        if not (chat_template_kwargs is None or isinstance(chat_template_kwargs, Mapping)):
            raise ConfigError(f"chat_template_kwargs={chat_template_kwargs!r} must be a dictionary, or None")
        # Asked first: the imports take seconds, and nobody waits for them to hear of a misspelt name.
        missing = why_not_there([str(model)]) if find_spec("transformers") is not None else None
        if missing is not None:
            raise ConfigError(
                f"the model {str(model)!r} cannot be loaded: {missing}; check the name, name a folder with "
                "config.json, weights and tokenizer, or download it first (`hf download NAME`)"
            )
        try:
            import torch
            import transformers
        except ImportError as error:
            raise ConfigError(
                f"the local model {str(model)!r} needs torch and transformers: pip install 'atommem-gym[llm]' "
                "(a server's URL in its place needs neither)"
            ) from error
        self.name = str(model)
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(model, padding_side="left")
            self._model = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=dtype).to(self.device).eval()
        except (OSError, ValueError, ImportError, RuntimeError) as error:
            raise ConfigError(
                f"the model {str(model)!r} cannot be loaded ({type(error).__name__}: {error}); name a folder with "
                "config.json, weights and tokenizer, or download it first (`hf download NAME`)"
            ) from error
        config = self._model.config.get_text_config()
        self.context_limit: int | None = getattr(config, "max_position_embeddings", None)
        """Tokens of prompt and reply together; ``None`` if the model does not say."""
        self._ends = self._end_tokens()
        if self._tokenizer.pad_token_id is None:
            self._tokenizer.pad_token_id = self._ends[0] if self._ends else 0
        self._chat_template_kwargs = dict(chat_template_kwargs or {})
        self._unseeded = itertools.count()
        self._batcher: Batcher[_Request, Completion] = Batcher(self._generate, max_batch, max_wait_ms / 1000)

    async def complete(self, messages: Messages, sampling: Sampling, *, tools: ToolSchemas = ()) -> Completion:
        """See :class:`~atommem_gym.agents.players.language_model.LanguageModel`.

        Raises:
            ContextLengthError: the prompt alone fills the model's context. A reply that reaches its end is cut.
            LanguageModelError: the device has not enough memory for this prompt, or the model is closed.
        """
        started = time.perf_counter()
        seed = sampling.seed
        if seed is None:
            # Another seed for every call; two processes that make the same calls get the same seeds.
            generator = stable_rng("transformers model", self.name, next(self._unseeded))
            seed = int(generator.integers(2**31))
        request = _Request(messages, sampling, tools, seed)
        try:
            completion = await asyncio.wrap_future(self._batcher.submit(request))
        except asyncio.CancelledError:
            request.abandoned = True
            raise
        return replace(completion, seconds=time.perf_counter() - started)

    async def aclose(self) -> None:
        """Fail the waiting calls and wait for the running batch. A second call does nothing."""
        await asyncio.get_running_loop().run_in_executor(None, self._batcher.close)

    def _end_tokens(self) -> list[int]:
        """The tokens that end a reply, from the model's generation config and its tokenizer."""
        ends = self._model.generation_config.eos_token_id
        listed = list(ends) if isinstance(ends, (list, tuple)) else [ends]
        return [token for token in dict.fromkeys([*listed, self._tokenizer.eos_token_id]) if token is not None]

    def _prompt(self, request: _Request) -> _Prompt:
        messages = [{key: encodable(text) for key, text in message.items()} for message in request.messages]
        if self._tokenizer.chat_template:
            text = self._tokenizer.apply_chat_template(
                messages,
                tools=[dict(tool) for tool in request.tools] or None,
                tokenize=False,
                add_generation_prompt=True,
                **self._chat_template_kwargs,
            )
        else:
            text = "\n\n".join(message["content"] for message in messages) + "\n\n"
        # A chat template writes the special tokens itself.
        special = not self._tokenizer.chat_template
        ids = self._tokenizer(text, add_special_tokens=special)["input_ids"]
        return _Prompt(request, ids, next((opening for opening, _ in KNOWN if text.rstrip().endswith(opening)), ""))

    def _generate(self, requests: Sequence[_Request]) -> list[Completion | Exception]:
        """A completion or an error for each request of a batch; runs in the batcher's thread."""
        prompts = [self._prompt(request) for request in requests]
        results: dict[int, Completion | Exception] = {}
        fitting = []
        for i, prompt in enumerate(prompts):
            if self.context_limit is not None and len(prompt.ids) >= self.context_limit:
                results[i] = self._too_long(len(prompt.ids))
            else:
                fitting.append(i)
        done = self._complete([prompts[i] for i in fitting]) if fitting else []
        results.update(zip(fitting, done, strict=True))
        return [results[i] for i in range(len(prompts))]

    def _too_long(self, tokens: int) -> ContextLengthError:
        return ContextLengthError(
            f"the prompt of {tokens} tokens does not fit the context of {self.name}, {self.context_limit} tokens. Take "
            "smaller chunks (chunk_tokens=…), show less of a search (max_memory_tokens=…, top_k=…), or another model",
            tokens,
            self.context_limit,
        )

    def _complete(self, prompts: Sequence[_Prompt]) -> list[Completion | Exception]:
        """Complete all prompts in one batch, or in halves if the memory is too small."""
        try:
            return list(self._one_batch(prompts))
        except RuntimeError as error:
            if not _out_of_memory(error):
                raise
            if len(prompts) == 1:
                failure = LanguageModelError(
                    f"{self.device} has not enough memory for one prompt of {len(prompts[0].ids)} tokens with "
                    f"max_tokens={prompts[0].request.sampling.max_tokens} ({error}); take smaller chunks, a smaller "
                    "model or dtype='bfloat16'"
                )
                failure.__cause__ = error
                return [failure]
        half = len(prompts) // 2
        return self._complete(prompts[:half]) + self._complete(prompts[half:])

    def _one_batch(self, prompts: Sequence[_Prompt]) -> list[Completion]:
        import torch
        import transformers

        from atommem_gym.agents.players.sampling import RowEnd, RowSampler

        longest = max(len(prompt.ids) for prompt in prompts)
        pad = self._tokenizer.pad_token_id
        padded = [[pad] * (longest - len(prompt.ids)) + prompt.ids for prompt in prompts]
        mask = [[0] * (longest - len(prompt.ids)) + [1] * len(prompt.ids) for prompt in prompts]
        samplings = [prompt.request.sampling for prompt in prompts]
        limit = self.context_limit
        room = [s.max_tokens if limit is None else limit - len(p.ids) for s, p in zip(samplings, prompts, strict=True)]
        end = RowEnd(samplings, room, longest, self._decode, lambda row: prompts[row].request.abandoned)
        sampler = RowSampler(samplings, [prompt.request.seed for prompt in prompts], self.device)
        with torch.inference_mode():
            output = self._model.generate(
                input_ids=torch.tensor(padded, device=self.device),
                attention_mask=torch.tensor(mask, device=self.device),
                # None of the model's own sampling defaults: the request says how to sample.
                generation_config=transformers.GenerationConfig(
                    do_sample=False,
                    max_new_tokens=max(min(s.max_tokens, left) for s, left in zip(samplings, room, strict=True)),
                    eos_token_id=self._ends or None,
                    pad_token_id=pad,
                ),
                logits_processor=[sampler],
                stopping_criteria=[end],
            )
        rows = output[:, longest:].tolist()
        return [self._completion(prompts[i], row[: end.lengths.get(i, len(row))]) for i, row in enumerate(rows)]

    def _completion(self, prompt: _Prompt, tokens: list[int]) -> Completion:
        ended = next((i for i, token in enumerate(tokens) if token in self._ends), None)
        drawn = len(tokens) if ended is None else ended + 1
        text = self._decode(tokens[: drawn if ended is None else ended])
        stops = [(text.index(stop) + len(stop)) for stop in prompt.request.sampling.stop if stop in text]
        text = text[: min(stops)] if stops else text
        return Completion(
            text=f"{prompt.opened}\n{text}" if prompt.opened else text,
            prompt_tokens=len(prompt.ids),
            completion_tokens=drawn,
            seconds=0.0,
            finish_reason="length" if ended is None and not stops else "stop",
        )

    def _decode(self, tokens: Any) -> str:
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True))


def _out_of_memory(error: RuntimeError) -> bool:
    """Whether torch ran out of memory: ``OutOfMemoryError`` on a GPU, a plain ``RuntimeError`` on a CPU."""
    return type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)
