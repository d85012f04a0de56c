"""Calls OpenAI-compatible servers with timeouts, retries and clear errors; embeddings and the judge stand on it."""

from __future__ import annotations

import os
import random
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx
import tenacity

from atommem_gym.errors import AtomMemError, ConfigError
from atommem_gym.trust import secret

LONGEST_WAIT = 60.0
"""Seconds between two tries at most, also when a server's ``Retry-After`` asks for more."""

_RETRIED_STATUS = frozenset({408, 409, 425, 429})
_Job = TypeVar("_Job")
_Result = TypeVar("_Result")


class TryAgainError(Exception):
    """A failure that another try may mend."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        """Say why, and how many seconds the server asks to wait."""
        super().__init__(reason)
        self.wait = wait


class Endpoint:
    """One OpenAI-compatible server: JSON out, JSON in, tried again while that may help.

    Connection errors, timeouts, HTTP 408, 409, 425, 429 and 5xx are tried again, after an exponentially growing wait
    with jitter or the server's ``Retry-After``; every other HTTP error raises at once with the server's message.
    It may be used by several threads at a time.
    """

    def __init__(
        self,
        url: str,
        error: type[AtomMemError],
        *,
        api_key: str | None = None,
        timeout: float = 60.0,
        tries: int = 5,
        backoff: float = 0.5,
        concurrency: int = 8,
    ) -> None:
        """Describe the server at ``url``; nothing is sent yet.

        Args:
            url: Base URL, such as ``http://localhost:8000/v1``.
            error: What to raise when a call fails for good.
            api_key: Sent as bearer token; by default the environment variable ``OPENAI_API_KEY``, if it is set and the
                URL is the user's own word (:mod:`atommem_gym.trust`).
            timeout: Seconds for one try to connect, and between two bytes of the answer.
            tries: How often a call is tried in all.
            backoff: Seconds to wait before the second try; doubled before each further one, up to ``LONGEST_WAIT``.
            concurrency: Requests under way at a time at most.

        Raises:
            ConfigError: ``url`` is no HTTP URL, or a number is out of range.
        """
        parsed = http_url(url)
        for name, value in (("timeout", timeout), ("tries", tries), ("concurrency", concurrency)):
            if value <= 0:
                raise ConfigError(f"{name}={value} of the server {url} must be positive")
        self.url = url.rstrip("/")
        self.concurrency = concurrency
        self._error = error
        self._tries = tries
        self._backoff = backoff
        key = secret("OPENAI_API_KEY", url) if api_key is None else api_key
        self._client = httpx.Client(
            base_url=parsed,
            timeout=timeout,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            limits=httpx.Limits(max_connections=concurrency),
        )
        # An endpoint that is never closed, such as a cached embedder's, must not leave sockets behind.
        self._finalizer = weakref.finalize(self, self._client.close)
        # Jitter must differ between processes, or all of them would knock again at the same moment.
        self._jitter = random.Random(f"{url} {os.getpid()}")

    def get(self, path: str) -> Any:
        """The JSON that ``GET url/path`` answers.

        Raises:
            AtomMemError: of the type given as ``error``, after the last try or at an answer that no retry mends.
        """
        return self._call("GET", path, None)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """The JSON that ``POST url/path`` answers to ``body``; raises as ``get`` does."""
        return self._call("POST", path, body)

    def map(self, function: Callable[[_Job], _Result], jobs: Sequence[_Job]) -> list[_Result]:
        """``function`` of every job, in order, ``concurrency`` of them at a time; the first failure is raised."""
        if len(jobs) <= 1:
            return [function(job) for job in jobs]
        with ThreadPoolExecutor(min(self.concurrency, len(jobs)), thread_name_prefix="endpoint") as pool:
            futures = [pool.submit(function, job) for job in jobs]
            try:
                return [future.result() for future in futures]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def close(self) -> None:
        """Close all connections."""
        self._finalizer()

    def _call(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(self._tries),
            wait=self._wait,
            retry=tenacity.retry_if_exception_type(TryAgainError),
            reraise=True,
        )
        try:
            return retrying(self._try, method, path, body)
        except TryAgainError as error:
            raise self._error(
                f"{method} {self.url}{path} failed {self._tries} times, last: {error}. "
                "Is the server running and reachable from here, and is the URL right?"
            ) from error

    def _wait(self, state: tenacity.RetryCallState) -> float:
        failure = state.outcome.exception() if state.outcome else None
        asked = failure.wait if isinstance(failure, TryAgainError) else 0.0
        growing = self._backoff * 2.0 ** (state.attempt_number - 1) * self._jitter.uniform(0.5, 1.5)
        return min(max(asked, growing), LONGEST_WAIT)

    def _try(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        try:
            response = self._client.request(method, path, json=body)
        except httpx.TransportError as error:
            raise TryAgainError(f"{type(error).__name__}: {error}") from error
        return json_of(response, self._error)


def json_of(response: httpx.Response, error: type[AtomMemError]) -> Any:
    """The JSON of an answer.

    Raises:
        TryAgainError: the server is busy or broken; another try may help.
        AtomMemError: of type ``error``: the request was refused, or the answer is no JSON.
    """
    where = f"{response.request.method} {response.request.url}"
    if response.status_code in _RETRIED_STATUS or response.status_code >= 500:
        raise TryAgainError(f"HTTP {response.status_code}: {server_message(response)}", _retry_after(response))
    if response.status_code >= 300:
        raise error(
            f"{where} was refused with HTTP {response.status_code}: {server_message(response)}. {_remedy(response)}"
        )
    try:
        return response.json()
    except ValueError as failure:
        raise error(
            f"{where} answered no JSON but {response.text[:200]!r}; "
            "is this an OpenAI-compatible server, and does its URL end in /v1?"
        ) from failure


def http_url(url: str) -> httpx.URL:
    """The URL, parsed.

    Raises:
        ConfigError: it is no HTTP URL.
    """
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ConfigError(f"{url!r} is no URL ({error}); write it as http://host:port/v1") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ConfigError(f"{url!r} is no HTTP URL; write it as http://host:port/v1")
    return parsed


def server_message(response: httpx.Response) -> str:
    """What the server says is wrong: the ``error.message`` of OpenAI's form, else the start of the body."""
    try:
        body = response.json()
    except ValueError:
        return response.text[:500] or "(empty answer)"
    error = body.get("error", body) if isinstance(body, dict) else body
    return str(error.get("message", error) if isinstance(error, dict) else error)[:500]


def _remedy(response: httpx.Response) -> str:
    status = response.status_code
    if status in (401, 403) and "authorization" not in response.request.headers:
        return (
            "No key was sent: set OPENAI_API_KEY to one that this server accepts, and where the URL comes from a file, "
            "name it on the command line too (--trust URL)"
        )
    if status in (401, 403):
        return "Set OPENAI_API_KEY to a key that this server accepts"
    if status == 404:
        return "Check the model's name, and that the URL ends in /v1"
    return "Check the server's limits and the model's name"


def _retry_after(response: httpx.Response) -> float:
    """Seconds that the server asks to wait, as a number or as a date; 0 if it does not say."""
    value = response.headers.get("retry-after", "").strip()
    if value.isdecimal():
        return float(value)
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    if date.tzinfo is None:
        date = date.replace(tzinfo=timezone.utc)
    return max(0.0, (date - datetime.now(timezone.utc)).total_seconds())
