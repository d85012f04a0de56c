"""What becomes of every kind of reply that a model's server may send: answered, tried again, or failed (SPEC A9)."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Callable
from typing import Any

import pytest
from support.agents.refusals import NOT_TOO_LONG, TOO_LONG
from support.agents.replies import (
    ANSWER,
    DEEP,
    DIGITS,
    X,
    call,
    chat,
    choice,
    complete,
    part,
    raw,
    refused,
    short_waits,
    with_calls,
)
from support.openai_server import OpenAIServer, Reply, Request, server

from atommem_gym.actions import Create, Invalid, parse
from atommem_gym.agents.players.openai_model import OpenAIModel
from atommem_gym.agents.players.shortening import Shortener
from atommem_gym.embedders.openai_embedder import EndpointEmbedder
from atommem_gym.endpoints import ODD_TRIES
from atommem_gym.errors import ContextLengthError, EmbedderError, LanguageModelError, ModelUnavailableError

__all__ = ["server", "short_waits"]
CALL = '<tool_call>\n{{"name": "create", "arguments": {}}}\n</tool_call>'

ANSWERED: dict[str, tuple[Reply, str, str]] = {
    "text": (chat(), ANSWER, ""),
    "empty text": (chat(""), "", ""),
    "null": (chat(None), "", ""),
    "no content": (Reply({"choices": [{"message": {}, "finish_reason": "length"}]}), "", ""),
    "one part": (chat([X]), ANSWER, ""),
    "parts are joined": (chat([part("text", text="<answer>"), part("output_text", text="x</answer>")]), ANSWER, ""),
    "a part without a type": (chat([{"text": ANSWER}]), ANSWER, ""),
    "no part": (chat([]), "", ""),
    "thinking of parts": (chat([part("thinking", thinking=[part("text", text="hmm")]), X]), ANSWER, "hmm"),
    "thinking of text": (chat([part("thinking", thinking="hmm"), X]), ANSWER, "hmm"),
    "reasoning with text": (chat([part("reasoning", text="hmm"), X]), ANSWER, "hmm"),
    "thinking that was blacked out": (chat([part("redacted_thinking", data="…"), X]), ANSWER, ""),
    "a refusal among parts": (chat([part("refusal", refusal="No.")]), "No.", ""),
    "a refusal": (chat(None, message={"refusal": "No."}), "No.", ""),
    "reasoning_content": (chat(message={"reasoning_content": "hmm"}), ANSWER, "hmm"),
    "reasoning": (chat(message={"reasoning": "hmm"}), ANSWER, "hmm"),
    "reasoning of parts": (chat(message={"reasoning": [part("text", text="h"), "m", X]}), ANSWER, f"hm{ANSWER}"),
    "all in reasoning": (chat(None, message={"reasoning_content": ANSWER}), "", ANSWER),
    "a null error": (Reply({**chat().body, "error": None}), ANSWER, ""),
    "no usage": (Reply({"choices": [choice()]}), ANSWER, ""),
    "odd usage": (Reply({"choices": [choice()], "usage": [3]}), ANSWER, ""),
    "usage in words": (Reply({"choices": [choice()], "usage": {"prompt_tokens": "many"}}), ANSWER, ""),
    "usage below 0": (Reply({"choices": [choice()], "usage": {"prompt_tokens": -5}}), ANSWER, ""),
    "usage without end": (Reply({"choices": [choice()], "usage": {"prompt_tokens": 10**30}}), ANSWER, ""),
    "an odd stop_reason": (chat(stop_reason={"a": []}), ANSWER, ""),
    "no tool calls": (chat(message={"tool_calls": None}), ANSWER, ""),
    "an empty list of tool calls": (chat(message={"tool_calls": []}), ANSWER, ""),
    "a tool call": (call(), CALL.format('{"text": "a"}'), ""),
    "a tool call with an object": (call(arguments={"text": "a"}), CALL.format('{"text": "a"}'), ""),
    "a tool call without arguments": (call(arguments=None), CALL.format("{}"), ""),
    "a legacy function call": (
        chat(None, finish_reason="function_call", message={"function_call": {"name": "create", "arguments": "{}"}}),
        CALL.format("{}"),
        "",
    ),
    "arguments that are no JSON": (call(arguments="{"), CALL.format('"{"'), ""),
    "arguments nested deeply": (call(arguments=DEEP), CALL.format(json.dumps(DEEP)), ""),
    "NaN in arguments": (call(arguments='{"id": NaN}'), CALL.format(json.dumps('{"id": NaN}')), ""),
    "digits without end in arguments": (call(arguments=DIGITS), CALL.format(f'"{DIGITS}"'), ""),
    "a lone surrogate": (chat("\ud800"), "\ud800", ""),
    "a second choice": (Reply({"choices": [choice(), 3]}), ANSWER, ""),
    "a byte order mark": (Reply(b"\xef\xbb\xbf" + json.dumps(chat().body).encode()), ANSWER, ""),
    "gzip": (
        Reply(gzip.compress(json.dumps(chat().body).encode()), headers={"Content-Encoding": "gzip"}),
        ANSWER,
        "",
    ),
    # BerriAI/litellm 1.110.2, litellm/litellm_core_utils/core_helpers.py; vllm-project/vllm 0.11.0, vllm/v1/engine
    **{
        f"finish_reason {reason!r}": (chat(finish_reason=reason), ANSWER, "")
        for reason in (
            "length",
            "tool_calls",
            "eos_token",
            "eos",
            "stop_sequence",
            "end_turn",
            "max_tokens",
            "tool_use",
        )
    },
    **{
        f"finish_reason {reason!r}": (chat(finish_reason=reason), ANSWER, "")
        for reason in ("model_length", "completed", "STOP", "MAX_TOKENS", "COMPLETE", "TOOL_CALL")
    },
}
"""Replies that count, with the text and the reasoning in them."""

ODD: dict[str, Reply] = {
    "a number for content": chat(3),
    "true for content": chat(True),
    "an object for content": chat({"text": ANSWER}),
    "a bare string among the parts": chat(["x"]),
    "a number among the parts": chat([X, 3]),
    "a list among the parts": chat([[X]]),
    "a part of an unknown type": chat([X, part("image_url", image_url={})]),
    "a part of an unknown type with text": chat([part("draft", text="<create>no</create>"), X]),
    "a part whose type is no text": chat([{"type": ["text"], "text": "x"}]),
    "a text part without text": chat([part("text")]),
    "a text part with a number": chat([part("text", text=3)]),
    "thinking nested in thinking": chat([part("thinking", thinking=[[part("text", text="x")]]), X]),
    "thinking of numbers": chat([part("thinking", thinking=3), X]),
    "a number for reasoning": chat(message={"reasoning_content": 3}),
    "an object for reasoning": chat(message={"reasoning": {"text": "x"}}),
    "a number for refusal": chat(None, message={"refusal": 3}),
    "a string for tool_calls": with_calls("create"),
    "an object for tool_calls": with_calls({"name": "create"}),
    "false for tool_calls": with_calls(False),
    "a string among tool_calls": with_calls(["create"]),
    "a tool call without a function": with_calls([{"type": "function"}]),
    "a tool call of a string": with_calls([{"function": "create"}]),
    "a tool call without a name": call(None),
    "a tool call with a number for a name": call(3),
    "a tool call with a list of arguments": call(arguments=["a"]),
    "a tool call with a number for arguments": call(arguments=3),
    "a function_call of a string": chat(None, message={"function_call": "create"}),
    "no choices": Reply({"choices": []}),
    "choices that are an object": Reply({"choices": {"0": choice()}}),
    "a choice that is a number": Reply({"choices": [3]}),
    "a choice without a message": Reply({"choices": [{"finish_reason": "stop"}]}),
    "a message that is a text": Reply({"choices": [{"message": ANSWER, "finish_reason": "stop"}]}),
    "an empty object": Reply({}),
    "a list": Reply([chat().body]),
    "a number": Reply("3"),
    "null for a body": Reply("null"),
    "a page": Reply("<html>hello</html>"),
    "nothing": Reply(""),
    "half a reply": Reply(json.dumps(chat().body)[:-9]),
    "bytes that are no UTF-8": Reply(json.dumps(chat().body).encode().replace(b"<answer>", b"\xff\xfe")),
    "UTF-16": Reply(json.dumps(chat().body).encode("utf-16")),
    "JSON nested deeply": Reply(DEEP),
    "objects nested deeply": Reply('{"a":' * 200_000),
    "content nested deeply": raw("here", '"here"', f"{DEEP}{']' * len(DEEP)}"),
    "content nested as deeply as can be read": raw("here", '"here"', f"{'[' * 800}{']' * 800}"),
    "NaN": raw("here", '"prompt_tokens": 12', '"prompt_tokens": NaN'),
    "Infinity": raw("here", '"prompt_tokens": 12', '"prompt_tokens": -Infinity'),
    "a number of many digits": raw("here", '"prompt_tokens": 12', f'"prompt_tokens": {DIGITS}'),
    "gzip that is none": Reply(json.dumps(chat().body), headers={"Content-Encoding": "gzip"}),
    "deflate that is none": Reply(json.dumps(chat().body), headers={"Content-Encoding": "deflate"}),
    "an error that is no gzip": Reply("busy", 401, {"Content-Encoding": "gzip"}),
    "an error of the choice": chat(error={"code": 502, "message": "Upstream died"}),
    "an error without a code": refused("Provider returned error"),
    "an error with another code": refused("Provider returned error", code="overloaded"),
    "an error with an odd code": refused("Provider returned error", code=[{}]),
    "an error with a code that is no status": refused("Provider returned error", code=40303),
    "an error that is a text": Reply({"error": "Provider returned error"}),
    "an error beside choices": Reply({**chat().body, "error": "Provider returned error"}),
    "an error whose charset is odd": Reply("…", headers={"Content-Type": "text/html; charset=hex"}),
    **{
        f"finish_reason {reason!r}": chat("<create>half a fac", finish_reason=reason)
        for reason in ("error", "abort", "aborted", "content_filter", "", "cancelled", None, 3, True, ["stop"], {})
    },
    # BerriAI/litellm 1.110.2, litellm/litellm_core_utils/core_helpers.py, from hosted services
    **{
        f"finish_reason {reason!r}": chat("<create>half a fac", finish_reason=reason)
        for reason in ("refusal", "pause_turn", "compaction", "ERROR_TOXIC", "SAFETY", "RECITATION", "network_error")
    },
    **{
        f"finish_reason {reason!r}": chat("<create>half a fac", finish_reason=reason)
        for reason in ("FINISH_REASON_UNSPECIFIED", "MALFORMED_FUNCTION_CALL", "sensitive", "guardrail_intervened")
    },
    "no finish_reason": Reply({"choices": [{"message": {"content": "<create>half a fac"}}]}),
}
"""Replies that are asked for again, and fail the call if they do not mend."""

WAITED_FOR: dict[str, Reply] = {
    "429": refused("slow down", 429),
    "502 nested deeply": Reply(DEEP, 502),
    "502 of NaN": Reply("NaN", 502),
    "502 that is no UTF-8": Reply(b"\xff\xfe", 502),
    "502 with a list": Reply([[[]]], 502),
    "429 inside 200": refused("Provider returned error", code=429),
    "502 inside 200": refused("Provider returned error", code=502),
    "502 as text inside 200": refused("Provider returned error", code="502"),
    "502 as status inside 200": refused("Provider returned error", status=502),
    "502 beside the error": Reply({"error": "Provider returned error", "code": 502}),
    "503 of an old server": Reply({"object": "error", "message": "Provider returned error", "code": 503}),
    "429 to be asked again without end": Reply("", 429, {"Retry-After": "9" * 400}),
    "429 to be asked again at no time": Reply("", 429, {"Retry-After": f"Wed, 21 Oct 2099 07:28:00 +{'9' * 30}"}),
}
"""Replies of a busy or broken server, which is waited for as long as the patience lasts."""

REFUSED: dict[str, Reply] = {
    "401": refused("no such thing", 401),
    "400 nested deeply": Reply(DEEP, 400),
    "400 of many digits": Reply(DIGITS, 400),
    "400 that is no UTF-8": Reply(b"\xff", 400),
    "400 with a message nested deeply": Reply(f'{{"error": {{"message": {"[" * 800}{"]" * 800}}}}}', 400),
    "400 with a code nested deeply": Reply(f'{{"error": {{"code": {"[" * 800}{"]" * 800}}}}}', 400),
    "400 inside 200": refused("no such thing", code=400),
    "401 as text inside 200": refused("no such thing", code="401"),
    "a redirect": Reply("", 302, {"Location": "http://["}),
}
"""Replies after which no other try is made."""


def first(reply: Reply, then: Reply | None = None) -> Callable[[Request, int], Reply]:
    return lambda request, number: reply if number == 0 else then or chat()


def test_the_table_is_as_long_as_it_says() -> None:
    rows = [*(reply for reply, _, _ in ANSWERED.values()), *ODD.values(), *WAITED_FOR.values(), *REFUSED.values()]
    rows += [*(reply for reply, _, _ in TOO_LONG.values()), *NOT_TOO_LONG.values()]
    assert len(rows) >= 240
    assert len({repr(row) for row in rows}) == len(rows), "each is another reply"


@pytest.mark.parametrize("name", ANSWERED)
def test_finding_2_1_a_reply_that_counts_is_answered(server: OpenAIServer, name: str) -> None:
    reply, text, reasoning = ANSWERED[name]
    server.answer = lambda request, number: reply
    completion = complete(server)
    assert (completion.text, completion.reasoning, completion.tries) == (text, reasoning, 1)
    assert completion.finish_reason in ("stop", "length", "tool_calls")
    assert completion.prompt_tokens in (0, 12)


@pytest.mark.parametrize("name", ODD)
def test_finding_2_1_an_odd_reply_is_tried_again_and_then_fails(server: OpenAIServer, name: str) -> None:
    server.answer = first(ODD[name])
    completion = complete(server)
    assert (completion.text, completion.tries) == (ANSWER, 2)
    server.requests.clear()
    server.answer = lambda request, number: ODD[name]
    with pytest.raises(LanguageModelError, match=f"sent {ODD_TRIES} replies that cannot be used") as caught:
        complete(server)
    assert not isinstance(caught.value, (ModelUnavailableError, ContextLengthError))
    assert len(str(caught.value)) < 1200
    assert len(server.requests) == ODD_TRIES
    server.requests.clear()
    with pytest.raises(LanguageModelError, match="sent 1 reply that cannot be used"):
        complete(server, patience=0.0)
    assert len(server.requests) == 1, "patience bounds it as well"


@pytest.mark.parametrize("name", WAITED_FOR)
def test_finding_2_3_a_busy_server_is_waited_for_whatever_it_sends(server: OpenAIServer, name: str) -> None:
    server.answer = lambda request, number: WAITED_FOR[name] if number < ODD_TRIES + 2 else chat()
    assert complete(server).tries == ODD_TRIES + 3
    server.answer = lambda request, number: WAITED_FOR[name]
    with pytest.raises(ModelUnavailableError, match="may be repeated"):
        complete(server, patience=0.05)


@pytest.mark.parametrize("name", REFUSED)
def test_finding_2_3_a_refusal_raises_at_once_with_its_message(server: OpenAIServer, name: str) -> None:
    server.answer = lambda request, number: REFUSED[name]
    with pytest.raises(LanguageModelError, match="was refused with HTTP") as caught:
        complete(server)
    assert len(server.requests) == 1
    assert "no such thing" in str(caught.value) or "no such thing" not in str(REFUSED[name].body)


@pytest.mark.parametrize("details", [{"code": 400}, {"code": "context_length_exceeded"}, {"type": "x"}])
def test_finding_2_3_a_prompt_too_long_is_understood_inside_a_reply_with_status_200(
    server: OpenAIServer, details: dict[str, Any]
) -> None:
    message = "This model's maximum context length is 8192 tokens. However, your request has 9001 input tokens."
    server.answer = lambda request, number: refused(message, **details)
    with pytest.raises(ContextLengthError) as caught:
        complete(server)
    assert (caught.value.prompt_tokens, caught.value.limit) == (9001, 8192)


@pytest.mark.parametrize("digits", ["9" * 400, "9" * 12])
def test_a_context_of_absurd_length_is_unknown_and_the_prompt_is_shortened_all_the_same(
    server: OpenAIServer, digits: str
) -> None:
    server.answer = lambda request, number: refused(f"maximum context length is {digits}, {digits} input tokens", 400)
    with pytest.raises(ContextLengthError) as caught:
        complete(server)
    assert (caught.value.prompt_tokens, caught.value.limit) == (None, None)
    observation: Any = {"chunk": "x" * 1000, "memories": [], "scratchpad": "", "feedback": ""}
    shortener = Shortener(observation, 64)
    shortener.next(caught.value, 1000)
    server.answer = lambda request, number: Reply(
        f'{{"error": {{"type": "exceed_context_size_error", "n_ctx": {digits}, "n_prompt_tokens": {digits}}}}}', 400
    )
    with pytest.raises(ContextLengthError) as caught:
        complete(server)
    assert (caught.value.prompt_tokens, caught.value.limit) == (None, None)
    shortener.next(caught.value, 1000)


def test_odd_replies_are_told_once_and_an_outage_beside_them_still_is(
    server: OpenAIServer, caplog: pytest.LogCaptureFixture
) -> None:
    replies = [ODD["a page"], ODD["a list"], WAITED_FOR["429"], WAITED_FOR["429"], chat()]
    server.answer = lambda request, number: replies[number]
    assert complete(server).tries == 5
    told = [record.message for record in caplog.records]
    assert sum("cannot be used" in line for line in told) == 1
    assert sum("slow down" in line for line in told) == 1
    assert sum("answers again" in line for line in told) == 1


def test_malformed_arguments_of_a_tool_call_are_the_environment_s_to_report() -> None:
    for name, reason in (
        ("arguments that are no JSON", "bad_json"),
        ("arguments nested deeply", "bad_json"),
        ("NaN in arguments", "empty"),
    ):
        (operation,) = parse(ANSWERED[name][1], "tools")
        assert isinstance(operation, Invalid)
        assert (operation.kind, operation.reason) == ("create", reason)
    assert parse(ANSWERED["a tool call"][1], "tools") == [Create("a")]


@pytest.mark.parametrize("listed", ["{}", '{"data": 3}', '{"data": [{"id": 3}]}', '{"data": [3]}', DEEP, "<html>"])
def test_an_odd_list_of_models_is_tried_again_and_then_an_error(server: OpenAIServer, listed: str) -> None:
    good = Reply({"data": [{"id": "m", "max_model_len": True}]})
    server.answer = first(Reply(listed), good)
    model = OpenAIModel(server.url)
    asyncio.run(model.wait_until_ready())
    assert (model.name, model.context_limit) == ("m", None)
    server.answer = lambda request, number: Reply(listed)
    with pytest.raises(LanguageModelError, match="/v1"):
        asyncio.run(OpenAIModel(server.url).wait_until_ready())
    with pytest.raises(EmbedderError, match="/v1"):
        EndpointEmbedder(server.url, backoff=0.0)


@pytest.mark.parametrize("file", ["content_list", "choice_error", "200_error_body", "all_in_reasoning"])
def test_findings_2_1_to_2_3_the_replies_that_were_seen(server: OpenAIServer, file: str) -> None:
    seen = {
        "content_list": chat([part("thinking", thinking=[part("text", text="hmm")]), X]),
        "choice_error": chat("<create>half a fac", finish_reason="error", error={"code": 502, "message": "died"}),
        "200_error_body": refused("Provider returned error", code=502),
        "all_in_reasoning": chat(None, message={"reasoning_content": ANSWER}),
    }
    server.answer = first(seen[file], chat("<answer>second</answer>"))
    completion = complete(server)
    assert (completion.text, completion.reasoning, completion.tries) == {
        "content_list": (ANSWER, "hmm", 1),
        "choice_error": ("<answer>second</answer>", "", 2),
        "200_error_body": ("<answer>second</answer>", "", 2),
        "all_in_reasoning": ("", ANSWER, 1),
    }[file]
