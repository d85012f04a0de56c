"""Reads chat completions strictly: a reply is complete and of a known form, or it is requested again (SPEC A9).

Players, the judge and training sessions all use the table of finish reasons in this module.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from atommem_gym.endpoints import OddReplyError, decoded, shown
from atommem_gym.errors import is_integer

Ending: TypeAlias = Literal["stop", "length", "tool_calls"]
"""How a valid reply ended: by itself or at a stop string, at the length limit, or with a tool call."""

ENDINGS: Mapping[str, Ending] = {
    # OpenAI, vLLM, SGLang, llama.cpp, Ollama
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    # Text Generation Inference, Together
    "eos_token": "stop",
    "eos": "stop",
    "stop_sequence": "stop",
    # Anthropic, and Gemini in capitals
    "end_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    # Mistral
    "model_length": "length",
    # Cohere
    "complete": "stop",
    "tool_call": "tool_calls",
    # veRL's name for a stop or the length limit
    "completed": "stop",
}
"""Every finish reason of a valid reply, in lower case."""

_TEXT_PARTS = frozenset({"text", "output_text"})
_REASONING_PARTS = frozenset(
    {"thinking", "reasoning", "reasoning_text", "reasoning_content", "thought", "redacted_thinking"}
)
_REASONING_KEYS = ("thinking", "reasoning", "reasoning_content", "text", "content", "summary")
_MOST_TOKENS = 2**53
"""Larger counts are ignored; traces and their Parquet columns hold smaller ones exactly."""
_HINT = "is this an OpenAI-compatible server for chat completions?"


def ending(finish_reason: object) -> Ending | None:
    """How a reply ended; ``None`` if it is not valid: an error, an abort, a filter, missing, null or unknown.

    >>> ending("stop"), ending("MAX_TOKENS"), ending("error"), ending(None)
    ('stop', 'length', None, None)
    """
    return ENDINGS.get(finish_reason.lower()) if isinstance(finish_reason, str) else None


@dataclass(frozen=True, slots=True)
class ChatReply:
    """The first choice of a chat completion."""

    content: str
    """The text parts, joined; empty if the model wrote nothing."""
    reasoning: str
    """Reasoning that the server returned apart from the text."""
    tool_calls: tuple[str, ...]
    """Structured tool calls, each as JSON text ``{"name": …, "arguments": …}``. Arguments that are not valid JSON stay
    a string in it, since the model is to blame and not the server."""
    ended: Ending
    """How it ended."""
    may_lack_stop: bool
    """Whether it may have ended at a stop string that the server removed."""
    stop_reason: str | None
    """The stop string, if the server names it (as vLLM does)."""
    prompt_tokens: int | None
    """Tokens of the prompt; ``None`` if the server does not count."""
    completion_tokens: int | None
    """Tokens of the completion; ``None`` if the server does not count."""


def read_chat(body: Any) -> ChatReply:
    """Read the first choice of a decoded chat completion.

    Raises:
        OddReplyError: it has another form than a chat completion, or its server did not end it as a stop, at the
            length limit or with a tool call.
    """
    choices = body.get("choices") if isinstance(body, dict) else None
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        raise OddReplyError(f"{shown(body)}, which holds no choices[0].message; {_HINT}")
    reason = choice.get("finish_reason")
    ended = ending(reason)
    if choice.get("error") or ended is None:
        why = f", error {shown(choice['error'])}" if choice.get("error") else ""
        raise OddReplyError(
            f"one that its server ended with finish_reason {shown(reason)}{why}; a reply counts only if it ended as a "
            "stop, at the length limit or with a tool call"
        )
    content, thought = _content(message.get("content"))
    reasoning = [_reasoning(message.get(key), key) for key in ("reasoning_content", "reasoning")]
    stop_reason = choice.get("stop_reason")
    usage = body.get("usage")
    return ChatReply(
        content=content or _refusal(message.get("refusal")),
        # vLLM and DeepSeek use reasoning_content, newer vLLM and OpenRouter reasoning, Mistral parts of the content.
        reasoning=reasoning[0] or reasoning[1] or thought,
        tool_calls=_tool_calls(message),
        ended=ended,
        may_lack_stop=str(reason).lower() in ("stop", "stop_sequence"),
        stop_reason=stop_reason if isinstance(stop_reason, str) else None,
        prompt_tokens=_count(usage, "prompt_tokens"),
        completion_tokens=_count(usage, "completion_tokens"),
    )


def _content(content: Any) -> tuple[str, str]:
    """The text of a message's content, and the reasoning among its parts."""
    if content is None or isinstance(content, str):
        return content or "", ""
    if not isinstance(content, list):
        raise OddReplyError(f"one whose content is neither text nor a list of parts but {shown(content)}")
    texts, thoughts = [], []
    for part in content:
        kind = part.get("type", "text") if isinstance(part, dict) else None
        if isinstance(kind, str) and kind in _REASONING_PARTS:
            thoughts.append(_thought(part, "content"))
        elif isinstance(kind, str) and kind in _TEXT_PARTS and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif kind == "refusal" and isinstance(part.get("refusal"), str):
            texts.append(part["refusal"])
        else:
            # Also a part with a text: if its type is unknown, it may be a draft that must not be acted on.
            raise OddReplyError(f"one whose content has the part {shown(part)}, which is neither text nor reasoning")
    return "".join(texts), "".join(thoughts)


def _reasoning(value: Any, where: str) -> str:
    """Reasoning that is a text, or a list of parts that hold one."""
    if value is None or isinstance(value, str):
        return value or ""
    if not isinstance(value, list):
        raise OddReplyError(f"one whose {where} is neither text nor a list of parts but {shown(value)}")
    return "".join(part if isinstance(part, str) else _thought(part, where) for part in value)


def _thought(part: Any, where: str) -> str:
    """The text of one part of reasoning; a list inside it holds texts or parts with a text, and no further lists."""
    if not isinstance(part, dict):
        raise OddReplyError(f"one whose {where} has the part {shown(part)}, which holds no text")
    inner = next((part[key] for key in _REASONING_KEYS if part.get(key) is not None), "")
    parts = inner if isinstance(inner, list) else [inner]
    texts: list[str] = []
    for one in parts:
        text = one.get("text") if isinstance(one, dict) else one
        if not isinstance(text, str):
            raise OddReplyError(f"one whose {where} has the part {shown(part)}, which holds no text")
        texts.append(text)
    return "".join(texts)


def _refusal(refusal: Any) -> str:
    """The refusal of a model (OpenAI), which counts as its text."""
    if refusal is None or isinstance(refusal, str):
        return refusal or ""
    raise OddReplyError(f"one whose refusal is not a string but {shown(refusal)}")


def _tool_calls(message: Mapping[str, Any]) -> tuple[str, ...]:
    calls = message.get("tool_calls")
    if calls is not None and not isinstance(calls, list):
        raise OddReplyError(f"one whose tool_calls are no list but {shown(calls)}")
    functions = [call.get("function") if isinstance(call, dict) else None for call in calls or ()]
    legacy = message.get("function_call")
    if not functions and legacy is not None:
        functions = [legacy]
    return tuple(_call(function, calls if calls else legacy) for function in functions)


def _call(function: Any, calls: Any) -> str:
    """A call as JSON text; its arguments come as JSON in a string, or as an object."""
    name = function.get("name") if isinstance(function, dict) else None
    arguments = function.get("arguments") if isinstance(function, dict) else None
    if not isinstance(name, str) or not (arguments is None or isinstance(arguments, (str, dict))):
        raise OddReplyError(
            f"one with the tool call {shown(calls)}, which lacks a function with a name and arguments as text or object"
        )
    try:
        return _call_text(name, decoded(arguments) if isinstance(arguments, str) else arguments)
    except (ValueError, RecursionError):
        if not isinstance(arguments, str):
            raise OddReplyError(f"one with a call of {name[:40]!r} whose arguments are nested too deeply") from None
        # The environment says what is wrong with them.
        return _call_text(name, arguments)


def _call_text(name: str, arguments: Any) -> str:
    return json.dumps({"name": name, "arguments": {} if arguments is None else arguments}, ensure_ascii=False)


def _count(usage: Any, name: str) -> int | None:
    count = usage.get(name) if isinstance(usage, dict) else None
    return count if is_integer(count) and 0 <= count <= _MOST_TOKENS else None
