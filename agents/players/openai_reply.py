"""What OpenAI-compatible servers send back: a reply as text, and what their complaints about length mean."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from atommem_gym.chat_reply import ChatReply
from atommem_gym.errors import ContextLengthError, is_integer
from atommem_gym.refusals import Refusal, lengths, too_long


def context_length_error(refusal: Refusal, model: str) -> ContextLengthError | None:
    """The error of a reply that says that the prompt is too long, with its numbers; ``None`` if it says otherwise.

    A number that is not found, or that is absurd, is ``None``.
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
    """The same of an exception of OpenAI's SDK, or of another one that has a ``status_code`` and a ``body``."""
    status = getattr(error, "status_code", None)
    if not is_integer(status):
        return None
    body = getattr(error, "body", None)
    details = body if isinstance(body, Mapping) else {}
    message = details.get("message")
    return context_length_error(Refusal(status, message if isinstance(message, str) else str(error), details), model)


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
