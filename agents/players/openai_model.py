"""A language model at an OpenAI-compatible server; calls survive a restart of the server."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
import tenacity

from atommem_gym.agents.players.language_model import (
    Completion,
    LanguageModel,
    Messages,
    Sampling,
    ToolSchemas,
    encodable,
)
from atommem_gym.agents.players.openai_reply import context_length_error, reply_text
from atommem_gym.chat_reply import ChatReply, read_chat
from atommem_gym.endpoints import (
    FAILED_EXCHANGE,
    REACHABLE,
    OddReplyError,
    Retries,
    TryAgainError,
    authorization,
    check_positive,
    http_url,
    jitter_of,
    json_of,
    odd_replies,
    shown,
    try_again,
)
from atommem_gym.errors import (
    ConfigError,
    LanguageModelError,
    ModelUnavailableError,
    check_integer,
    check_number,
    is_integer,
)
from atommem_gym.exchange import exchange, open_client
from atommem_gym.refusals import Refusal, unknown_parameter
from atommem_gym.trust import masked

logger = logging.getLogger(__name__)

STARTED_S = 20.0
"""Seconds within which a server must answer at the beginning, unless ``patience`` is given."""
_FIRST_WAIT = 0.5
_LONGEST_WAIT = 15.0
"""Seconds between two tries, at most: short, so that a server that is back is soon asked again. A server may ask for
more, up to ``endpoints.LONGEST_WAIT``."""
_NOT_THERE = (404, 405, 501)
_THINK = "<think>"
_MAX_TOKENS = "max_completion_tokens"
"""The name of ``max_tokens`` in newer hosted models."""
_OPTIONAL = ("temperature", "top_p", "top_k", "stop", "seed")
"""Parameters that are left out for a model that does not take them."""
_Read = TypeVar("_Read")
_REPEAT = " The episode is as it was: the same step may be repeated when the server is back"


class _UnknownParameterError(LanguageModelError):
    """The server refused a parameter of the request."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


@dataclass(slots=True)
class _Connections:
    """The connections of one event loop; they cannot be used on another."""

    loop: asyncio.AbstractEventLoop
    """The loop on which they were made."""
    client: httpx.AsyncClient
    """Holds the connections."""
    places: asyncio.Semaphore
    """One place for each request that may be under way."""


class OpenAIModel:
    """A model behind the chat completions API of vLLM, llama.cpp, SGLang, Ollama or a hosted service.

    Failed calls are repeated:

    - Connection errors, timeouts, HTTP 408, 409, 425, 429 and 5xx: with growing waits (or the server's
      ``Retry-After``), until ``patience`` seconds have passed since the first failure. So no call is lost when the
      server restarts.
    - A reply that cannot be read, or that did not end with a stop, at the length limit or with a tool call (SPEC A9):
      ``endpoints.ODD_TRIES`` times at most.
    - Other HTTP errors: never; they raise at once.

    A model that does not take ``max_tokens`` is sent ``max_completion_tokens``. One that does not take ``temperature``,
    ``top_p``, ``top_k``, ``stop`` or ``seed`` is asked without it. A line in the log says so once.

    Args:
        url: Base URL, such as ``http://localhost:8000/v1``.
        model: Name of the model at the server; by default the only one that the server lists, which the first call
            looks up.
        api_key: Sent as bearer token; by default the environment variable ``OPENAI_API_KEY``, which is sent only to
            a URL that the user has named, not to one that was read from a file (:mod:`atommem_gym.trust`).
        timeout: Seconds for one try, from connecting to the last byte; a long reply of a busy server takes minutes.
        patience: Seconds for which a failing call is repeated, waits included. A call ends within ``patience`` plus
            twice ``timeout``, once it has a place.
        concurrency: Requests under way at the same time, at most; further calls wait for a place.
        extra_body: Added to every request, such as ``{"chat_template_kwargs": {"enable_thinking": False}}``.
        opens_think: Set it to true if the chat template ends the prompt with ``<think>`` and the server leaves the
            reasoning in the text. Then ``<think>`` is put before every reply, so that operations inside reasoning are
            not executed. For another opening tag give that tag, such as ``"[THINK]"``.

    Raises:
        ConfigError: ``url`` is not an HTTP URL, or a number is out of range.
    """

    def __init__(
        self,
        url: str,
        model: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float = 600.0,
        patience: float = 900.0,
        concurrency: int = 256,
        extra_body: Mapping[str, Any] | None = None,
        opens_think: bool | str = False,
    ) -> None:
        http_url(url)
        check_positive(url, timeout=timeout)
        check_integer("concurrency", concurrency, 1)
        # It may be endless.
        check_number("patience", 0 if patience == math.inf else patience, of=f" of the server {masked(url)}")
        if not (extra_body is None or isinstance(extra_body, Mapping)):
            raise ConfigError(f"extra_body={extra_body!r} must be a dictionary, such as {{'min_p': 0.1}}, or None")
        if not isinstance(opens_think, (bool, str)):
            raise ConfigError(f"opens_think={opens_think!r} must be True, False, or the text that opens reasoning")
        self.url = masked(url.rstrip("/"))
        """The base URL for messages, with a password masked."""
        self._url = url.rstrip("/")
        self.name = model or ""
        self.context_limit: int | None = None
        """Tokens of prompt and reply together, set by :meth:`wait_until_ready`; ``None`` if the server does not say."""
        self._timeout = timeout
        self._patience = patience
        self._concurrency = concurrency
        self._extra_body = dict(extra_body or {})
        self._opened = f"{_THINK if opens_think is True else opens_think}\n" if opens_think else ""
        self._headers = authorization(url, api_key)
        self._connections: _Connections | None = None
        self._usage_missed = False
        self._failing = False
        self._odd_noted = False
        self._not_taken: set[str] = set()
        """Parameters that the model has refused; no further call sends them."""
        self._jitter = jitter_of(url)

    async def complete(self, messages: Messages, sampling: Sampling, *, tools: ToolSchemas = ()) -> Completion:
        """See :class:`~atommem_gym.agents.players.language_model.LanguageModel`."""
        started = time.perf_counter()
        if not self.name:
            await self.wait_until_ready()
        reply, tries = await self._completed(messages, sampling, tools)
        text = reply_text(reply, sampling.stop)
        prompt_tokens, completion_tokens = self._usage(reply)
        return Completion(
            text=self._opened + text,
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            seconds=time.perf_counter() - started,
            finish_reason=reply.ended,
            reasoning=reply.reasoning,
            tries=tries,
        )

    async def wait_until_ready(self, timeout: float | None = None) -> None:
        """Wait until the server answers and serves the model; also sets ``name`` and ``context_limit``.

        If a service has no list of models, a named model is assumed to be there.

        Args:
            timeout: Seconds to wait for an answer; by default ``patience``.

        Raises:
            ModelUnavailableError: the server did not answer in time.
            LanguageModelError: the server answers but does not serve the model, or serves several and none is named.
        """
        by_name, _ = await self._patiently(
            "GET", "/models", None, self._patience if timeout is None else timeout, _models_by_name
        )
        if not by_name:
            raise LanguageModelError(f"the server {self.url} lists no model; load one, or name one with model=…")
        if not self.name and len(by_name) > 1:
            raise LanguageModelError(
                f"the server {self.url} has {len(by_name)} models and none is named; name one with model=… "
                f"(--model-name): {_listed(by_name)}"
            )
        name = self.name or next(iter(by_name))
        if name not in by_name:
            raise LanguageModelError(f"the server {self.url} has no model {name!r}; it has {_listed(by_name)}")
        self.name = name
        limit = by_name[name].get("max_model_len")
        self.context_limit = limit if is_integer(limit) else None

    async def aclose(self) -> None:
        """Close all connections; a later call opens new ones."""
        connections, self._connections = self._connections, None
        if connections is not None and connections.loop is asyncio.get_running_loop():
            await connections.client.aclose()

    async def _completed(self, messages: Messages, sampling: Sampling, tools: ToolSchemas) -> tuple[ChatReply, int]:
        """The reply and its tries; a parameter that the model refuses is left out from then on."""
        while True:
            body = self._body(messages, sampling, tools)
            try:
                return await self._patiently("POST", "/chat/completions", body, self._patience, read_chat)
            except _UnknownParameterError as error:
                if error.name not in self._not_taken:
                    self._not_taken.add(error.name)
                    instead = f"{_MAX_TOKENS} is sent instead" if error.name == "max_tokens" else "it is not sent"
                    logger.warning("%s does not take %s; %s from now on", self.name, error.name, instead)

    def _body(self, messages: Messages, sampling: Sampling, tools: ToolSchemas) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.name,
            "messages": [{key: encodable(text) for key, text in message.items()} for message in messages],
            "temperature": sampling.temperature,
            "max_tokens": sampling.max_tokens,
        }
        # Only settings that differ from their defaults: hosted services refuse unknown parameters, such as top_k.
        if sampling.top_p != 1:
            body["top_p"] = sampling.top_p
        if sampling.top_k:
            body["top_k"] = sampling.top_k
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if sampling.seed is not None:
            body["seed"] = sampling.seed
        if tools:
            body["tools"] = [dict(tool) for tool in tools]
        if "max_tokens" in self._not_taken:
            body[_MAX_TOKENS] = body["max_tokens"]
        kept = {name: value for name, value in body.items() if name not in self._not_taken}
        return {**kept, **self._extra_body}

    def _explain(self, refusal: Refusal, body: Mapping[str, Any] | None) -> LanguageModelError | None:
        """The error for a prompt that is too long or a parameter that is not taken; ``None`` for other refusals."""
        too_long = context_length_error(refusal, self.name)
        sent = [name for name in ("max_tokens", *_OPTIONAL) if name in (body or {}) and name not in self._extra_body]
        unknown = None if too_long else unknown_parameter(refusal, sent)
        return _UnknownParameterError(unknown, refusal.message) if unknown else too_long

    async def _try(self, method: str, path: str, body: Mapping[str, Any] | None, seconds: float) -> Any:
        connections = self._connect()
        async with connections.places:
            try:
                response = await exchange(connections.client, method, self._url + path, body, seconds=seconds)
            except (httpx.LocalProtocolError, httpx.UnsupportedProtocol) as error:
                raise LanguageModelError(
                    f"{method} {self.url}{path} cannot be sent: {error}; check the URL and OPENAI_API_KEY"
                ) from error
            except FAILED_EXCHANGE as error:
                raise try_again(error) from error
        if method == "GET" and self.name and response.status_code in _NOT_THERE:
            return {"data": [{"id": self.name}]}
        return json_of(response, LanguageModelError, lambda refusal: self._explain(refusal, body))

    async def _patiently(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        patience: float,
        read: Callable[[Any], _Read],
    ) -> tuple[_Read, int]:
        """The reply to a request and its tries, repeated for ``patience`` seconds after the first failure."""
        retries = Retries(
            self._jitter,
            first_wait=_FIRST_WAIT,
            longest_wait=_LONGEST_WAIT,
            patience=patience,
            note=lambda failure: self._note(failure, patience),
        )

        async def attempt() -> _Read:
            # One try of a GET may take no longer than the whole wait for the server.
            seconds = self._timeout if method == "POST" or not patience else min(self._timeout, patience)
            return read(await self._try(method, path, body, seconds))

        try:
            reply: _Read = await tenacity.AsyncRetrying(**retries.settings)(attempt)
        except OddReplyError as error:
            raise LanguageModelError(odd_replies(f"{method} {self.url}{path}", retries.odd, error)) from error
        except TryAgainError as error:
            raise ModelUnavailableError(
                f"the server {self.url} gave no answer for {patience:.0f} seconds ({retries.tries} tries), last: "
                f"{error}. {REACHABLE}{_REPEAT if method == 'POST' else ''}"
            ) from error
        if self._failing:
            self._failing = False
            logger.warning("%s answers again", self.url)
        return reply, retries.tries + 1

    def _note(self, failure: TryAgainError, patience: float) -> None:
        """Log a failure once, not once for each of hundreds of calls under way."""
        if isinstance(failure, OddReplyError):
            if not self._odd_noted:
                self._odd_noted = True
                logger.warning(
                    "%s sent a reply that cannot be used (%s); such calls are tried again", self.url, failure
                )
        elif not self._failing:
            self._failing = True
            logger.warning("%s failed (%s); every call is tried again for %.0f seconds", self.url, failure, patience)

    def _connect(self) -> _Connections:
        loop = asyncio.get_running_loop()
        if self._connections is None or self._connections.loop is not loop:
            # The semaphore alone bounds them: waiting for a place is not a failure and takes no time from a try.
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=self._concurrency)
            client = open_client(self._headers, limits)
            self._connections = _Connections(loop, client, asyncio.Semaphore(self._concurrency))
        return self._connections

    def _usage(self, reply: ChatReply) -> tuple[int, int]:
        """Tokens of prompt and reply as the server reports them; 0 with one warning if it does not."""
        if None in (reply.prompt_tokens, reply.completion_tokens) and not self._usage_missed:
            self._usage_missed = True
            logger.warning("the server %s does not report its token usage; it is counted as 0", self.url)
        return reply.prompt_tokens or 0, reply.completion_tokens or 0


async def await_server(model: LanguageModel, options: Mapping[str, Any]) -> None:
    """Wait until the server of a model answers, before anything is played; a local model is ready once it is open.

    Nobody wants to watch ``patience`` with a server that was never started, so it holds here only if it was given.

    Args:
        model: The model.
        options: The options that the user gave for it.

    Raises:
        ModelUnavailableError: the server did not answer within ``STARTED_S`` seconds or the given ``patience``.
        LanguageModelError: it does not serve the model.
    """
    if not isinstance(model, OpenAIModel):
        return
    try:
        await model.wait_until_ready(options.get("patience", STARTED_S))
    except ModelUnavailableError as error:
        raise ModelUnavailableError(
            f"{error} Start it, or name another with --model. A server that takes long to start is waited for with "
            "--model-option patience=900"
        ) from error


def _listed(names: Iterable[str]) -> str:
    shown = [name[:100] for name in names]
    return ", ".join(shown[:50]) + (f" and {len(shown) - 50} more" if len(shown) > 50 else "")


def _models_by_name(listed: Any) -> dict[str, Mapping[str, Any]]:
    models = listed.get("data") if isinstance(listed, dict) else None
    if not isinstance(models, list) or not all(
        isinstance(model, dict) and isinstance(model.get("id"), str) for model in models
    ):
        raise OddReplyError(f"no list of models ({shown(listed)}); does the URL end in /v1?")
    return {model["id"]: model for model in models}
