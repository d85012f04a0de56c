"""What servers say when a prompt is too long, which parameters they refuse, and what the player makes of it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
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


def refused(message: Any, status: int = 400, **details: Any) -> Reply:
    return Reply({"error": {"message": message, **details}}, status)


def complete(server: OpenAIServer, sampling: Sampling | None = None, **options: Any) -> Completion:
    async def asked() -> Completion:
        model = OpenAIModel(server.url, "m", **{"patience": 60.0, **options})
        try:
            return await model.complete(MESSAGES, sampling or Sampling())
        finally:
            await model.aclose()

    return asyncio.run(asked())


TOO_LONG: dict[str, tuple[Reply, int | None, int | None]] = {
    # vllm-project/vllm, vllm/entrypoints/openai/serving_engine.py and its descendants, 0.4 to 0.11; from memory
    "vLLM, messages and completion": (
        refused(
            "This model's maximum context length is 4096 tokens. However, you requested 5120 tokens (4864 in the "
            "messages, 256 in the completion). Please reduce the length of the messages or completion.",
            code=400,
        ),
        4864,
        4096,
    ),
    "vLLM, messages alone": (
        refused(
            "This model's maximum context length is 4096 tokens. However, you requested 4864 tokens in the messages, "
            "Please reduce the length of the messages."
        ),
        4864,
        4096,
    ),
    "vLLM, max_tokens and input": (
        refused(
            "'max_tokens' or 'max_completion_tokens' is too large: 256. This model's maximum context length is 4096 "
            "tokens and your request has 4000 input tokens (256 > 4096 - 4000)."
        ),
        4000,
        4096,
    ),
    "vLLM, decoder prompt": (
        refused("The decoder prompt (length 9000) is longer than the maximum model length of 8192."),
        None,
        8192,
    ),
    "vLLM, prompt contains": (
        refused(
            "The prompt (total length 9000) is too long to fit into the model (context length 8192). Make sure that "
            "`max_model_len` is no smaller than the number of text tokens."
        ),
        None,
        8192,
    ),
    "vLLM, nothing left": (
        refused(
            "max_tokens must be at least 1, got -1860. (parameter=max_tokens, value=-1860)",
            type="BadRequestError",
            param="max_tokens",
            code=400,
        ),
        None,
        None,
    ),
    "vLLM, nothing left, with another name": (
        refused("max_completion_tokens must be at least 1, got -3."),
        None,
        None,
    ),
    # sgl-project/sglang, python/sglang/srt/managers/tokenizer_manager.py, 0.4; from memory
    "SGLang, input": (
        refused("The input (9000 tokens) is longer than the model's context length (8192 tokens).", code=400),
        9000,
        8192,
    ),
    "SGLang, total": (
        refused(
            "Requested token count exceeds the model's maximum context length of 8192 tokens. You requested a total "
            "of 9256 tokens: 9000 tokens from the input messages and 256 tokens for the completion. Please reduce the "
            "number of tokens in the input messages or the completion to fit within the limit."
        ),
        9000,
        8192,
    ),
    "SGLang, scheduler": (
        refused("Input length (9000 tokens) exceeds the maximum allowed length (8186 tokens). Use a shorter input."),
        9000,
        8186,
    ),
    # ggml-org/llama.cpp, tools/server, pull requests 15780 and 16486 (September, October 2025)
    "llama.cpp, 400": (
        refused(
            "the request exceeds the available context size. try increasing the context size or enable context shift",
            code=400,
            type="exceed_context_size_error",
            n_prompt_tokens=14429,
            n_ctx=8192,
        ),
        14429,
        8192,
    ),
    "llama.cpp, 500": (
        refused(
            "the request exceeds the available context size. try increasing the context size or enable context shift",
            500,
            code=500,
            type="exceed_context_size_error",
            n_prompt_tokens=1407,
            n_ctx=256,
        ),
        1407,
        256,
    ),
    "llama.cpp, 500 before the type": (
        refused("the request exceeds the available context size, try increasing it", 500, type="server_error"),
        None,
        None,
    ),
    "llama.cpp, tokens in the message": (
        refused("request (9000 tokens) exceeds the available context size (8192 tokens), try increasing it"),
        9000,
        8192,
    ),
    "llama.cpp, 500 inside 200": (
        refused("the request exceeds the available context size, try increasing it", 200, code=500),
        None,
        None,
    ),
    "llama.cpp, context shift": (
        refused("Context size has been exceeded.", 500, code=500, type="server_error"),
        None,
        None,
    ),
    "llama.cpp, a batch": (
        refused(
            "input (9000 tokens) is too large to process. increase the physical batch size (current batch size: 512)",
            500,
        ),
        9000,
        None,
    ),
    # abetlen/llama-cpp-python, llama_cpp/server/errors.py, 0.2
    "llama-cpp-python": (
        refused(
            "This model's maximum context length is 512 tokens. However, you requested 900 tokens (644 in the "
            "messages, 256 in the completion). Please reduce the length of the messages or completion.",
            type="invalid_request_error",
            code="context_length_exceeded",
        ),
        644,
        512,
    ),
    "llama-cpp-python, 500": (refused("Requested tokens (2285) exceed context window of 2048", 500), None, 2048),
    # huggingface/text-generation-inference, router/src/validation.rs, 3.0
    "TGI, input": (
        Reply(
            {
                "error": "Input validation error: `inputs` must have less than 4096 tokens. Given: 9000",
                "error_type": "validation",
            },
            422,
        ),
        9000,
        4096,
    ),
    "TGI, total": (
        Reply(
            {
                "error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 4000 "
                "`inputs` tokens and 256 `max_new_tokens`"
            },
            422,
        ),
        4000,
        4096,
    ),
    # huggingface/text-embeddings-inference, core/src/tokenization.rs, 1.8
    "TEI": (
        Reply({"error": "Input validation error: `inputs` must have less than 512 tokens. Given: 900"}, 413),
        900,
        512,
    ),
    # ollama/ollama, server/routes.go, 0.12; from memory
    "Ollama, embeddings": (refused("the input length exceeds the context length"), None, None),
    "Ollama, embeddings, 500": (refused("the input length exceeds the context length", 500), None, None),
    "Ollama, chat": (refused("prompt too long; exceeded max context length by 4 tokens"), None, None),
    # LM Studio, 0.3; from memory
    "LM Studio": (
        refused(
            "The number of tokens to keep from the initial prompt is greater than the context length. Try to load the "
            "model with a larger context length, or provide a shorter input"
        ),
        None,
        None,
    ),
    # BerriAI/litellm, litellm/litellm_core_utils/exception_mapping_utils.py, 1.7; from memory
    "LiteLLM": (
        refused(
            "litellm.ContextWindowExceededError: litellm.BadRequestError: ContextWindowExceededError: OpenAIException "
            "- This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens.",
            type=None,
            code="400",
        ),
        9001,
        8192,
    ),
    "LiteLLM, passed on as a fault of its own": (
        refused(
            "litellm.InternalServerError: OpenAIException - input is too long for the maximum context length of 8192",
            500,
        ),
        None,
        8192,
    ),
    # Hosted services; from memory, and from badlogic/pi-mono, packages/ai/src/utils/overflow.ts (a2dbd62)
    "OpenAI": (
        refused(
            "This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens. "
            "Please reduce the length of the messages.",
            type="invalid_request_error",
            param="messages",
            code="context_length_exceeded",
        ),
        9001,
        8192,
    ),
    "OpenAI, new models": (
        refused(
            "Your input exceeds the context window of this model. Please adjust your input and try again.",
            code="context_length_exceeded",
        ),
        None,
        None,
    ),
    "Azure, configured": (
        refused(
            "Input tokens exceed the configured limit of 272000 tokens. Your messages resulted in 509178 tokens. "
            "Please reduce the length of the messages."
        ),
        509178,
        272000,
    ),
    "Anthropic": (
        refused("prompt is too long: 213462 tokens > 200000 maximum", type="invalid_request_error"),
        213462,
        200000,
    ),
    "Anthropic, 413": (refused("Request exceeds the maximum size", 413, type="request_too_large"), None, None),
    "Anthropic, total": (
        refused("input length and `max_tokens` exceed context limit: 199000 + 8192 > 200000, decrease input length"),
        199000,
        200000,
    ),
    "Google": (
        refused("The input token count (1196265) exceeds the maximum number of tokens allowed (1048575)."),
        1196265,
        1048575,
    ),
    "xAI": (
        refused("This model's maximum prompt length is 131072 but the request contains 537812 tokens."),
        537812,
        131072,
    ),
    "Groq": (refused("Please reduce the length of the messages or completion."), None, None),
    "Mistral": (
        refused("Prompt contains 40000 tokens, too large for model with 32768 maximum context length", code="3051"),
        40000,
        32768,
    ),
    "Cohere": (
        refused("too many tokens: total number of tokens in the prompt exceeds limit of 4081 tokens"),
        None,
        4081,
    ),
    "Together": (
        refused("The input (516368 tokens) is longer than the model's context length (262144 tokens)."),
        516368,
        262144,
    ),
    "Copilot": (refused("prompt token count of 200000 exceeds the limit of 128000"), 200000, 128000),
    "OpenRouter": (
        refused(
            "This endpoint's maximum context length is 32768 tokens. However, you requested about 40000 tokens (39000 "
            "of text input, 1000 in the output). Please reduce the length of either one, or use the transform."
        ),
        39000,
        32768,
    ),
    "Moonshot": (
        refused("Invalid request: Your request exceeded model token limit: 131072 (requested: 150000)"),
        None,
        131072,
    ),
    "MiniMax": (refused("invalid params, context window exceeds limit"), None, None),
    "Alibaba": (
        refused("<400> InternalError.Algo.InvalidParameter: Range of input length should be [1, 30720]"),
        None,
        None,
    ),
    "Bedrock": (refused("Input is too long for requested model."), None, None),
    "Z.ai": (refused("Prompt exceeds max length", code="model_context_window_exceeded"), None, None),
    "a gateway": (Reply("<html>413 Request Entity Too Large</html>", 413), None, None),
    "maximum sequence length": (
        refused("The prompt of 9000 tokens is over the maximum sequence length of 8192."),
        9000,
        8192,
    ),
    "thousands with commas": (
        refused("prompt is too long: 213,462 tokens > 200,000 maximum"),
        213462,
        200000,
    ),
}
"""Refusals of a prompt that is too long, with its tokens and those of the context, as far as they are said."""

NOT_TOO_LONG: dict[str, Reply] = {
    "a wrong max_tokens of ours": refused("max_tokens must be at least 1, got 0."),
    "another parameter": refused("n must be at least 1, got -1."),
    "no memory for a context": refused("failed to allocate the context size of 131072", 500),
    "a model that cannot be loaded": refused("context window: cannot open shared memory", 503),
    "tokens a minute": refused(
        "Rate limit reached: tokens per min. Limit 30000, Requested 40000. prompt is too long", 429
    ),
    "an unknown model": refused("The model `context-length-7b` does not exist", 404),
    "a long name": refused("The tool's name is too long"),
    "a key": refused("the context length of your key", 401),
}


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
