"""What servers say when a prompt is too long, each with where its words were found, and what only sounds like it."""

from __future__ import annotations

from typing import Any

from support.openai_server import Reply


def refused(message: Any, status: int = 400, **details: Any) -> Reply:
    """A refusal in OpenAI's form."""
    return Reply({"error": {"message": message, **details}}, status)


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
        9000,
        8192,
    ),
    "vLLM, prompt contains": (
        refused(
            "The prompt (total length 9000) is too long to fit into the model (context length 8192). Make sure that "
            "`max_model_len` is no smaller than the number of text tokens."
        ),
        9000,
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
    # vllm-project/vllm 0.11.0, vllm/entrypoints/openai/serving_engine.py and vllm/entrypoints/renderer.py
    "vLLM 0.11, input tokens": (
        refused(
            "This model's maximum context length is 8192 tokens. However, your request has 9000 input tokens. Please "
            "reduce the length of the input messages.",
            type="BadRequestError",
            code=400,
        ),
        9000,
        8192,
    ),
    "vLLM 0.11, embeddings": (
        refused(
            "This model's maximum context length is 512 tokens. However, you requested 900 tokens in the input for "
            "embedding generation. Please reduce the length of the input.",
            type="BadRequestError",
        ),
        900,
        512,
    ),
    "vLLM 0.11, scores": (
        refused(
            "This model's maximum context length is 512 tokens. However, you requested 900 tokens in the input for "
            "score. Please reduce the length of the input."
        ),
        900,
        512,
    ),
    # vllm-project/vllm 0.11.0, vllm/entrypoints/openai/serving_embedding.py
    "vLLM 0.11, embeddings in pieces": (
        refused(
            "This model's maximum embedding input length is 512 tokens. However, you requested 900 tokens in the input "
            "for embedding generation. Please reduce the length of the input or enable chunked processing."
        ),
        900,
        512,
    ),
    # vllm-project/vllm 0.11.0, vllm/v1/engine/processor.py
    "vLLM 0.11, decoder prompt": (
        refused(
            "The decoder prompt (length 9000) is longer than the maximum model length of 8192. Make sure that "
            "`max_model_len` is no smaller than the number of text tokens."
        ),
        9000,
        8192,
    ),
    "vLLM 0.11, decoder prompt with images": (
        refused(
            "The decoder prompt (length 9000) is longer than the maximum model length of 8192. Make sure that "
            "`max_model_len` is no smaller than the number of text tokens plus multimodal tokens. For image inputs, "
            "the number of image tokens depends on the number of images, and possibly their aspect ratios as well."
        ),
        9000,
        8192,
    ),
    # sgl-project/sglang 0.5.23, python/sglang/srt/managers/tokenizer_manager.py
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
    # sgl-project/sglang 0.5.23, python/sglang/srt/managers/utils.py and scheduler.py
    "SGLang 0.5, scheduler": (
        refused(
            "Input length (9000 tokens) exceeds the maximum allowed length (8186 tokens). Use a shorter input or "
            "enable --allow-auto-truncate."
        ),
        9000,
        8186,
    ),
    "SGLang 0.5, cache": (refused("Request prompt exceeds the KV memory budget: input_len=9000."), 9000, None),
    "SGLang 0.5, with images": (
        refused(
            "Multimodal prompt is too long after expanding multimodal tokens. After expanding "
            "len(req.origin_input_ids_unpadded)=700 => 9000 >= 8186."
        ),
        None,
        None,
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
    # huggingface/text-generation-inference db931fc (January 2026), router/src/validation.rs
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
    # huggingface/text-embeddings-inference 0d124dc (July 2026), core/src/tokenization.rs
    "TEI": (
        Reply({"error": "Input validation error: `inputs` must have less than 512 tokens. Given: 900"}, 413),
        900,
        512,
    ),
    "TEI, characters": (
        Reply({"error": "Input validation error: `inputs` must have less than 2048 characters. Given: 9000"}, 422),
        None,
        None,
    ),
    # ollama/ollama fb30760, server/routes.go and llm/llama_server.go; "Ollama, chat" from memory
    "Ollama, embeddings": (refused("the input length exceeds the context length"), None, None),
    "Ollama, embeddings, 500": (refused("the input length exceeds the context length", 500), None, None),
    "Ollama, chat": (refused("prompt too long; exceeded max context length by 4 tokens"), None, None),
    # ollama/ollama fb30760 (August 2026), llm/llama_server.go, server/routes.go, x/mlxrunner/pipeline.go
    "Ollama, llama server": (
        refused(
            "the prompt is longer than the context length currently available to the model; shorten the prompt, adjust "
            "the context length in settings, or use a model with a longer context length"
        ),
        None,
        None,
    ),
    "Ollama, after truncation": (refused("input after truncation exceeds maximum context length"), None, None),
    "Ollama, cannot be truncated": (
        refused("input exceeds maximum context length and cannot be truncated further", 500),
        None,
        None,
    ),
    "Ollama, MLX": (
        refused("input length (9000 tokens) exceeds the model's maximum context length (8192 tokens)", 500),
        9000,
        8192,
    ),
    # LM Studio, 0.3; from memory
    "LM Studio": (
        refused(
            "The number of tokens to keep from the initial prompt is greater than the context length. Try to load the "
            "model with a larger context length, or provide a shorter input"
        ),
        None,
        None,
    ),
    # BerriAI/litellm, litellm/litellm_core_utils/exception_mapping_utils.py; the whole sentences from memory
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
    # BerriAI/litellm 1.110.2, litellm/litellm_core_utils/exception_mapping_utils.py, which takes all these for it
    "LiteLLM, Cerebras": (
        refused(
            "litellm.ContextWindowExceededError: CerebrasException - Please reduce the length of the messages or "
            "completion. Current length is 9000 while limit is 8192"
        ),
        9000,
        8192,
    ),
    "LiteLLM, Cerebras alone": (refused("Current length is 9000 while limit is 8192"), 9000, 8192),
    "LiteLLM, maximum input length": (
        refused("The maximum input length is 8192 tokens, but the request has 9000 tokens."),
        9000,
        8192,
    ),
    "LiteLLM, input tokens": (refused("Input too long: 9000 input tokens, limit is 8192"), 9000, 8192),
    "LiteLLM, model's maximum context limit": (
        refused("The request exceeds the model's maximum context limit of 8192 tokens."),
        None,
        8192,
    ),
    "LiteLLM, Bedrock": (
        refused("Too many input tokens. Max input tokens: 8192, request input token count: 9000 "),
        9000,
        8192,
    ),
    "LiteLLM, Bedrock's Cohere": (
        refused(
            "Malformed input request: expected maxLength: 2048, actual: 9000, please reformat your input and try again."
        ),
        None,
        None,
    ),
    "LiteLLM, prompt length": (refused("prompt: length: 1..100000 is out of range"), None, None),
    "LiteLLM, VertexAI's payload": (refused("400 Request payload size exceeds the limit: 20000 bytes."), None, None),
    "LiteLLM, Replicate": (refused("input is too long"), None, None),
    "LiteLLM, Aleph Alpha": (refused("This is longer than the model's maximum context length"), None, None),
    "LiteLLM, AI21": (refused("Prompt has too many tokens"), None, None),
    "LiteLLM, NLP Cloud": (refused("Input text length should not exceed 1024 tokens."), None, 1024),
    "LiteLLM, a length limit": (refused("length limit exceeded"), None, None),
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
