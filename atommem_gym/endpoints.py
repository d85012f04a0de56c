"""Calls OpenAI-compatible servers with timeouts, retries and clear errors, for embedders, the judge and readers."""

from __future__ import annotations

import json
import math
import os
import random
import re
import reprlib
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx
import tenacity

from atommem_gym.errors import AtomMemError, ConfigError, check_number, is_integer
from atommem_gym.exchange import LARGEST_REPLY, BlockingClient, TooSlowError, UnreadableReplyError
from atommem_gym.files.strict_json import refuse_constant
from atommem_gym.refusals import Refusal, too_long
from atommem_gym.trust import MASK, checked_key, masked, secret

LONGEST_WAIT = 60.0
"""Most seconds between two tries, also if a server's ``Retry-After`` asks for more."""

ODD_TRIES = 5
"""Most unusable replies to one call; a temporary fault has passed by then, and any other will not."""

REACHABLE = "Is the server running and reachable from here, and is the URL right?"
"""The remedy in messages when no usable reply came."""

_RETRIED_STATUS = frozenset({408, 409, 425, 429})
_Job = TypeVar("_Job")
_Result = TypeVar("_Result")


class TryAgainError(Exception):
    """A failure after which another try may succeed."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        """Keep the reason, and the seconds that the server asks to wait."""
        super().__init__(reason)
        self.wait = wait


class OddReplyError(TryAgainError):
    """An unusable reply; the message says what came instead.

    Another try may bring a usable one; after ``ODD_TRIES`` of them the call fails.
    """


class Retries:
    """Decides when a call is tried again and when it fails: the same rule for all servers.

    After a :class:`TryAgainError` the call is tried again after an exponentially growing wait with
    jitter, or the server's ``Retry-After`` if that is longer, and at most ``LONGEST_WAIT``; after an unusable reply
    until ``ODD_TRIES`` have come. Tries also end after a number of tries or a time. One object serves one call.

    Args:
        jitter: The random generator of the jitter; one per server and process.
        first_wait: Seconds before the second try; doubled before each further one.
        longest_wait: The longest of these waits, in seconds.
        tries: Most tries in all; ``None``: no limit.
        patience: Most seconds since the first failure; ``None``: no limit. Waits end with it.
        note: Called with every failure.
    """

    def __init__(
        self,
        jitter: random.Random,
        *,
        first_wait: float,
        longest_wait: float = LONGEST_WAIT,
        tries: int | None = None,
        patience: float | None = None,
        note: Callable[[TryAgainError], None] = lambda failure: None,
    ) -> None:
        self.odd = 0
        """Unusable replies so far."""
        self.tries = 0
        """Failed tries so far."""
        self._jitter = jitter
        self._first_wait = first_wait
        self._longest_wait = longest_wait
        self._most = tries
        self._patience = patience
        self._note = note
        self._failing_since: float | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """Keyword arguments for ``tenacity.Retrying`` and ``tenacity.AsyncRetrying``."""
        again = tenacity.retry_if_exception_type(TryAgainError)
        # Tenacity calls "after" first.
        return {"after": self._failed, "wait": self._wait, "stop": self._give_up, "retry": again, "reraise": True}

    def _failed(self, state: tenacity.RetryCallState) -> None:
        failure = _failure_of(state)
        self.tries += 1
        self.odd += isinstance(failure, OddReplyError)
        if self._failing_since is None:
            self._failing_since = time.monotonic()
        self._note(failure)

    def _give_up(self, state: tenacity.RetryCallState) -> bool:
        return self.odd >= ODD_TRIES or self.tries == self._most or self._left() <= 0

    def _wait(self, state: tenacity.RetryCallState) -> float:
        growing = min(self._first_wait * 2.0 ** min(self.tries - 1, 30), self._longest_wait)
        asked = min(_failure_of(state).wait, LONGEST_WAIT)
        return min(max(asked, growing * self._jitter.uniform(0.5, 1.0)), self._left())

    def _left(self) -> float:
        """Seconds of patience that are left."""
        if self._patience is None or self._failing_since is None:
            return math.inf
        return max(0.0, self._failing_since + self._patience - time.monotonic())


def _failure_of(state: tenacity.RetryCallState) -> TryAgainError:
    failure = state.outcome.exception() if state.outcome else None
    assert isinstance(failure, TryAgainError)
    return failure


class Endpoint:
    """One OpenAI-compatible server: sends and receives JSON, with retries where they may help.

    Connection errors, timeouts, HTTP 408, 409, 425, 429 and 5xx are tried again, after an exponentially growing wait
    with jitter or the server's ``Retry-After``; so are unusable replies, until ``ODD_TRIES`` have come. Any other HTTP
    error raises at once with the server's message. It may be used by several threads at a time.
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
        largest: int = LARGEST_REPLY,
        explain: Callable[[Refusal], AtomMemError | None] = lambda refusal: None,
    ) -> None:
        """Describe the server at ``url``; nothing is sent yet.

        Args:
            url: Base URL, for example ``http://localhost:8000/v1``.
            error: The type of error to raise when a call fails.
            api_key: The bearer token; by default the environment variable ``OPENAI_API_KEY``, if it is set and the
                user named the URL (:mod:`atommem_gym.trust`).
            timeout: Seconds per try, from connecting to the last byte of the reply.
            tries: Most tries per call. So a call ends within ``tries`` times ``timeout`` and as many waits of
                at most ``LONGEST_WAIT``.
            backoff: Seconds to wait before the second try; doubled before each further one, up to ``LONGEST_WAIT``.
            concurrency: Most requests at a time.
            largest: Most bytes of a reply, also after inflation.
            explain: A better error for a refusal, if it knows one.

        Raises:
            ConfigError: ``url`` is not an HTTP URL, or a number is out of range.
        """
        http_url(url)
        check_positive(url, timeout=timeout, tries=tries, concurrency=concurrency)
        self.url = masked(url.rstrip("/"))
        """The URL for messages, with user and password masked."""
        self._url = url.rstrip("/")
        self.concurrency = concurrency
        self._error = error
        self._tries = tries
        self._backoff = backoff
        self._timeout = timeout
        self._largest = largest
        self._explain = explain
        self._client = BlockingClient(headers=authorization(url, api_key), connections=concurrency)
        self._jitter = jitter_of(url)

    def get(self, path: str, read: Callable[[Any], _Result]) -> _Result:
        """Send ``GET url/path`` and return what ``read`` makes of the JSON reply.

        Args:
            path: The path, which begins with a slash.
            read: Converts the reply, or raises ``OddReplyError`` if it is unusable; the request is then sent again.

        Raises:
            AtomMemError: an error of the type ``error``, after the last try or after a refusal.
        """
        return self._call("GET", path, None, read)

    def post(
        self,
        path: str,
        body: dict[str, Any],
        read: Callable[[Any], _Result],
        note: Callable[[TryAgainError], None] = lambda failure: None,
    ) -> _Result:
        """Send ``POST url/path`` and return what ``read`` makes of the JSON reply.

        Args:
            path: The path, which begins with a slash.
            body: The body, sent as JSON.
            read: As in :meth:`get`.
            note: Called with every failed try.

        Raises:
            AtomMemError: as in :meth:`get`.
        """
        return self._call("POST", path, body, read, note)

    def map(self, function: Callable[[_Job], _Result], jobs: Sequence[_Job]) -> list[_Result]:
        """Call ``function`` with each job, ``concurrency`` at a time; results are in order, a failure is raised."""
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
        self._client.close()

    def _call(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None,
        read: Callable[[Any], _Result],
        note: Callable[[TryAgainError], None] = lambda failure: None,
    ) -> _Result:
        retries = Retries(self._jitter, first_wait=self._backoff, tries=self._tries, note=note)
        try:
            return tenacity.Retrying(**retries.settings)(lambda: read(self._try(method, path, body)))
        except OddReplyError as error:
            raise self._error(odd_replies(f"{method} {self.url}{path}", retries.odd, error)) from error
        except TryAgainError as error:
            raise self._error(
                f"{method} {self.url}{path} failed {self._tries} times, last: {error}. {REACHABLE}"
            ) from error

    def _try(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        try:
            response = self._client.request(
                method, self._url + path, body, seconds=self._timeout, largest=self._largest
            )
        except FAILED_EXCHANGE as error:
            raise try_again(error) from error
        return json_of(response, self._error, self._explain)


def check_positive(url: str, **numbers: float) -> None:
    """Check that settings of a server are positive.

    Raises:
        ConfigError: one of them is no number above 0.
    """
    for name, value in numbers.items():
        check_number(name, value, above=True, of=f" of the server {masked(url)}")


def authorization(url: str, api_key: str | None) -> dict[str, str]:
    """The authorization header of requests to a server; empty if there is no key.

    Args:
        url: The server.
        api_key: The key; ``None``: ``OPENAI_API_KEY``, if the user named the URL.

    Raises:
        ConfigError: the key cannot be sent.
    """
    key = secret("OPENAI_API_KEY", url) if api_key is None else checked_key(api_key, "api_key")
    return {"Authorization": f"Bearer {key}"} if key else {}


def jitter_of(url: str) -> random.Random:
    """The generator of waits; it differs between processes, so that they do not all try again at the same moment."""
    return random.Random(f"{url} {os.getpid()}")


def json_of(
    response: httpx.Response,
    error: type[AtomMemError],
    explain: Callable[[Refusal], AtomMemError | None] = lambda refusal: None,
) -> Any:
    """Decode the JSON of a reply.

    An error in the body of a reply with status 200 counts as the status that it names (as gateways pass on the status
    of the server behind them).

    Args:
        response: The reply, read to its end.
        error: The type of error to raise if another try would not help.
        explain: A better error for a refusal, if it knows one.

    Raises:
        OddReplyError: the reply is not JSON, or an error without a status.
        TryAgainError: the server is busy or broken; another try may help.
        AtomMemError: the request was refused; an error of the type ``error``, or the one of ``explain``.
    """
    body, fault = None, ""
    try:
        body = decoded(response.content)
    except ValueError as failure:
        fault = str(failure)
    refusal = _refusal(response, body, fault)
    if refusal is None:
        if fault:
            raise OddReplyError(
                f"no JSON but {_start(response)!r} ({fault}); "
                "is this an OpenAI-compatible server, and does its URL end in /v1?"
            )
        return body
    explained = explain(refusal)
    if explained is not None:
        raise explained
    status = refusal.status
    if status is None and not too_long(refusal):
        raise OddReplyError(f"HTTP {response.status_code} with an error that names no status: {refusal.message}")
    status = status or 400
    inside = "" if status == response.status_code else f" inside a reply with HTTP {response.status_code}"
    # A prompt that is too long stays so, also if llama.cpp reports it as a server error (500).
    if (status in _RETRIED_STATUS or status >= 500) and not too_long(refusal):
        raise TryAgainError(f"HTTP {status}{inside}: {refusal.message}", _retry_after(response))
    where = f"{response.request.method} {masked(str(response.request.url))}"
    refused = error(
        f"{where} was refused with HTTP {status}{inside}: {refusal.message}. {_remedy(status, response.request)}"
    )
    refused.refused = status
    raise refused


def decoded(text: str | bytes) -> Any:
    """Decode an untrusted JSON text.

    Raises:
        ValueError: it is not standard JSON: not UTF-8, with ``NaN`` or ``Infinity``, with a number of more digits or
            nested more deeply than Python reads, or not JSON at all.
    """
    try:
        return json.loads(text.decode("utf-8-sig") if isinstance(text, bytes) else text, parse_constant=refuse_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def shown(value: object) -> str:
    """The beginning of a decoded value for a message; it may be long, deep or large."""
    return _SHORT.repr(value)[:300]


FAILED_EXCHANGE = (httpx.RequestError, TooSlowError, UnreadableReplyError)
"""The errors of :func:`~atommem_gym.exchange.exchange`."""


def try_again(error: Exception) -> TryAgainError:
    """Convert the error of an exchange to a :class:`TryAgainError`.

    It is an :class:`OddReplyError` if a reply came that is too large or cannot be decoded.
    """
    why = f"{type(error).__name__}: {error}"
    if isinstance(error, (httpx.TransportError, TooSlowError)):
        return TryAgainError(why)
    return OddReplyError(f"one that cannot be read ({why})")


def odd_replies(where: str, count: int, last: OddReplyError) -> str:
    """The message of a call that got ``count`` unusable replies and no other."""
    return f"{where} sent {count} {'reply' if count == 1 else 'replies'} that cannot be used, the last one: {last}"


def http_url(url: str) -> httpx.URL:
    """Parse and check a URL.

    Raises:
        ConfigError: it is not an HTTP URL, or its password is masked.
    """
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError) as error:
        raise ConfigError(
            f"{masked(str(url))!r} is not a URL ({masked(str(error))}); write it as http://host:port/v1"
        ) from None
    if lacks_scheme(url):
        raise ConfigError(f"{masked(url)!r} is a URL without a scheme; write http://{masked(url)}")
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ConfigError(f"{masked(url)!r} is not an HTTP URL; write it as http://host:port/v1")
    if parsed.userinfo == MASK.encode():
        raise ConfigError(f"the password of {url!r} was not written down; name the URL with its password again")
    return parsed


def lacks_scheme(text: str) -> bool:
    """Whether a text that should be a URL, or the name of a model, is a URL without ``http://``.

    >>> [lacks_scheme(text) for text in ("localhost:8101/v1", "10.0.0.7:80", "gpu.example.org/v1", "localhost")]
    [True, True, True, True]
    >>> [lacks_scheme(text) for text in ("http://localhost:8101/v1", "Qwen/Qwen3-0.6B", "models/v1", "qwen3:8b")]
    [False, False, False, False]
    """
    return bool(_NO_SCHEME.fullmatch(text))


_NO_SCHEME = re.compile(
    r"(?:localhost|\[[0-9a-f:]+\]|\d{1,3}(?:\.\d{1,3}){3})(?::\d+)?(?:/.*)?|[a-z0-9.-]+:\d{2,5}(?:/.*)?|"
    r"[a-z0-9-]+(?:\.[a-z0-9-]+)+/(?:.*/)?v\d+/?",
    re.IGNORECASE,
)


def _refusal(response: httpx.Response, body: Any, fault: str) -> Refusal | None:
    """The error that a reply reports; ``None`` if it reports none."""
    error = body.get("error", body) if isinstance(body, dict) else body
    details: Mapping[str, Any] = error if isinstance(error, dict) else {}
    said = details.get("message", error)
    message = said[:500] if isinstance(said, str) else shown(said)
    if response.status_code >= 300:
        return Refusal(response.status_code, (_start(response) or "(empty answer)") if fault else message, details)
    # An older form of vLLM and FastChat is an error without a field of that name.
    if not isinstance(body, dict) or not (body.get("error") or body.get("object") == "error"):
        return None
    codes = [fields.get(name) for fields in (details, body) for name in ("code", "status")]
    return Refusal(next((status for code in codes if (status := _error_status(code))), None), message, details)


def _error_status(code: object) -> int | None:
    """The HTTP error status in a code; ``None`` for any other code."""
    if isinstance(code, str) and len(code) == 3 and code.isascii() and code.isdecimal():
        code = int(code)
    return code if is_integer(code) and 400 <= code <= 599 else None


def _start(response: httpx.Response) -> str:
    # Not response.text, which trusts the charset that the server names.
    return response.content[:500].decode(errors="replace")[:200]


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 200


def _remedy(status: int, request: httpx.Request) -> str:
    if status in (401, 403) and "authorization" not in request.headers:
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
    """Seconds that the server asks to wait, given as a number or a date; 0 if it does not say."""
    value = response.headers.get("retry-after", "").strip()
    if value.isdecimal():
        seconds = float(value)
        return seconds if math.isfinite(seconds) else 0.0
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return 0.0
    if date.tzinfo is None:
        date = date.replace(tzinfo=timezone.utc)
    return max(0.0, (date - datetime.now(timezone.utc)).total_seconds())
