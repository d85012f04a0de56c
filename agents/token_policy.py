"""A policy in tokens: a trainer trains on exactly the tokens that were sampled.

Token ids go from the model's server into the steps of a session unchanged; only a copy of them is decoded, for the
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
"""Chat messages to the token ids of a prompt, generation prompt included; long prompts are not cut."""
Decode: TypeAlias = Callable[[list[int]], Awaitable[str]]
"""Token ids to the text of a response, without special tokens."""


@dataclass(frozen=True, slots=True)
class Generated:
    """A response as the model's server sampled it."""

    token_ids: list[int]
    """The sampled tokens, special ones included."""
    stop_reason: str | None
    """How the response ended: veRL's ``completed``, or a finish reason of ``chat_reply.ENDINGS``."""
    log_probs: list[float] | None = None
    """Log-probability of each token; ``None`` if the server gave none."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Other fields that the server returned; they go into ``Reply.extra``."""


Generate: TypeAlias = Callable[[list[int]], Awaitable[Generated]]
"""Samples a response to the token ids of a prompt."""


@dataclass(frozen=True, slots=True)
class TokenLimits:
    """The greatest lengths of prompts and responses, in tokens."""

    prompt: int
    """Tokens of a prompt at most; a longer one is shortened or raises, as ``overlong_prompt`` of the session says."""
    response: int
    """Tokens of a response at most; the server cuts it there, and the policy acts on the cut response."""


@dataclass(frozen=True, slots=True)
class TokenPolicy:
    """A policy in tokens: its replies hold the token ids of prompts and responses.

    Called with the messages of a prompt, it returns the :class:`~atommem_gym.agents.session.Reply`. It raises
    ``ContextLengthError`` if the prompt has more tokens than ``limits.prompt``. It raises ``LanguageModelError`` if the
    model sampled no token, did not end the sample with a stop, at the length limit or with a tool call (SPEC A9), or
    gave log-probabilities of which one is missing or not finite.
    """

    encode: Encode
    """Applies the model's chat template and tokenizer."""
    decode: Decode
    """Turns sampled tokens into the action text."""
    generate: Generate
    """Samples from the model."""
    limits: TokenLimits
    """The greatest lengths; ``generate`` keeps to ``limits.response`` itself."""

    async def __call__(self, messages: Messages) -> Reply:
        """Sample the reply to the messages of a prompt; the errors are those of the class."""
        ids = await self.encode(messages)
        if len(ids) > self.limits.prompt:
            raise ContextLengthError(
                f"the prompt has {len(ids)} tokens, but at most {self.limits.prompt} are allowed: raise the limit "
                "(veRL: data.max_prompt_length; SkyRL: trainer.max_prompt_length; TRL: max_prompt_length), "
                "lower chunk_tokens, or let overlong_prompt be 'shorten'",
                len(ids),
                # The shortener's limit is that of prompt and response together; a session asks it for max_tokens=1.
                self.limits.prompt + 1,
            )
        generated = await self.generate(ids)
        check_generated(generated)
        sampled = generated.token_ids
        return Reply(
            await self.decode(sampled),
            # veRL says "completed" for a stop and for the limit; any other reason is more exact and is kept.
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
    """Sample one response; a failed call of the server is repeated with growing pauses, ``tries`` calls in all.

    Args:
        call: Asks the server once. An exception is a failure, and so is a sample that cannot be trained on.
        tries: Calls in all, at least 1.

    Raises:
        LanguageModelError: the last sample cannot be trained on, see :func:`check_generated`.
        Exception: the last call raised it.
    """
    retrying = AsyncRetrying(
        stop=stop_after_attempt(tries),
        wait=wait_exponential(multiplier=0.5, max=8),
        # A remote call may raise any Exception; CancelledError is a BaseException and passes.
        retry=retry_if_exception_type(Exception),
        reraise=True,
    )
    async for attempt in retrying:
        with attempt:
            generated = await call()
            check_generated(generated)
    return generated


def check_generated(generated: Generated) -> None:
    """Check that a sample can be trained on.

    Raises:
        LanguageModelError: it has no token, did not end properly (SPEC A9), or has log-probabilities of which one is
            missing or not finite.
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
