"""Language models behind OpenAI-compatible servers: what is sent, what a reply means, and what survives a restart."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest
from support.openai_server import OpenAIServer, Reply, Request, server

from atommem_gym.actions import Answer, Create, Invalid, parse, tool_schemas
from atommem_gym.agents.players.language_model import Sampling, load_model
from atommem_gym.agents.players.openai_model import OpenAIModel
from atommem_gym.agents.players.openai_reply import reply_text
from atommem_gym.chat_reply import read_chat
from atommem_gym.errors import ConfigError, ContextLengthError, LanguageModelError, ModelUnavailableError

__all__ = ["server"]

MESSAGES = [{"role": "system", "content": "Act."}, {"role": "user", "content": "Now."}]


def chat(text: str | None = "done", **changes: Any) -> Reply:
    """A chat completion as vLLM writes it."""
    message = {"role": "assistant", "content": text, **changes.pop("message", {})}
    choice = {"index": 0, "message": message, "finish_reason": "stop", **changes.pop("choice", {})}
    usage = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}
    return Reply({"id": "c", "choices": [choice], "usage": usage, **changes})


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries follow one another at once; what is waited for is patience."""
    monkeypatch.setattr("atommem_gym.agents.players.openai_model._FIRST_WAIT", 0.01)
    monkeypatch.setattr("atommem_gym.agents.players.openai_model._LONGEST_WAIT", 0.05)


def complete(model: OpenAIModel, sampling: Sampling | None = None, **keywords: Any) -> Any:
    async def call() -> Any:
        try:
            return await model.complete(MESSAGES, sampling or Sampling(), **keywords)
        finally:
            await model.aclose()

    return asyncio.run(call())


def test_a_completion_has_text_usage_and_reason(server: OpenAIServer) -> None:
    server.answer = lambda request, number: chat("<create>a</create>", choice={"finish_reason": "length"})
    completion = complete(OpenAIModel(server.url, "m", api_key="secret"), Sampling(max_tokens=7))
    assert completion.text == "<create>a</create>"
    assert (completion.prompt_tokens, completion.completion_tokens) == (12, 3)
    assert (completion.finish_reason, completion.tries) == ("length", 1)
    assert completion.seconds > 0
    request = server.requests[0]
    assert request.path == "/v1/chat/completions"
    assert request.headers["authorization"] == "Bearer secret"
    assert request.body == {"model": "m", "messages": MESSAGES, "temperature": 0.0, "max_tokens": 7}


def test_only_settings_that_differ_from_their_defaults_are_sent(server: OpenAIServer) -> None:
    server.answer = lambda request, number: chat()
    model = OpenAIModel(server.url, "m", extra_body={"chat_template_kwargs": {"enable_thinking": False}})
    sampling = Sampling(temperature=0.6, top_p=0.95, top_k=20, max_tokens=9, stop=("</answer>",), seed=4)
    complete(model, sampling, tools=tool_schemas(["answer"]))
    body = server.requests[0].body
    assert {name: body[name] for name in ("temperature", "top_p", "top_k", "max_tokens", "stop", "seed")} == {
        "temperature": 0.6,
        "top_p": 0.95,
        "top_k": 20,
        "max_tokens": 9,
        "stop": ["</answer>"],
        "seed": 4,
    }
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    assert body["tools"][0]["function"]["name"] == "answer"


def test_reasoning_is_kept_apart_and_an_open_think_is_put_back(server: OpenAIServer) -> None:
    server.answer = lambda request, number: chat("<answer>a</answer>", message={"reasoning_content": "hm"})
    completion = complete(OpenAIModel(server.url, "m"))
    assert (completion.text, completion.reasoning) == ("<answer>a</answer>", "hm")
    # A reply that was cut off while reasoning: without the opening tag its drafts would be executed (SPEC A2).
    server.answer = lambda request, number: chat("maybe <create>draft</create>", choice={"finish_reason": "length"})
    assert parse(complete(OpenAIModel(server.url, "m")).text) == [Create("draft")]
    assert parse(complete(OpenAIModel(server.url, "m", opens_think=True)).text) == []
    assert parse(complete(OpenAIModel(server.url, "m", opens_think="[THINK]")).text) == []
    server.answer = lambda request, number: chat("maybe <create>draft</create></think><answer>a</answer>")
    assert parse(complete(OpenAIModel(server.url, "m", opens_think=True)).text) == [Answer("a")]


def test_A5_structured_tool_calls_become_the_text_of_the_tools_dialect(server: OpenAIServer) -> None:
    calls = [
        {"type": "function", "function": {"name": "create", "arguments": json.dumps({"text": "Zoë is 3"})}},
        {"type": "function", "function": {"name": "update", "arguments": '{"id": 3, "text": "b"}'}},
        {"type": "function", "function": {"name": "read", "arguments": "not json"}},
    ]
    server.answer = lambda request, number: chat(
        None, message={"tool_calls": calls}, choice={"finish_reason": "tool_calls"}
    )
    text = complete(OpenAIModel(server.url, "m")).text
    operations = parse(text, "tools")
    assert operations[0] == Create("Zoë is 3")
    assert operations[1].id == 3  # type: ignore[union-attr]
    assert isinstance(operations[2], Invalid)
    assert (operations[2].kind, operations[2].reason) == ("read", "bad_json")


@pytest.mark.parametrize(
    ("content", "reason", "expected"),
    [
        ("<answer>Ada", "</answer>", "<answer>Ada</answer>"),  # vLLM says which one
        ("<answer>Ada</answer>", "</answer>", "<answer>Ada</answer>"),  # include_stop_str_in_output
        ("<answer>Ada", None, "<answer>Ada</answer>"),  # others do not say
        ("<answer>Ada</answer> and", None, "<answer>Ada</answer> and"),
        ("done", None, "done"),
    ],
)
def test_a_stop_string_that_closes_a_tag_is_put_back(content: str, reason: str | None, expected: str) -> None:
    choice = {"message": {"content": content}, "finish_reason": "stop", "stop_reason": reason}
    assert reply_text(read_chat({"choices": [choice]}), ["</answer>", "###"]) == expected


def test_a_reply_that_was_cut_off_gets_no_stop_string() -> None:
    choice = {"message": {"content": "<answer>Ada"}, "finish_reason": "length"}
    assert reply_text(read_chat({"choices": [choice]}), ["</answer>"]) == "<answer>Ada"


@pytest.mark.parametrize(("reason", "closed"), [("stop_sequence", True), ("STOP", True), ("eos_token", False)])
def test_a_reply_whose_server_says_that_the_model_ended_it_gets_no_stop_string(reason: str, closed: bool) -> None:
    reply = read_chat({"choices": [{"message": {"content": "<answer>Ada"}, "finish_reason": reason}]})
    assert reply_text(reply, ["</answer>"]) == "<answer>Ada" + ("</answer>" if closed else "")


@pytest.mark.parametrize(
    ("message", "details", "prompt", "limit"),
    [
        (  # vLLM 0.27: it stops counting one token beyond its limit
            "This model's maximum context length is 8192 tokens. However, you requested 1024 output tokens and your "
            "prompt contains at least 7169 input tokens, for a total of at least 8193 tokens. Please reduce the length "
            "of the input prompt or the number of requested output tokens.",
            {"code": 400, "type": "BadRequestError", "param": "input_tokens"},
            None,
            8192,
        ),
        (
            "This model's maximum context length is 8192 tokens. However, you requested 1 output tokens and your "
            "prompt contains 999999 characters (more than 262112 characters, which is the upper bound for 8191 input "
            "tokens).",
            {},
            None,
            8192,
        ),
        ("Input length (9001) exceeds model's maximum context length (8192).", {}, 9001, 8192),
        (  # older vLLM
            "'max_tokens' or 'max_completion_tokens' is too large: 4096. This model's maximum context length is 8192 "
            "tokens and your request has 5000 input tokens (4096 > 8192 - 5000).",
            {},
            5000,
            8192,
        ),
        (
            "This model's maximum context length is 8192 tokens. However, your request has 9001 input tokens. Please "
            "reduce the length of the input messages.",
            {"code": 400, "type": "BadRequestError"},
            9001,
            8192,
        ),
        (  # OpenAI
            "This model's maximum context length is 4097 tokens. However, you requested 5120 tokens (4096 in the "
            "messages, 1024 in the completion). Please reduce the length of the messages or completion.",
            {"code": "context_length_exceeded"},
            4096,
            4097,
        ),
        (  # llama.cpp
            "the request exceeds the available context size, try increasing it",
            {"type": "exceed_context_size_error", "n_prompt_tokens": 6000, "n_ctx": 4096},
            6000,
            4096,
        ),
        (  # SGLang
            "Requested token count exceeds the model's maximum context length of 8192 tokens. You requested a total of "
            "9010 tokens: 8010 tokens from the input messages and 1000 tokens for the completion.",
            {},
            8010,
            8192,
        ),
        ("The input (9001 tokens) is longer than the model's context length (8192 tokens).", {}, 9001, 8192),
        ("Input is too long: exceeds the context window", {}, None, None),
    ],
)
def test_a_prompt_too_long_is_an_error_of_its_own_with_numbers(
    server: OpenAIServer,
    message: str,
    details: dict[str, Any],
    prompt: int | None,
    limit: int | None,
) -> None:
    server.answer = lambda request, number: Reply({"error": {"message": message, **details}}, 400)
    with pytest.raises(ContextLengthError, match="chunk_tokens") as caught:
        complete(OpenAIModel(server.url, "m"))
    assert (caught.value.prompt_tokens, caught.value.limit) == (prompt, limit)
    assert len(server.requests) == 1


@pytest.mark.parametrize(("status", "hint"), [(400, "limits"), (401, "OPENAI_API_KEY"), (404, "name")])
def test_what_no_retry_mends_raises_at_once(server: OpenAIServer, status: int, hint: str) -> None:
    server.answer = lambda request, number: Reply({"error": {"message": "no such thing"}}, status)
    with pytest.raises(LanguageModelError, match=f"no such thing.*{hint}"):
        complete(OpenAIModel(server.url, "m"))
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_what_a_retry_may_mend_is_tried_again(server: OpenAIServer, status: int) -> None:
    server.answer = lambda request, number: chat() if number == 2 else Reply({"error": {"message": "busy"}}, status)
    assert complete(OpenAIModel(server.url, "m")).tries == 3


@pytest.mark.parametrize("reply", [Reply("<html>"), Reply({"choices": []}), Reply([1]), Reply({"choices": [{}]})])
def test_a_reply_that_makes_no_sense_raises(server: OpenAIServer, reply: Reply) -> None:
    server.answer = lambda request, number: reply
    with pytest.raises(LanguageModelError, match="OpenAI-compatible"):
        complete(OpenAIModel(server.url, "m"))


def test_a_server_that_reports_no_usage_is_said_once(
    server: OpenAIServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server.answer = lambda request, number: chat(usage=None)
    model = OpenAIModel(server.url, "m")
    assert [complete(model).prompt_tokens for _ in range(2)] == [0, 0]
    assert [record.message for record in caplog.records if "usage" in record.message] == [
        f"the server {server.url} does not report its token usage; it is counted as 0"
    ]


def test_the_name_is_asked_for_if_none_is_given(server: OpenAIServer) -> None:
    listed = {"data": [{"id": "one", "max_model_len": 8192}]}
    server.answer = lambda request, number: Reply(listed) if request.method == "GET" else chat()
    model = OpenAIModel(server.url)
    complete(model)
    assert (model.name, model.context_limit) == ("one", 8192)
    assert server.asked("/v1/chat/completions")[0].body["model"] == "one"


def test_a_model_that_the_server_does_not_have_is_named_with_those_it_has(server: OpenAIServer) -> None:
    server.answer = lambda request, number: Reply({"data": [{"id": "one"}, {"id": "two"}]})
    with pytest.raises(LanguageModelError, match="no model 'three'; it has one, two"):
        asyncio.run(OpenAIModel(server.url, "three").wait_until_ready(1))


def test_a_service_without_a_list_is_believed_to_have_the_model_that_was_named(server: OpenAIServer) -> None:
    server.answer = lambda request, number: Reply({"error": {"message": "no such page"}}, 404)
    asyncio.run(OpenAIModel(server.url, "three").wait_until_ready(1))
    with pytest.raises(LanguageModelError, match="404"):
        asyncio.run(OpenAIModel(server.url).wait_until_ready(1))
    server.answer = lambda request, number: Reply({"error": {"message": "who are you?"}}, 401)
    with pytest.raises(LanguageModelError, match="OPENAI_API_KEY"):
        asyncio.run(OpenAIModel(server.url, "three").wait_until_ready(1))


def test_calls_under_way_are_bounded(server: OpenAIServer) -> None:
    server.answer = lambda request, number: chat()
    model = OpenAIModel(server.url, "m", concurrency=3)

    async def many() -> None:
        await asyncio.gather(*(model.complete(MESSAGES, Sampling()) for _ in range(30)))
        await model.aclose()

    asyncio.run(many())
    assert len(server.requests) == 30
    assert server.most_at_once <= 3


def test_a_model_can_be_used_in_one_event_loop_after_another(server: OpenAIServer) -> None:
    server.answer = lambda request, number: chat()
    model = OpenAIModel(server.url, "m")
    for _ in range(2):
        # Without closing it: the second loop gets connections of its own.
        asyncio.run(model.complete(MESSAGES, Sampling()))
    assert len(server.requests) == 2


def test_calls_survive_a_restart_of_the_server(caplog: pytest.LogCaptureFixture) -> None:
    """Hundreds of calls are under way when the server dies; it comes back on the same port, and none is lost."""
    first = OpenAIServer()
    port = int(first.url.split(":")[2].split("/")[0])
    died = asyncio.Event()

    async def scenario() -> tuple[list[Any], list[Request]]:
        loop = asyncio.get_running_loop()

        def answer(request: Request, number: int) -> Reply:
            if number == 20:
                loop.call_soon_threadsafe(died.set)
            # The first server never gets beyond 20 replies: the rest is under way when it dies.
            if number >= 20 and number % 2:
                raise ConnectionResetError("gone in the middle of a request")
            reply = chat(f"first {number}") if number < 20 else Reply({"error": {"message": "dying"}}, 503)
            reply.headers["Connection"] = "close"
            return reply

        first.answer = answer
        model = OpenAIModel(first.url, "m", concurrency=50, patience=60)
        calls = [asyncio.create_task(model.complete(MESSAGES, Sampling())) for _ in range(200)]
        await died.wait()
        await asyncio.to_thread(first.stop)
        await asyncio.sleep(0.2)
        second = await asyncio.to_thread(OpenAIServer, port)
        second.answer = lambda request, number: chat(f"second {number}")
        try:
            completions = await asyncio.gather(*calls)
        finally:
            await model.aclose()
            await asyncio.to_thread(second.stop)
        return completions, second.requests

    with caplog.at_level(logging.WARNING):
        completions, asked_again = asyncio.run(scenario())
    texts = {completion.text for completion in completions}
    assert len(completions) == 200
    assert sum(text.startswith("first") for text in texts) == 20
    assert len(asked_again) == 180
    assert any(completion.tries > 1 for completion in completions)
    # An outage is told when it begins, not 180 times; late replies of the first server may end it for a moment.
    assert 1 <= sum("tried again" in record.message for record in caplog.records) <= 18
    assert sum("answers again" in record.message for record in caplog.records) >= 1


def test_a_server_that_stays_away_raises_after_the_patience(server: OpenAIServer) -> None:
    server.answer = lambda request, number: Reply({"error": {"message": "loading"}}, 503)
    with pytest.raises(ModelUnavailableError, match=r"loading.*may be repeated"):
        complete(OpenAIModel(server.url, "m", patience=0.1))
    assert len(server.requests) > 1


def test_wrong_settings_raise_with_value_and_rule() -> None:
    with pytest.raises(ConfigError, match="temperature=-1"):
        Sampling(temperature=-1)
    with pytest.raises(ConfigError, match="stop="):
        Sampling(stop="</answer>")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="did you mean 'temperature'"):
        Sampling().with_values({"temprature": 1})
    with pytest.raises(ConfigError, match="concurrency=0"):
        OpenAIModel("http://127.0.0.1:1/v1", concurrency=0)
    with pytest.raises(ConfigError, match="unknown option 'patienc'"):
        load_model("http://127.0.0.1:1/v1", "m", patienc=3)
    with pytest.raises(ConfigError, match="is local"):
        load_model("folder", "m")


def test_lone_surrogates_do_not_break_a_request(server: OpenAIServer) -> None:
    server.answer = lambda request, number: chat()
    model = OpenAIModel(server.url, "m")
    asyncio.run(model.complete([{"role": "user", "content": "a\ud800b"}], Sampling()))
    assert server.requests[0].body["messages"][0]["content"] == "a\ufffdb"


def test_a_key_that_cannot_be_sent_raises_at_once(server: OpenAIServer) -> None:
    with pytest.raises(ConfigError, match="api_key"):
        OpenAIModel(server.url, "m", api_key="line\nbreak")
