"""What becomes of every kind of reply that a model's server may send: answered, tried again, or failed (SPEC A9)."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.evaluations import play, small_plan
from support.openai_server import OpenAIServer, Reply, Request, server

from atommem_gym.actions import Create, Invalid, parse
from atommem_gym.agents.players.language_model import Completion, Sampling
from atommem_gym.agents.players.llm_player import LanguageModelPlayer
from atommem_gym.agents.players.openai_model import OpenAIModel
from atommem_gym.agents.players.shortening import Shortener
from atommem_gym.chat_reply import ENDINGS, ending, read_chat
from atommem_gym.cli import FAILED, main
from atommem_gym.embedders.openai_embedder import EndpointEmbedder, read_embeddings
from atommem_gym.endpoints import ODD_TRIES, OddReplyError
from atommem_gym.errors import ContextLengthError, EmbedderError, LanguageModelError, ModelUnavailableError
from atommem_gym.evaluation.folder import read_run
from atommem_gym.testing import budget
from atommem_gym.traces import read_traces

__all__ = ["server"]

MESSAGES = [{"role": "user", "content": "Now."}]
DEEP = "[" * 200_000
DIGITS = "9" * 20_000
ANSWER = "<answer>x</answer>"


def choice(content: Any = ANSWER, **changes: Any) -> dict[str, Any]:
    """A choice; ``message`` adds to its message, the rest replaces its fields."""
    message = {"role": "assistant", "content": content, **changes.pop("message", {})}
    return {"index": 0, "message": message, "finish_reason": "stop", **changes}


def chat(content: Any = ANSWER, **changes: Any) -> Reply:
    usage = {"prompt_tokens": 12, "completion_tokens": 3}
    return Reply({"id": "c", "choices": [choice(content, **changes)], "usage": usage})


def call(name: Any = "create", arguments: Any = '{"text": "a"}', **changes: Any) -> Reply:
    calls = [{"type": "function", "function": {"name": name, "arguments": arguments}}]
    return chat(None, finish_reason="tool_calls", message={"tool_calls": calls}, **changes)


def with_calls(calls: Any) -> Reply:
    return chat(None, message={"tool_calls": calls})


def raw(text: str, old: str, new: str) -> Reply:
    """A good reply with another text in its JSON, for what no Python value can say."""
    body = json.dumps(chat(text).body)
    assert old in body
    return Reply(body.replace(old, new))


def refused(message: Any, status: int = 200, **details: Any) -> Reply:
    return Reply({"error": {"message": message, **details}}, status)


def part(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": kind, **fields}


X = part("text", text=ANSWER)
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


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atommem_gym.agents.players.openai_model._FIRST_WAIT", 0.001)
    monkeypatch.setattr("atommem_gym.agents.players.openai_model._LONGEST_WAIT", 0.002)
    monkeypatch.setattr("atommem_gym.endpoints.LONGEST_WAIT", 0.002)


def complete(server: OpenAIServer, patience: float = 60.0, **options: Any) -> Completion:
    async def asked() -> Completion:
        model = OpenAIModel(server.url, "m", patience=patience, **options)
        try:
            return await model.complete(MESSAGES, Sampling())
        finally:
            await model.aclose()

    return asyncio.run(asked())


def first(reply: Reply, then: Reply | None = None) -> Callable[[Request, int], Reply]:
    return lambda request, number: reply if number == 0 else then or chat()


def test_the_table_is_as_long_as_it_says() -> None:
    assert len(ANSWERED) + len(ODD) + len(WAITED_FOR) + len(REFUSED) >= 120


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


# Arbitrary shapes.

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**30, -5, 1e308, 1e-320])
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["text", "thinking", "stop", "error", "create", "{}", "[[", ANSWER, "429", "\ud800"])
)
names = st.sampled_from(
    [
        *(
            "type",
            "text",
            "thinking",
            "reasoning",
            "function",
            "name",
            "arguments",
            "error",
            "code",
            "message",
            "content",
        ),
        *("finish_reason", "choices", "data", "index", "embedding", "refusal", "tool_calls", "status", "object"),
    ]
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4), max_leaves=12
)
headers = st.sampled_from(
    [
        {},
        {"Content-Encoding": "gzip"},
        {"Content-Encoding": "br, deflate"},
        {"Content-Type": "text/html; charset=rot13"},
        {"Retry-After": "99999999999"},
        {"Retry-After": "-1"},
        {"Retry-After": "Wed, 99 Oct 2099"},
    ]
)
statuses = st.sampled_from([200] * 9 + [201, 302, 400, 401, 413, 422, 429, 500, 599, 999])


@st.composite
def changed(draw: st.DrawFn, good: Any) -> Any:
    """A good body in which some values, at any depth, are arbitrary."""
    body = json.loads(json.dumps(good))
    for _ in range(draw(st.integers(0, 3))):
        place, key = body, None
        for _ in range(draw(st.integers(1, 6))):
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            key = draw(st.sampled_from(keys + (draw(st.lists(names, max_size=1)) if isinstance(place, dict) else [])))
            inner = place[key] if isinstance(place, list) else place.get(key)
            if not isinstance(inner, (dict, list)) or not inner:
                break
            last, place = place, inner
        else:
            place = last
        place[key] = draw(values)
    return draw(st.sampled_from([body] * 9 + [draw(values)]))


def bodies(good: Any) -> st.SearchStrategy[Any]:
    return changed(good) | changed(good) | st.binary(max_size=40)


FULL = {
    "choices": [
        choice(
            [part("thinking", thinking=[part("text", text="hm")]), X],
            message={
                "reasoning_content": [part("text", text="h")],
                "refusal": None,
                "tool_calls": [{"type": "function", "function": {"name": "create", "arguments": '{"text": "a"}'}}],
            },
            stop_reason=None,
        )
    ],
    "usage": {"prompt_tokens": 12, "completion_tokens": 3},
}


@given(body=bodies(FULL), status=statuses, extra=headers)
@budget(200)
def test_finding_2_1_nothing_but_the_project_s_own_errors_leaves_complete(
    server: OpenAIServer, body: Any, status: int, extra: dict[str, str]
) -> None:
    server.answer = lambda request, number: Reply(body, status, dict(extra))
    try:
        # No second try, so that no Retry-After is waited for.
        completion = complete(server, patience=0.0)
    except LanguageModelError:
        return
    assert isinstance(completion.text, str)
    assert isinstance(completion.reasoning, str)
    assert completion.finish_reason in ("stop", "length", "tool_calls")
    assert completion.prompt_tokens >= 0 <= completion.completion_tokens
    parse(completion.text, "tools")
    if isinstance(body, dict):
        found = body["choices"][0]
        assert ending(found["finish_reason"])
        assert not body.get("error")
        assert not found.get("error")
        content = found["message"].get("content")
        assert content is None or isinstance(content, (str, list))
        assert not isinstance(content, str) or completion.text.startswith(content)


COUNTED = {
    *("stop", "length", "tool_calls", "function_call", "eos_token", "eos", "stop_sequence", "end_turn", "max_tokens"),
    *("model_context_window_exceeded", "tool_use", "model_length", "complete", "tool_call", "completed"),
}
"""All finish reasons with which a reply counts, written out a second time."""


@given(
    st.text(max_size=12)
    | st.sampled_from(sorted(COUNTED)).map(str.upper)
    | st.sampled_from(sorted(COUNTED)).flatmap(lambda one: st.sampled_from([one, one[:-1], f"{one} ", f"{one}s"]))
    | values
)
@budget(300)
def test_A9_only_a_stop_the_length_limit_or_a_tool_call_counts(reason: Any) -> None:
    body = {"choices": [choice("<create>half", finish_reason=reason)]}
    if isinstance(reason, str) and reason.lower() in COUNTED:
        assert read_chat(body).ended == ending(reason) in ("stop", "length", "tool_calls")
        return
    assert ending(reason) is None
    with pytest.raises(OddReplyError, match="finish_reason"):
        read_chat(body)


def test_A9_the_table_of_finish_reasons_is_the_one_that_is_meant() -> None:
    assert set(ENDINGS) == COUNTED
    assert {reason for reason, ended in ENDINGS.items() if ended == "length"} == {
        *("length", "max_tokens", "model_context_window_exceeded", "model_length")
    }


@pytest.mark.parametrize(
    ("reason", "ended"), [("max_tokens", "length"), ("END_TURN", "stop"), ("tool_use", "tool_calls")]
)
def test_A9_other_spellings_are_recorded_as_ours(server: OpenAIServer, reason: str, ended: str) -> None:
    server.answer = lambda request, number: chat(finish_reason=reason)
    assert complete(server).finish_reason == ended


@pytest.mark.parametrize("reason", ["error", "unknown", "", None])
def test_A9_a_player_acts_on_no_completion_of_any_model_that_was_not_ended_as_a_stop(reason: Any) -> None:
    class Broken:
        name = "broken"

        async def complete(self, *_: Any, **__: Any) -> Completion:
            return Completion("<create>half", 1, 1, 0.0, reason)

        async def aclose(self) -> None: ...

    import gymnasium as gym

    env = gym.make("AtomMem-Synthetic-v0", num_docs=4, store="numpy", disable_env_checker=True)
    observation, _ = env.reset(seed=0)
    player = LanguageModelPlayer("crud", Broken())
    player.reset(env.unwrapped.episode, 0)  # type: ignore[attr-defined]
    with pytest.raises(LanguageModelError, match="finish_reason"):
        asyncio.run(player.act(observation))
    assert player.usage.calls == 0
    env.close()


# Embeddings.


def vector(text: str) -> list[float]:
    return [float(len(text)), 1.0, -2.0]


def embedded(texts: list[str]) -> dict[str, Any]:
    return {"data": [{"index": i, "embedding": vector(text)} for i, text in enumerate(texts)]}


@given(bodies(embedded(["a", "bb"])), statuses, headers)
@budget(200)
def test_finding_2_1_nothing_but_the_project_s_own_errors_leaves_embed(
    server: OpenAIServer, body: Any, status: int, extra: dict[str, str]
) -> None:
    server.answer = lambda request, number: Reply(embedded(request.body["input"]))
    embedder = EndpointEmbedder(server.url, "e", tries=2, backoff=0.0)
    server.answer = lambda request, number: Reply(body, status, dict(extra))
    try:
        vectors = embedder.embed(["a", "bb"], "document")
    except EmbedderError:
        pass
    else:
        assert vectors.shape == (2, 3)
        assert all(abs(length - 1) < 1e-5 or not length for length in (vectors.astype(float) ** 2).sum(1))
        # Only a right body gets here, in whatever order; zero vectors stay what they are.
        assert [type(row["index"]) for row in body["data"]] == [int, int]
    finally:
        embedder.close()


@given(values)
@budget(300)
def test_a_reply_that_holds_no_embeddings_is_odd(body: Any) -> None:
    with pytest.raises(OddReplyError):
        read_embeddings(body, 2)


# Whole runs.

RUNS = {
    "content of a number": chat(3),
    "a string for tool_calls": with_calls("create"),
    "an error": chat("<create>half a fac", finish_reason="error"),
    "gzip that is none": ODD["gzip that is none"],
    "JSON nested deeply": ODD["JSON nested deeply"],
    "an error nested deeply": Reply(DEEP, 400),
    "a number of many digits": ODD["a number of many digits"],
    "an error inside 200": refused("no such thing"),
}


def lists_models(request: Request) -> Reply | None:
    return Reply({"data": [{"id": "m"}]}) if request.method == "GET" else None


@pytest.mark.parametrize("name", RUNS)
def test_finding_2_1_an_evaluation_with_one_odd_reply_among_many_ends_with_that_episode_in_its_failures(
    server: OpenAIServer, tmp_path: Path, name: str
) -> None:
    plan = small_plan(
        agents=["crud"], model={"url": server.url, "name": "m"}, docs=10, seeds=0, episodes=6, concurrency=3
    )
    server.answer = lambda request, number: lists_models(request) or chat("<create>a</create><answer>b</answer>")
    whole, _ = play(tmp_path / "whole", plan)
    questions = {trace.index: trace.questions[0].question for trace in read_traces(whole.path / "traces.jsonl")}
    bad, question = list(questions.items())[2]

    def answer(request: Request, number: int) -> Reply:
        asked = request.body["messages"][-1]["content"] if request.body else ""
        return (
            RUNS[name] if question in asked else lists_models(request) or chat("<create>a</create><answer>b</answer>")
        )

    server.answer = answer
    run, _ = play(tmp_path / "run", plan)
    assert [failure.index for failure in run.failures] == [bad]
    assert run.failures[0].error == "LanguageModelError"
    assert len(run.results) == 5
    assert len(read_run(run.path).results) == 5


def test_a_reply_of_lone_surrogates_is_recorded(server: OpenAIServer, tmp_path: Path) -> None:
    plan = small_plan(agents=["crud"], model={"url": server.url, "name": "m"}, docs=10, seeds=0, episodes=1)
    server.answer = lambda request, number: (
        lists_models(request)
        or chat("<create>a \ud800</create><answer>\udfff</answer>", message={"reasoning": "\ud800"})
    )
    run, _ = play(tmp_path / "run", plan)
    assert (len(run.results), run.failures) == (1, ())


class OddEmbeddings:
    """Embeds, but not one text; ``spoilt`` says what it answers then."""

    def __init__(self, spoilt: Reply) -> None:
        self.spoilt = spoilt
        self.bad = "\0"
        self.seen: list[str] = []

    def __call__(self, request: Request, number: int) -> Reply:
        if request.method == "GET":
            return Reply({"data": [{"id": "e"}]})
        self.seen += request.body["input"]
        odd = any(self.bad in text for text in request.body["input"])
        return self.spoilt if odd else Reply(embedded(request.body["input"]))


@pytest.mark.parametrize("spoilt", [Reply({"data": "x"}), Reply(DEEP), Reply("x", 200, {"Content-Encoding": "gzip"})])
def test_finding_2_1_an_evaluation_with_one_odd_embedding_ends_with_that_episode_in_its_failures(
    server: OpenAIServer, tmp_path: Path, spoilt: Reply
) -> None:
    server.answer = odd = OddEmbeddings(spoilt)
    settings = {"store": "numpy", "embedder": f"{server.url}#{tmp_path.name}"}
    plan = small_plan(agents=["keep_all"], docs=10, seeds=0, episodes=5, settings=settings, concurrency=1)
    whole, _ = play(tmp_path / "whole", plan)
    traces = list(read_traces(whole.path / "traces.jsonl"))
    odd.bad = traces[2].questions[0].question
    # A cached embedder would not ask for the same texts again.
    settings["embedder"] += "-again"
    run, _ = play(tmp_path / "run", small_plan(**{**plan_values(plan), "settings": settings}))
    assert [failure.error for failure in run.failures] == ["EmbedderError"]
    assert run.failures[0].index == traces[2].index
    assert len(run.results) == 4


def plan_values(plan: Any) -> dict[str, Any]:
    return {"agents": ["keep_all"], "docs": 10, "seeds": 0, "episodes": 5, "concurrency": 1}


def test_finding_2_1_a_run_with_one_odd_embedding_plays_the_other_episodes(
    server: OpenAIServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.answer = odd = OddEmbeddings(Reply({"data": [[]]}))
    arguments = ["run", "Synthetic", "--agent", "keep_all", "--episodes", "5", "--json", str(tmp_path / "r.json")]
    settings = ["--set", "store=numpy", "num_docs=10", "embedder="]
    assert main([*arguments, *settings[:-1], f"{settings[-1]}{server.url}#{tmp_path.name}"]) == 0
    queries = [text for text in odd.seen if text.endswith("?")]
    odd.bad = queries[2]
    assert main([*arguments, *settings[:-1], f"{settings[-1]}{server.url}#{tmp_path.name}-again"]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "1 of 5 episodes failed and count in no mean" in said
    assert "EmbedderError" in said
    written = json.loads((tmp_path / "r.json").read_text())
    assert (len(written["records"]), [one["error"] for one in written["failures"]]) == (4, ["EmbedderError"])
    odd.bad = ""
    assert main([*arguments, *settings[:-1], f"{settings[-1]}{server.url}#{tmp_path.name}-gone"]) == FAILED


@pytest.mark.parametrize("name", RUNS)
def test_finding_2_1_ask_says_what_is_odd_and_ends_without_a_traceback(
    server: OpenAIServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    server.answer = lambda request, number: lists_models(request) or RUNS[name]
    (tmp_path / "notes.txt").write_text("Piet Maas saved Ole Lind.")
    assert main(["ask", str(tmp_path / "notes.txt"), "-q", "Who?", "--model", server.url]) == FAILED
    assert "error: POST" in capsys.readouterr().err


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
