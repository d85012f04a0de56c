"""Reads the replies of OpenAI-compatible servers: a reply as text, and errors about the length of the prompt."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from atommem_gym.chat_reply import ChatReply
from atommem_gym.errors import ContextLengthError, is_integer
from atommem_gym.refusals import Refusal, lengths, too_long


def context_length_error(refusal: Refusal, model: str) -> ContextLengthError | None:
    """The error for a refusal that says that the prompt is too long; ``None`` for other refusals.

    Its ``prompt_tokens`` and ``limit`` are read from the server's message; a number that is missing or implausible is
    ``None``.

    Args:
        refusal: The server's error reply.
        model: Name of the model, for the message.
    """
    if not too_long(refusal):
        return None
    prompt, limit = lengths(refusal)
    return ContextLengthError(
        f"a prompt of {prompt or 'too many'} tokens, with the tokens asked for, does not fit the context of {model}, "
        f"{limit or 'fewer'} tokens (the server says: {refusal.message}). Take smaller chunks (chunk_tokens=…), "
        "show less of a search (max_memory_tokens=…, top_k=…), lower max_tokens, or serve the model with a longer "
        "context",
        prompt,
        limit,
    )


def sdk_context_length_error(error: Exception, model: str) -> ContextLengthError | None:
    """As :func:`context_length_error`, for an exception of OpenAI's SDK, or any with ``status_code`` and ``body``."""
    status = getattr(error, "status_code", None)
    if not is_integer(status):
        return None
    body = getattr(error, "body", None)
    details = body if isinstance(body, Mapping) else {}
    message = details.get("message")
    return context_length_error(Refusal(status, message if isinstance(message, str) else str(error), details), model)


def reply_text(reply: ChatReply, stop: Sequence[str]) -> str:
    """A reply as action text: its content, then its structured tool calls as ``<tool_call>`` blocks (SPEC A5).

    A stop string that the server has removed is put back, so that the tag that it closes is closed.

    Args:
        reply: The server's reply.
        stop: The stop strings of the request.
    """
    text = reply.content
    if stop and reply.may_lack_stop:
        text += _taken_off(text, stop, reply.stop_reason)
    calls = [f"<tool_call>\n{call}\n</tool_call>" for call in reply.tool_calls]
    return "\n".join([*([text] if text else []), *calls])


def _taken_off(text: str, stop: Sequence[str], stop_reason: str | None) -> str:
    """The stop string at which the text ended and that it lacks; empty if there is none or it cannot be known."""
    if stop_reason is not None and stop_reason in stop:
        # vLLM names it; with include_stop_str_in_output the text holds it already.
        return "" if text.endswith(stop_reason) else stop_reason
    for string in stop:
        # Other servers remove it without naming it; a closing tag is missing if its opening tag is still open.
        closing = re.fullmatch(r"</([A-Za-z_][\w.:-]*)>", string)
        if closing:
            opened = len(re.findall(rf"<{closing[1]}(?![\w.:-])[^<>]*>", text, re.IGNORECASE))
            closed = len(re.findall(rf"</{closing[1]}\s*>", text, re.IGNORECASE))
            if opened > closed:
                return string
    return ""
