"""Interprets the refusals of servers: which of them mean that the prompt is too long."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from atommem_gym.errors import is_integer


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error that a server reports, by its HTTP status or in the body of a reply with status 200."""

    status: int | None
    """The HTTP status; ``None`` if the error came in a reply with status 200 and names none."""
    message: str
    """The ``error.message`` of OpenAI's form, or else the start of the body."""
    details: Mapping[str, Any]
    """The other fields of the error, unchecked."""


_CODES = frozenset(
    {
        "context_length_exceeded",  # OpenAI, Groq, LM Studio
        "exceed_context_size_error",  # llama.cpp
        "context_window_exceeded",
        "model_context_window_exceeded",  # Z.ai
        "context_too_large",
        "contextwindowexceedederror",  # LiteLLM
        "string_above_max_length",  # OpenAI, for a message of too many characters
        "3051",  # Mistral
    }
)
"""Codes and types of errors that mean a prompt that is too long, in lower case."""

_N = r"-?\d[\d,_]*"
_WORDS = re.compile(
    "|".join(
        (
            # A length, a size or a window of the context, which something exceeds.
            r"exceed\w*\b[^.]{0,60}?\bcontext[ _](?:length|size|window|limit)",
            r"context[ _](?:length|size|window|limit)\b[^.]{0,40}?\bexceed",
            r"(?:longer|greater|larger) than (?:the )?(?:model'?s? |max\w* |available )*context (?:length|size|window)",
            rf"max(?:imum)? (?:model |input )?context (?:length|size|window)\D{{0,20}}{_N}",
            r"outside (?:of )?(?:the )?context window",
            # The same without the word context.
            r"(?:prompt|input|request|message)s?\b[^.]{0,80}?\b(?:is|are|was) too (?:long|large)\b",
            r"too large for model with",
            r"(?:prompt|input) too (?:long|large)\b",
            r"maximum (?:prompt|sequence|model|input|allowed input) length\b",
            r"max_(?:model|seq|sequence|input)_len(?:gth)?\b",
            r"must have less than \d+ (?:tokens|characters)",
            r"(?:prompt|input)\b[^.]{0,40}\btoo many tokens",
            r"too many (?:input|prompt) tokens",
            r"current length is \d+ while limit is \d",
            r"input (?:text )?length should not exceed \d",
            r"expected maxLength: \d+, actual",
            r"prompt: length: \d",
            r"exceeds? the KV memory budget",
            r"request payload size exceeds",
            r"^length limit exceeded",
            r"`?inputs`? tokens \+ `?max_new_tokens`? must be",
            r"(?:tokens?|token count)\b[^.]{0,60}?\bexceed\w*\b[^.]{0,50}?(?:limit|maximum|max|allowed)\b[^.]{0,30}?\d",
            r"exceed\w* (?:the )?(?:model|max\w*) tokens? limit",
            r"(?:input|prompt) tokens? exceed\w* the (?:configured )?limit",
            r"range of input length should be",
            r"reduce (?:the )?(?:your )?(?:length of (?:the |your )?)?(?:prompt|messages|input)",
            # Nothing is left for the reply.
            r"max_(?:completion_|new_)?tokens[^.]{0,60}?must be (?:at least 1|greater than 0|positive)\D{0,20}-\d",
        )
    ),
    re.IGNORECASE,
)
_WEAK = re.compile(r"context[ _](?:length|size|window)|maximum (?:model |input )?length|max_model_len", re.IGNORECASE)
"""Enough if the server blames the request, but not if it blames itself: it may lack memory for its context."""

_LIMIT = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"{_N} \+ {_N} > (?P<n>{_N})",
        rf"context (?:length|size|window)(?: of| is| \(|:)*(?: only)? \(?(?P<n>{_N})",
        rf"context (?:length|size|window)(?:(?! by )[^\d.]){{0,40}}(?P<n>{_N})",
        rf"(?P<n>{_N}) (?:maximum context|context length)",
        rf"tokens? > (?P<n>{_N}) maximum",
        rf"maximum (?:prompt|sequence|model|input|allowed input|embedding input|allowed) length\D{{0,20}}(?P<n>{_N})",
        rf"max input tokens:? (?P<n>{_N})",
        rf"should not exceed (?P<n>{_N})",
        rf"maximum number of tokens allowed \(?(?P<n>{_N})",
        rf"max_(?:model|seq|sequence|input)_len\w*\D{{0,10}}(?P<n>{_N})",
        rf"(?:limit|maximum)(?: of| is|:)* (?P<n>{_N})",
        rf"must (?:be <=?|have less than) (?P<n>{_N})",
    )
)
_PROMPT = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"(?P<n>{_N}) (?:input|prompt) tokens",
        rf"(?<!maximum )(?<!embedding )(?:input|prompt) (?:length|token count):? (?:of |is )?\(?(?P<n>{_N})",
        rf"prompt \((?:total )?length (?P<n>{_N})",
        rf"current length is (?P<n>{_N})",
        rf"input_len=(?P<n>{_N})",
        rf"(?P<n>{_N}) \+ {_N} > {_N}",
        rf"{_N} tokens: (?P<n>{_N}) tokens from the input",
        rf"(?P<n>{_N}) tokens from the input",
        rf"(?P<n>{_N}) of (?:the )?text input",
        rf"(?P<n>{_N}) (?:tokens )?in the (?:messages|input)",
        rf"(?P<n>{_N}) `?inputs`? tokens",
        rf"given: (?P<n>{_N})",
        rf"(?:resulted in|contains) (?P<n>{_N}) tokens",
        rf"(?:prompt|messages|request|input)(?:(?!limit|length|exceed)\D){{0,60}}?(?P<n>{_N}) tokens",
    )
)
MOST_TOKENS = 10**9
"""No context is longer; larger numbers are ignored."""

# vLLM stops counting at its limit, and counts characters only if there are far too many of them.
_VAGUE = re.compile(r"at least \d|upper bound", re.IGNORECASE)


_NO_TOKENS = re.compile(r"\d (?:characters|bytes)\b|maxLength", re.IGNORECASE)
"""Lengths that are not in tokens."""


def too_long(refusal: Refusal) -> bool:
    """Whether a server refuses a prompt (or a text to embed) because it is too long.

    It knows the messages of vLLM, SGLang, llama.cpp, Text Generation and Embeddings Inference, Ollama, LM Studio,
    LiteLLM and hosted services. If a server blames itself (5xx, as llama.cpp did), only unambiguous messages count.

    >>> too_long(Refusal(400, "max_tokens must be at least 1, got -1860.", {}))
    True
    >>> too_long(Refusal(500, "failed to allocate the context size", {}))
    False
    """
    status, message = refusal.status, refusal.message
    if status == 413:
        return True
    if status in (401, 402, 403, 404, 405, 408, 409, 425, 429):
        # Also quotas of tokens per minute are "exceeded", for which waiting helps.
        return False
    codes = [refusal.details.get(name) for name in ("code", "type")]
    if any(isinstance(code, (str, int)) and str(code)[:40].lower() in _CODES for code in codes):
        return True
    return bool(_WORDS.search(message) or (status in (None, 400, 422) and _WEAK.search(message)))


def lengths(refusal: Refusal) -> tuple[int | None, int | None]:
    """The tokens of the prompt and of the context in a refusal that is :func:`too_long`; ``None`` if not named.

    >>> lengths(Refusal(400, "The input (9000 tokens) is longer than the model's context length (8192 tokens).", {}))
    (9000, 8192)
    """
    message, details = refusal.message, refusal.details
    if _NO_TOKENS.search(message) and "token" not in message:
        return None, None
    limit = _integer(details.get("n_ctx")) or _first(_LIMIT, message)
    prompt = _integer(details.get("n_prompt_tokens"))
    if prompt is None and not _VAGUE.search(message):
        prompt = _first(_PROMPT, message)
    return prompt, limit


def unknown_parameter(refusal: Refusal, sent: Sequence[str]) -> str | None:
    """The parameter among ``sent`` that a server does not support; ``None`` if it refuses none.

    >>> message = "Unsupported value: 'temperature' does not support 0.7 with this model."
    >>> unknown_parameter(Refusal(400, message, {"param": "temperature"}), ["temperature", "max_tokens"])
    'temperature'
    """
    if refusal.status not in (None, 400, 422) or not _UNKNOWN.search(refusal.message):
        return None
    named = refusal.details.get("param")
    if isinstance(named, str) and named in sent:
        return named
    # The message names the refused parameter first, and the remedy after it.
    places = {name: re.search(rf"(?<![\w]){re.escape(name)}(?![\w])", refusal.message) for name in sent}
    found = {name: place.start() for name, place in places.items() if place}
    return min(found, key=found.__getitem__) if found else None


_UNKNOWN = re.compile(
    r"unsupported|not supported|does(?: not|n't) support|unrecognized|unknown|unexpected|not permitted|"
    r"not allowed|deprecated|only the default|no longer",
    re.IGNORECASE,
)


def _integer(value: object) -> int | None:
    return value if is_integer(value) and 0 < value <= MOST_TOKENS else None


def _first(patterns: Sequence[re.Pattern[str]], message: str) -> int | None:
    for pattern in patterns:
        found = pattern.search(message)
        if found:
            digits = found["n"].replace(",", "").replace("_", "")
            return _integer(int(digits)) if len(digits) < 20 else None
    return None
