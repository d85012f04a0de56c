"""What OpenAI-compatible servers send back: a reply as text, and what their complaints about length mean."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from atommem_gym.endpoints import server_message
from atommem_gym.errors import ContextLengthError, LanguageModelError

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

# vLLM stops counting at its limit, and counts characters only where there are far too many of them.
_VAGUE = re.compile(r"at least \d|upper bound", re.IGNORECASE)


def context_length_error(response: httpx.Response, model: str) -> ContextLengthError | None:
    """The error of a reply that says that the prompt is too long, with its numbers; ``None`` if it says otherwise.

    Understood are OpenAI, vLLM, SGLang and llama.cpp; a number that is not found is ``None``.
    """
    if response.status_code not in (400, 413, 422):
        return None
    message = server_message(response)
    details = _details(response)
    known = {str(details.get("code")), str(details.get("type"))} & {
        "context_length_exceeded",
        "exceed_context_size_error",
    }
    if not known and not _TOO_LONG.search(message):
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


def reply_text(choice: Mapping[str, Any], stop: Sequence[str]) -> str:
    """The text of a choice: its content, then its structured tool calls as ``<tool_call>`` blocks (SPEC A5).

    A stop string that the server took off is put back, so that the tag that it closes is closed.

    Args:
        choice: One of ``choices`` of a chat completion.
        stop: The stop strings that were asked for.
    """
    message = choice["message"]
    text = message.get("content") or ""
    if stop and choice.get("finish_reason") == "stop":
        text += _taken_off(text, stop, choice.get("stop_reason"))
    calls = [_call(call.get("function") or {}) for call in message.get("tool_calls") or ()]
    return "\n".join([*([text] if text else []), *calls])


def checked_choice(body: Any, where: str) -> Mapping[str, Any]:
    """The first choice of a chat completion.

    Raises:
        LanguageModelError: it has none of the form that it must have.
    """
    choices = body.get("choices") if isinstance(body, dict) else None
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, dict) or not isinstance(choice.get("message"), dict):
        raise LanguageModelError(
            f"{where} answered {json.dumps(body, ensure_ascii=False)[:300]}, which holds no choices[0].message; "
            "is this an OpenAI-compatible server for chat completions?"
        )
    return choice


def _taken_off(text: str, stop: Sequence[str], stop_reason: object) -> str:
    """The stop string at which the text ended, if it can be told and is not there."""
    if stop_reason in stop:
        # vLLM names it; it is there already where include_stop_str_in_output was asked for.
        return "" if text.endswith(str(stop_reason)) else str(stop_reason)
    for string in stop:
        # Others leave it out without a word; a closing tag is missing where its opening one is open.
        closing = re.fullmatch(r"</([A-Za-z_][\w.:-]*)>", string)
        if closing:
            opened = len(re.findall(rf"<{closing[1]}(?![\w.:-])[^<>]*>", text, re.IGNORECASE))
            closed = len(re.findall(rf"</{closing[1]}\s*>", text, re.IGNORECASE))
            if opened > closed:
                return string
    return ""


def _call(function: Mapping[str, Any]) -> str:
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        # They come as JSON in a string; what is no JSON stays a string, and the environment reports it.
        with contextlib.suppress(ValueError):
            arguments = json.loads(arguments)
    call: dict[str, Any] = {"name": function.get("name"), "arguments": {} if arguments is None else arguments}
    return f"<tool_call>\n{json.dumps(call, ensure_ascii=False)}\n</tool_call>"


def _details(response: httpx.Response) -> Mapping[str, Any]:
    try:
        body = response.json()
    except ValueError:
        return {}
    error = body.get("error", body) if isinstance(body, dict) else {}
    return error if isinstance(error, dict) else {}


def _integer(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _first(patterns: Sequence[re.Pattern[str]], message: str) -> int | None:
    for pattern in patterns:
        found = pattern.search(message)
        if found:
            return int(found["n"])
    return None
