"""The protocol of language models: messages in, one completion out, many calls at once."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Protocol, TypeAlias

from atommem_gym.endpoints import lacks_scheme
from atommem_gym.errors import ConfigError, check_integer, suggestion

Messages: TypeAlias = Sequence[Mapping[str, str]]
"""Chat messages, each with ``role`` and ``content``."""
ToolSchemas: TypeAlias = Sequence[Mapping[str, Any]]
"""OpenAI function schemas, as ``atommem_gym.actions.tool_schemas`` returns them."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a completion is sampled.

    >>> Sampling(temperature=0.7, stop=("</answer>",)).with_values({"max_tokens": 64}).max_tokens
    64

    Raises:
        ConfigError: a value is out of range.
    """

    temperature: float = 0.0
    """0 always takes the most probable token."""
    top_p: float = 1.0
    """Sample from the smallest set of tokens whose probabilities add up to this; 1: from all tokens."""
    top_k: int = 0
    """Sample from this many most probable tokens; 0: from all."""
    max_tokens: int = 1024
    """Tokens of the completion, at most."""
    stop: tuple[str, ...] = ()
    """The completion ends after the first of these strings, which stays in its text."""
    seed: int | None = None
    """The same seed, prompt and settings give the same completion, as far as the model's arithmetic allows."""

    def __post_init__(self) -> None:
        for name, value, low, high, rule in (
            ("temperature", self.temperature, 0, float("inf"), "a number of at least 0"),
            ("top_p", self.top_p, 1e-9, 1, "a number above 0 and at most 1"),
        ):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
                raise ConfigError(f"sampling: {name}={value!r} must be {rule}")
        check_integer("sampling: top_k", self.top_k, 0)
        check_integer("sampling: max_tokens", self.max_tokens, 1)
        stop: object = self.stop
        if not isinstance(stop, (list, tuple)) or not all(isinstance(text, str) and text for text in stop):
            raise ConfigError(f"sampling: stop={stop!r} must be a list of non-empty strings")
        if self.seed is not None:
            check_integer("sampling: seed", self.seed, or_else=" or None")
        object.__setattr__(self, "stop", tuple(self.stop))

    def with_values(self, values: Mapping[str, Any]) -> Sampling:
        """A copy with other values.

        Args:
            values: New values by the name of the setting, as in JSON or YAML (``stop`` may be a list).

        Raises:
            ConfigError: there is no such setting, or a value is out of range.
        """
        known = [field.name for field in fields(self)]
        for name in values:
            if name not in known:
                raise ConfigError(f"unknown sampling setting {name!r}; {suggestion(name, known)}")
        return replace(self, **values)

    def as_json(self) -> dict[str, Any]:
        """All settings as JSON values."""
        return {**asdict(self), "stop": list(self.stop)}


@dataclass(frozen=True, slots=True)
class Completion:
    """One reply of a model, with its cost."""

    text: str
    """The reply; reasoning is in it only if the model wrote it there (``<think>…</think>``, SPEC A2)."""
    prompt_tokens: int
    """Tokens of the prompt, counted by the model's own tokenizer; 0 if a server does not report them."""
    completion_tokens: int
    """Sampled tokens, reasoning and end-of-text included, counted by the model's own tokenizer; 0 if a server does not
    report them."""
    seconds: float
    """Seconds from the call to the reply, with the wait for a free place, failed tries and the waits between them."""
    finish_reason: str
    """``stop`` (the model ended, or a stop string), ``length`` (``max_tokens`` or the context were used up) or
    ``tool_calls``. A player acts on no completion that ended in another way (SPEC A9)."""
    reasoning: str = ""
    """Reasoning that a server with a reasoning parser returns apart from the text."""
    tries: int = 1
    """Requests that this reply took, failed ones included."""


class LanguageModel(Protocol):
    """Completes chat messages; any number of coroutines of one event loop may call it at the same time."""

    name: str
    """The model's name, for tables and traces."""

    async def complete(self, messages: Messages, sampling: Sampling, *, tools: ToolSchemas = ()) -> Completion:
        """The model's reply to these messages.

        Args:
            messages: The whole prompt.
            sampling: How the reply is sampled.
            tools: Function schemas for the model's own chat template; the model's calls come back as ``<tool_call>``
                text (SPEC A5).

        Raises:
            ContextLengthError: the prompt does not fit the context; some servers count ``max_tokens`` as well.
            ModelUnavailableError: the model's server has not answered for longer than its patience.
            LanguageModelError: the server refused the request, sent a reply that cannot be read, or ended the reply
                with an error, an abort or a filter.
        """
        ...

    async def aclose(self) -> None:
        """Release the model's connections or threads; calls under way fail. A second call does nothing."""
        ...


def encodable(text: str) -> str:
    """The text with lone surrogates replaced by U+FFFD, because no server or tokenizer can encode them."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def load_model(model: str, name: str | None = None, **options: Any) -> LanguageModel:
    """The language model at a URL, or a local one.

    Args:
        model: ``http://host:port/v1`` of an OpenAI-compatible server, or a folder or hub name for transformers.
        name: The model's name at the server; by default the only one that it serves. Not for local models.
        **options: Keyword arguments of :class:`~atommem_gym.agents.players.openai_model.OpenAIModel` or
            :class:`~atommem_gym.agents.players.transformers_model.TransformersModel`.

    Raises:
        ConfigError: an option is unknown or out of range, the URL has no scheme, there is no such local model, or a
            package is missing.
    """
    # Each kind imports its own dependencies here: a server's URL needs no torch.
    if model.startswith(("http://", "https://")):
        from atommem_gym.agents.players.openai_model import OpenAIModel

        _check_options(OpenAIModel, options)
        return OpenAIModel(model, name, **options)
    if lacks_scheme(model) and not os.path.lexists(model):
        raise ConfigError(f"the model {model!r} is a URL without a scheme; write http://{model}")
    if name is not None:
        raise ConfigError(f"model name {name!r} goes with a server's URL; the model {model!r} is local and has none")
    from atommem_gym.agents.players.transformers_model import TransformersModel

    _check_options(TransformersModel, options)
    return TransformersModel(model, **options)


def _check_options(kind: type[Any], options: Mapping[str, Any]) -> None:
    known = [name for name, parameter in inspect.signature(kind).parameters.items() if parameter.kind is _KEYWORD]
    unknown = [option for option in options if option not in known]
    if unknown:
        raise ConfigError(f"unknown option {unknown[0]!r} of {kind.__name__}; {suggestion(unknown[0], known)}")


_KEYWORD = inspect.Parameter.KEYWORD_ONLY
