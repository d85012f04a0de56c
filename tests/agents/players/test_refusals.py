"""What servers say when a prompt is too long, which parameters they refuse, and what the player makes of it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from support.agents.refusals import NOT_TOO_LONG, TOO_LONG, refused
from support.evaluations import play, small_plan
from support.openai_server import OpenAIServer, Reply, server

from atommem_gym.agents.players.language_model import Completion, Sampling
from atommem_gym.agents.players.openai_model import OpenAIModel
from atommem_gym.embedders.openai_embedder import EndpointEmbedder
from atommem_gym.errors import ContextLengthError, EmbedderError, LanguageModelError
from atommem_gym.evaluation.folder import read_run
from atommem_gym.evaluation.report import make_report
from atommem_gym.evaluation.results import EpisodeResult
from atommem_gym.refusals import Refusal, lengths, too_long

__all__ = ["server"]

MESSAGES = [{"role": "user", "content": "Now."}]
ANSWER = "<answer>x</answer>"
GOOD = Reply(
    {
        "choices": [{"message": {"content": ANSWER}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 12, "completion_tokens": 3},
    }
)


def complete(server: OpenAIServer, sampling: Sampling | None = None, **options: Any) -> Completion:
    async def asked() -> Completion:
        model = OpenAIModel(server.url, "m", **{"patience": 60.0, **options})
        try:
            return await model.complete(MESSAGES, sampling or Sampling())
        finally:
            await model.aclose()

    return asyncio.run(asked())


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atommem_gym.agents.players.openai_model._FIRST_WAIT", 0.001)
    monkeypatch.setattr("atommem_gym.agents.players.openai_model._LONGEST_WAIT", 0.002)
    monkeypatch.setattr("atommem_gym.endpoints.LONGEST_WAIT", 0.002)


@pytest.mark.parametrize("name", TOO_LONG)
def test_finding_2_4_a_prompt_too_long_is_understood_at_the_first_try(server: OpenAIServer, name: str) -> None:
    reply, prompt, limit = TOO_LONG[name]
    server.answer = lambda request, number: reply
    with pytest.raises(ContextLengthError) as caught:
        complete(server)
    assert (caught.value.prompt_tokens, caught.value.limit) == (prompt, limit)
    assert len(server.requests) == 1


@pytest.mark.parametrize("name", NOT_TOO_LONG)
def test_finding_2_4_other_refusals_are_not_taken_for_it(server: OpenAIServer, name: str) -> None:
    server.answer = lambda request, number: NOT_TOO_LONG[name]
    with pytest.raises(LanguageModelError) as caught:
        complete(server, patience=0.0)
    assert not isinstance(caught.value, ContextLengthError)


@pytest.mark.parametrize("name", ["llama.cpp, a batch", "Ollama, embeddings, 500", "TEI", "llama.cpp, 500 inside 200"])
def test_finding_2_4_an_embedding_server_is_not_asked_again_for_a_text_too_long(
    server: OpenAIServer, name: str
) -> None:
    server.answer = lambda request, number: TOO_LONG[name][0]
    with pytest.raises(EmbedderError, match="was refused with HTTP"):
        EndpointEmbedder(server.url, "m", backoff=0.0)
    assert len(server.requests) == 1


def test_finding_2_4_a_long_message_is_judged_in_no_time() -> None:
    for text in ("exceeds " * 60, "tokens " * 70, "context length " * 30, "max_tokens " * 40, "input " * 80):
        refusal = Refusal(500, text[:500], {})
        assert too_long(refusal) in (True, False)
        assert lengths(refusal) == (None, None)


MAX_COMPLETION_TOKENS = refused(
    "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
    type="invalid_request_error",
    param="max_tokens",
    code="unsupported_parameter",
)
NO_TEMPERATURE = refused(
    "Unsupported value: 'temperature' does not support 0.7 with this model. Only the default (1) value is supported.",
    param="temperature",
    code="unsupported_value",
)


def test_finding_2_6_parameters_that_a_model_does_not_take_are_learnt_once(
    server: OpenAIServer, caplog: pytest.LogCaptureFixture
) -> None:
    def answer(request: Any, number: int) -> Reply:
        if "max_tokens" in request.body:
            return MAX_COMPLETION_TOKENS
        return NO_TEMPERATURE if "temperature" in request.body else GOOD

    server.answer = answer

    async def asked() -> list[Completion]:
        model = OpenAIModel(server.url, "o9")
        try:
            first = [await model.complete(MESSAGES, Sampling(temperature=0.7, max_tokens=64)) for _ in range(2)]
            more = await asyncio.gather(*(model.complete(MESSAGES, Sampling(max_tokens=9)) for _ in range(4)))
            return [*first, *more]
        finally:
            await model.aclose()

    assert [one.text for one in asyncio.run(asked())] == [ANSWER] * 6
    assert len(server.requests) == 2 + 6, "two refusals, and no further one"
    assert [request.body.get("max_completion_tokens") for request in server.requests[2:]] == [64, 64, 9, 9, 9, 9]
    told = [record.message for record in caplog.records]
    assert sum("o9 does not take max_tokens; max_completion_tokens is sent instead" in line for line in told) == 1
    assert sum("o9 does not take temperature; it is not sent" in line for line in told) == 1


@pytest.mark.parametrize(
    ("message", "details", "left_out"),
    [
        ("Unsupported parameter: 'stop' is not supported with this model.", {"param": "stop"}, "stop"),
        ("Unrecognized request argument supplied: top_k", {}, "top_k"),
        ("Unknown parameter: 'top_k'.", {"param": "top_k"}, "top_k"),
        ("`temperature` is deprecated for this model.", {"type": "invalid_request_error"}, "temperature"),
        ("body.seed: Extra inputs are not permitted", {}, "seed"),
    ],
)
def test_finding_2_6_every_optional_parameter_may_be_refused(
    server: OpenAIServer, message: str, details: dict[str, Any], left_out: str
) -> None:
    server.answer = lambda request, number: refused(message, 400, **details) if left_out in request.body else GOOD
    sampling = Sampling(temperature=0.7, top_p=0.9, top_k=5, seed=1, stop=("</answer>",))
    assert complete(server, sampling).text == ANSWER
    first, second = server.requests
    assert first.body.keys() - second.body.keys() == {left_out}


def test_finding_2_6_what_the_user_asks_for_in_extra_body_is_refused_with_the_server_s_word(
    server: OpenAIServer,
) -> None:
    server.answer = lambda request, number: MAX_COMPLETION_TOKENS
    with pytest.raises(LanguageModelError, match="Unsupported parameter"):
        complete(server, extra_body={"max_tokens": 5})
    with pytest.raises(LanguageModelError, match="Unsupported parameter"):
        complete(server)
    assert len(server.requests) == 1 + 2, "a server that refuses what is not sent is not asked for ever"


def test_finding_2_5_replies_that_are_all_reasoning_are_a_line_in_the_report(
    server: OpenAIServer, tmp_path: Path
) -> None:
    message = {"role": "assistant", "content": None, "reasoning_content": ANSWER}
    reply = Reply({"choices": [{"message": message, "finish_reason": "stop"}]})
    models = Reply({"data": [{"id": "m"}]})
    server.answer = lambda request, number: models if request.method == "GET" else reply
    plan = small_plan(agents=[{"name": "crud"}], model={"url": server.url, "name": "m"})
    play(tmp_path / "run", plan)
    run = read_run(tmp_path / "run")
    steps = sum(result.steps for result in run.results)
    assert steps > 0
    lines = [line for line in make_report(run).warnings() if "everything into the reasoning" in line]
    assert [line.split()[1] for line in lines] == [str(steps)]
    row = run.results[0].to_values()
    del row["only_reasoning"]
    assert EpisodeResult.from_values(row).only_reasoning == 0, "a row of before"
