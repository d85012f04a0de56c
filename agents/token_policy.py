"""A policy in tokens: what is trained is what was sampled.

Token ids go from the model's server into the steps of a session untouched, and only a copy of them is decoded, for the
environment.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, TypeAlias

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from atommem_gym.agents.session import Messages, Reply, check_ending
from atommem_gym.errors import ContextLengthError, LanguageModelError

Encode: TypeAlias = Callable[[Messages], Awaitable[list[int]]]
"""Chat messages as the token ids of a prompt, generation prompt included, however many they are."""
Decode: TypeAlias = Callable[[list[int]], Awaitable[str]]
"""The text of a response, without special tokens."""


@dataclass(frozen=True, slots=True)
class Generated:
    """What the model's server sampled."""

    token_ids: list[int]
    stop_reason: str | None
    """How the server ended it: veRL's ``completed``, or a finish reason of ``chat_reply.ENDINGS``."""
    log_probs: list[float] | None = None
    """One per token, or none at all."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """What the server says besides; it goes into the row."""


Generate: TypeAlias = Callable[[list[int]], Awaitable[Generated]]
"""Samples a response to a prompt."""


@dataclass(frozen=True, slots=True)
class TokenLimits:
    """How long prompts and responses may be, in tokens."""

    prompt: int
    """At most; a longer one is shortened, or an error (``overlong_prompt``)."""
    response: int
    """At most; the server ends it there, and it is acted on as it is."""


@dataclass(frozen=True, slots=True)
class TokenPolicy:
    """A policy in tokens: the ids of prompts and responses stand in its replies.

    It raises ``ContextLengthError`` where a prompt has more tokens than allowed, and ``LanguageModelError`` where the
    model gave no token, not one log-probability per token, or did not end the sample properly (SPEC A9).
    """

    encode: Encode
    """The model's chat template and tokenizer."""
    decode: Decode
    """Its inverse, as far as text goes."""
    generate: Generate
    """The model."""
    limits: TokenLimits

    async def __call__(self, messages: Messages) -> Reply:
        """Answer a prompt."""
        ids = await self.encode(messages)
        if len(ids) > self.limits.prompt:
            raise ContextLengthError(
                f"the prompt has {len(ids)} tokens, but at most {self.limits.prompt} are allowed: raise the limit "
                "(veRL: data.max_prompt_length; SkyRL: trainer.max_prompt_length; TRL: max_prompt_length), "
                "lower chunk_tokens, or let overlong_prompt be 'shorten'",
                len(ids),
                # The shortener's limit is that of prompt and response together, and it was promised one token for that.
                self.limits.prompt + 1,
            )
        generated = await self.generate(ids)
        check_generated(generated)
        sampled = generated.token_ids
        return Reply(
            await self.decode(sampled),
            # veRL says "completed" of both; who says more knows better, such as of an end at the very limit.
            "length"
            if generated.stop_reason == "completed" and len(sampled) >= self.limits.response
            else generated.stop_reason,
            prompt_tokens=len(ids),
            response_tokens=len(sampled),
            prompt_ids=ids,
            token_ids=sampled,
            log_probs=generated.log_probs,
            extra=generated.extra,
        )


async def sample_with_retries(call: Callable[[], Awaitable[Generated]], tries: int) -> Generated:
    """One response of a model's server whose call may have failed ``tries - 1`` times before, with growing pauses.

    Args:
        call: Asks the server once. A sample that cannot be trained on counts as a failure, as does whatever it raises.
        tries: Calls in all, at least 1.

    Raises:
        LanguageModelError: the last sample cannot be trained on, see :func:`check_generated`.
        Exception: what the last call raised.
    """
    retrying = AsyncRetrying(
        stop=stop_after_attempt(tries),
        wait=wait_exponential(multiplier=0.5, max=8),
        # Whatever a remote call raises; a cancellation is no Exception and passes.
        retry=retry_if_exception_type(Exception),
        reraise=True,
    )
    async for attempt in retrying:
        with attempt:
            generated = await call()
            check_generated(generated)
    return generated


def check_generated(generated: Generated) -> None:
    """Refuse what cannot be trained on.

    Raises:
        LanguageModelError: see :class:`TokenPolicy`.
    """
    check_ending(generated.stop_reason, f"a sample of {len(generated.token_ids)} tokens")
    if not generated.token_ids:
        raise LanguageModelError("the model's server sampled no token, so there is nothing to train on; see its log")
    if generated.log_probs is not None and len(generated.log_probs) != len(generated.token_ids):
        raise LanguageModelError(
            f"the model's server gave {len(generated.log_probs)} log-probabilities "
            f"for {len(generated.token_ids)} tokens; ask it for those of the sampled tokens"
        )
    given: Iterable[object] = generated.log_probs or ()
    odd = [one for one in given if not (isinstance(one, Real) and math.isfinite(one))]
    if odd:
        raise LanguageModelError(
            f"the model's server gave {odd[0]!r} as a log-probability; each must be a finite number: see its log"
        )
