"""Decides whether a name comes from the user or only from a file, which may come from a stranger.

A plan, a trace and a kept database name servers, folders, templates and functions. Opening somebody's file must not
send a key to a server, read a folder or run a function only because the file says so. One rule for all: names in the
program's code or on the command line of this call come from the user, names only in a file do not. If the user means
such a name, it is repeated on the command line: where it belongs (``--set embedder=URL``), or with ``--trust``.

So secrets are read from environment variables only here, for one URL at a time, and
:func:`reaches_out` tells which values in a trace would open or call something.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from atommem_gym.errors import ConfigError

logger = logging.getLogger(__name__)

_ATTRIBUTE = re.compile(r"[^\W\d][\w.]*:[^\W\d][\w.]*")


@dataclass(frozen=True, slots=True)
class _Said:
    """What the user named in this call."""

    values: frozenset[str]
    modules: frozenset[str]


_said: _Said | None = None
"""``None`` without a command line, when the program's own code names everything. Not a context variable, since
environments are made in other threads, where nothing may be trusted by mistake."""
_withheld: set[tuple[str, str]] = set()


BASE_URL = "OPENAI_BASE_URL"
"""The environment variable that names a model's server if the command line names none."""


def base_url() -> str | None:
    """The URL of a model's server from the environment, stripped; ``None`` if it is not set."""
    return os.environ.get(BASE_URL, "").strip() or None


@contextlib.contextmanager
def command_line(arguments: Sequence[str], imports: Sequence[str] = ()) -> Iterator[None]:
    """Within the context, only names in these arguments come from the user.

    Args:
        arguments: The arguments as typed; values in ``--option=value`` and ``KEY=VALUE``, and each of ``V,V``, too.
        imports: Modules that the user has imported.
    """
    global _said
    # Names in the user's environment variables come from the user, too.
    judge, server = os.environ.get("ATOMMEM_JUDGE_URL", ""), base_url() or ""
    texts = [text for argument in arguments for text in _parts(argument)]
    modules = {text.partition(":")[0] for text in texts if _ATTRIBUTE.fullmatch(text)}
    before, _said = (
        _said,
        _Said(frozenset(_canonical(text) for text in (*texts, judge, server) if text), frozenset({*imports, *modules})),
    )
    try:
        yield
    finally:
        _said = before
        _withheld.clear()


def on_command_line() -> bool:
    """Whether a command runs, so that remedies are options and not Python."""
    return _said is not None


def is_said(value: str) -> bool:
    """Whether the command line names a URL, path or other value; ``False`` without a command line.

    >>> with command_line(["--set", "embedder=http://localhost:8000/v1/"]):
    ...     is_said("http://localhost:8000/v1#bge"), is_said("http://localhost:8001/v1")
    (True, False)
    """
    return _said is not None and _canonical(value) in _said.values


def names_attribute(value: object) -> bool:
    """Whether a value is written ``package.module:name``, so that using it imports code.

    >>> [names_attribute(value) for value in ("my.rewards:strict", "my.rewards:", "http://h:80/v1", "localhost:80", 3)]
    [True, False, False, False, False]
    """
    return isinstance(value, str) and _ATTRIBUTE.fullmatch(value) is not None


def is_module_said(module: str) -> bool:
    """Whether the command line names a module, by ``--import`` or ``module:name``; ``False`` without a command line.

    >>> with command_line(["--agent", "mine:Agent"], imports=["tasks"]):
    ...     [is_module_said(module) for module in ("mine", "tasks", "others")]
    [True, True, False]
    """
    return _said is not None and module in _said.modules


def said_modules() -> frozenset[str]:
    """All modules that the command line names; none without a command line."""
    return frozenset() if _said is None else _said.modules


def checked_key(key: str, where: str) -> str:
    r"""Check a key and return it stripped. No error shows it.

    >>> checked_key(" sk-1\r\n", "OPENAI_API_KEY")
    'sk-1'

    Args:
        key: The key as given.
        where: Where it comes from, for the message.

    Raises:
        ConfigError: it is a mask, or holds a character that is not allowed in an HTTP header.
    """
    stripped = key.strip() if isinstance(key, str) else None
    if stripped is None or not (stripped.isascii() and stripped.isprintable()) or " " in stripped:
        raise ConfigError(
            f"{where} holds no key: it is not text, or has a space, a control character or a letter beyond ASCII "
            "inside (it is not shown here); copy the key again"
        )
    if stripped and not stripped.strip("*"):
        raise ConfigError(f"{where} is a mask and not the key itself, which is never written down; give the key again")
    return stripped


def masked(text: str) -> str:
    """A text with user and password of each URL masked.

    >>> masked("http://me:pw@host:8000/v1 and https://host/a@b")
    'http://***@host:8000/v1 and https://host/a@b'
    """
    return _USERINFO.sub(r"\g<1>***@", text)


def without_secrets(value: Any) -> Any:
    """A JSON-like value for a file or a trace: passwords in URLs and keys are masked.

    >>> without_secrets({"url": "http://me:pw@host/v1", "options": {"api_key": "sk-1", "timeout": 5}})
    {'url': 'http://***@host/v1', 'options': {'api_key': '***', 'timeout': 5}}
    """
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, Mapping):
        return {
            name: MASK if isinstance(name, str) and _SECRET.fullmatch(name) and held else without_secrets(held)
            for name, held in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [without_secrets(held) for held in value]
    return value


def check_no_secrets(keywords: Mapping[str, Any]) -> None:
    """Refuse keyword arguments with a secret, for files from which they are used again unchanged.

    >>> check_no_secrets({"embedder": "https://host/v1", "embedder_options": {"api_key_env": "OPENAI_API_KEY"}})

    Args:
        keywords: Keyword arguments of an environment, JSON-like values.

    Raises:
        ConfigError: one has a password in a URL, or a key; the message does not show it.
    """
    for name, value in keywords.items():
        given = {name: value}
        # Compared as JSON texts, in which a tuple equals a list, and NaN equals NaN.
        written, shown = (json.dumps(one, sort_keys=True, default=repr) for one in (given, without_secrets(given)))
        if written != shown:
            variable = "MILVUS_TOKEN" if name == "store" else "OPENAI_API_KEY"
            raise ConfigError(
                f"{name} holds a password or key, which would be written down in clear with every episode (it is not "
                f"shown here); leave it out there and set the environment variable {variable}"
            )


MASK = "***"
_USERINFO = re.compile(r"\b([a-z][a-z0-9+.-]*://)[^/?#\s'\"]*@", re.IGNORECASE)
_SECRET = re.compile(r"(?:.*[_-])?(?:api[_-]?key|password|secret|token|authorization)", re.IGNORECASE)


def secret(variable: str, url: str) -> str | None:
    """The secret in an environment variable, for a server; ``None`` if only a file names the URL.

    Args:
        variable: ``OPENAI_API_KEY`` or ``MILVUS_TOKEN``; any other variable is read only if the user names it, too.
        url: The server to which it would be sent.

    Raises:
        ConfigError: the secret cannot be sent (:func:`checked_key`).
    """
    found = checked_key(os.environ.get(variable, ""), f"the environment variable {variable}")
    named = variable in ("OPENAI_API_KEY", "MILVUS_TOKEN") or is_said(variable)
    if not found or _said is None or (named and is_said(url)):
        return found or None
    if (variable, url) not in _withheld:
        _withheld.add((variable, url))
        logger.warning(
            "%s is not sent to %s, which a file names and this command line does not; to send it, add --trust %s",
            variable,
            masked(url),
            masked(url) if named else f"{masked(url)} --trust {variable}",
        )
    return None


def check_import(module: str, what: str) -> None:
    """Refuse to import a module that only a file names.

    Args:
        module: The name of the module.
        what: What would import it, for the message.

    Raises:
        ConfigError: there is a command line, and it does not name the module.
    """
    if _said is not None and module not in _said.modules:
        raise ConfigError(
            f"{what} would import the module {module!r}, which a file names and this command line does not; if you "
            f"trust its code, add --import {module}"
        )


def check_template(path: str, where: str) -> None:
    """Refuse a prompt template that only a file names.

    Args:
        path: The path of the template, or the name of a built-in one, which is always allowed.
        where: What names it, for the message.

    Raises:
        ConfigError: there is a command line, and it does not name the template.
    """
    if _said is not None and not is_built_in_template(path) and not is_said(path):
        raise ConfigError(
            f"{where} names the prompt template {path!r}, which is read only if this command line names it too; if it "
            f"is yours, add --trust {path}, else give another one (--set template=… or --option template=…)"
        )


def is_built_in_template(value: object) -> bool:
    """Whether a ``template`` is the name of a built-in one and not a file; see ``prompts.PromptTemplate``.

    >>> [is_built_in_template(name) for name in ("shared_prefix", "./shared_prefix", None)]
    [True, False, False]
    """
    return isinstance(value, str) and value == "shared_prefix"


def reaches_out(value: object) -> bool:
    """Whether an embedder or tokenizer would call a server, ask a hub or open a folder: all except built-in ones.

    >>> [reaches_out(name) for name in ("words", "hashing", "minilm")]
    [False, False, False]
    >>> [reaches_out(name) for name in ("http://localhost:8000/v1", "/models/mine", "Qwen/Qwen3-Embedding-0.6B")]
    [True, True, True]
    """
    return isinstance(value, str) and value not in _BUILT_IN


_BUILT_IN = frozenset({"words", "hashing", "random", "minilm"})
_KEYWORDS: Mapping[str, Callable[[object], bool]] = {
    "embedder": reaches_out,
    "tokenizer": reaches_out,
    "model": lambda name: bool(name),
    "template": lambda path: path is not None and not is_built_in_template(path),
    "text": lambda path: path is not None,
    "reader": lambda reader: reader not in ("policy", "oracle"),
    "store": lambda store: isinstance(store, str) and store not in ("milvus", "numpy"),
}
"""Keyword arguments of environments, and which of their values open or call something. ``source`` is not among them:
records are read from anywhere. For code (``"module:name"``) see ``check_import``."""

_MAY_BE_CODE = ("embedder", "tokenizer", "store", "reader")


def _is_code(value: object) -> bool:
    return names_attribute(value) and not str(value).startswith("tiktoken:")


def unsaid(keywords: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The keyword arguments that open or call something that the user has not named, except code.

    >>> unsaid({"embedder": "/models/mine", "tokenizer": "words", "top_k": 3})
    [('embedder', '/models/mine')]
    """
    return [
        (name, keywords[name])
        for name, reaches in _KEYWORDS.items()
        if name in keywords
        and reaches(keywords[name])
        and not is_said(str(keywords[name]))
        and not (name in _MAY_BE_CODE and _is_code(keywords[name]))
    ]


def check_plan(keywords: Mapping[str, Any], where: str) -> None:
    """Refuse files, folders and hub names in the keyword arguments of a plan that the command line does not name.

    Servers may be called, since a plan is run for that; modules and templates have their own checks.

    Args:
        keywords: Keyword arguments of an environment, and ``model``, a language model from a folder or a hub.
        where: What names them, for the message.

    Raises:
        ConfigError: one of them is named only by the plan.
    """
    if _said is None:
        return
    for name, value in unsaid(keywords):
        if name != "template" and not str(value).startswith(("http://", "https://")):
            raise ConfigError(
                f"{where} names {name}={value!r}, a file, a folder or a name on a hub, which is opened only if this "
                f"command line names it too; if you mean it, add --trust {value}"
            )


def _parts(argument: str) -> Iterator[str]:
    """An argument and all values in it."""
    while True:
        yield argument
        with contextlib.suppress(ValueError, RecursionError):
            yield from _texts(json.loads(argument))
        yield from argument.split(",")
        _, equals, argument = argument.partition("=")
        if not equals:
            return


def _texts(value: Any) -> Iterator[str]:
    """The texts in a JSON value, without names of fields."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _texts(one)


def _canonical(text: str) -> str:
    """A form that is equal for texts that name the same server or path."""
    if text.startswith(("http://", "https://")):
        with contextlib.suppress(ValueError):
            url = urlsplit(text)
            return f"{url.scheme}://{url.netloc.lower()}{url.path.rstrip('/')}?{url.query}"
        return text
    return os.path.abspath(os.path.expanduser(text))
