"""What OpenAI-compatible servers send back: a reply as text, and what their complaints about length mean."""

from __future__ import annotations

import re
from collections.abc import Sequence

from atommem_gym.chat_reply import ChatReply
from atommem_gym.endpoints import Refusal
from atommem_gym.errors import ContextLengthError

_TOO_LONG = re.compile(
    r"context[ _](?:length|size|window)|maximum (?:model |input )?length|max_model_len", re.IGNORECASE
)
_LIMIT = (
    re.compile(r"context (?:length|size|window)(?: of| is| \(|:)*(?: only)? (?P<n>\d+)", re.IGNORECASE),
    re.compile(r"context (?:length|size|window)[^\d]{0,30}(?P<n>\d+)", re.IGNORECASE),
)
_PROMPT = (
    re.compile(r"input length \(?(?P<n>\d+)", re.IGNORECASE),
    re.compile(r"(?P<n>\d+) tokens from the input", re.IGNORECASE),
    re.compile(r"(?P<n>\d+) (?:tokens )?in the messages", re.IGNORECASE),
    re.compile(r"(?P<n>\d+) (?:input|prompt) tokens", re.IGNORECASE),
    re.compile(r"(?:prompt|messages|request|input)\D{0,60}?(?P<n>\d+) tokens", re.IGNORECASE),
)

_KNOWN = ("context_length_exceeded", "exceed_context_size_error")
_MOST_TOKENS = 10**9
"""No context is longer, and what is reckoned with these numbers stays in the range of floats."""

# vLLM stops counting at its limit, and counts characters only where there are far too many of them.
_VAGUE = re.compile(r"at least \d|upper bound", re.IGNORECASE)


def context_length_error(refusal: Refusal, model: str) -> ContextLengthError | None:
    """The error of a reply that says that the prompt is too long, with its numbers; ``None`` if it says otherwise.

    Understood are OpenAI, vLLM, SGLang and llama.cpp; a number that is not found, or that is absurd, is ``None``.
    """
    if refusal.status not in (None, 400, 413, 422):
        return None
    message, details = refusal.message, refusal.details
    known = [details.get(name) in _KNOWN for name in ("code", "type") if isinstance(details.get(name), str)]
    if not any(known) and not _TOO_LONG.search(message):
        return None
    limit = _integer(details.get("n_ctx")) or _first(_LIMIT, message)
    prompt = _integer(details.get("n_prompt_tokens"))
    if prompt is None and not _VAGUE.search(message):
        prompt = _first(_PROMPT, message)
    return ContextLengthError(
        f"a prompt of {prompt or 'too many'} tokens, with the tokens asked for, does not fit the context of {model}, "
        f"{limit or 'fewer'} tokens (the server says: {message}). Take smaller chunks (chunk_tokens=…), show less of a "
        "search (max_memory_tokens=…, top_k=…), lower max_tokens, or serve the model with a longer context",
        prompt,
        limit,
    )


def reply_text(reply: ChatReply, stop: Sequence[str]) -> str:
    """A reply as an action: its content, then its structured tool calls as ``<tool_call>`` blocks (SPEC A5).

    A stop string that the server took off is put back, so that the tag that it closes is closed.

    Args:
        reply: What the server sent.
        stop: The stop strings that were asked for.
    """
    text = reply.content
    if stop and reply.may_lack_stop:
        text += _taken_off(text, stop, reply.stop_reason)
    calls = [f"<tool_call>\n{call}\n</tool_call>" for call in reply.tool_calls]
    return "\n".join([*([text] if text else []), *calls])


def _taken_off(text: str, stop: Sequence[str], stop_reason: str | None) -> str:
    """The stop string at which the text ended, if it can be told and is not there."""
    if stop_reason is not None and stop_reason in stop:
        # vLLM names it; it is there already where include_stop_str_in_output was asked for.
        return "" if text.endswith(stop_reason) else stop_reason
    for string in stop:
        # Others leave it out without a word; a closing tag is missing where its opening one is open.
        closing = re.fullmatch(r"</([A-Za-z_][\w.:-]*)>", string)
        if closing:
            opened = len(re.findall(rf"<{closing[1]}(?![\w.:-])[^<>]*>", text, re.IGNORECASE))
            closed = len(re.findall(rf"</{closing[1]}\s*>", text, re.IGNORECASE))
            if opened > closed:
                return string
    return ""


def _integer(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _MOST_TOKENS else None


def _first(patterns: Sequence[re.Pattern[str]], message: str) -> int | None:
    for pattern in patterns:
        found = pattern.search(message)
        if found:
            return _integer(int(found["n"]))
    return None
