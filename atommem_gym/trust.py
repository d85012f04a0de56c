"""Whose word a name is: the user's, or only that of a file, which may come from a stranger.

A plan, a trace and a kept database name servers, folders, templates and functions. Opening somebody's file must not
send a key to a server, read a folder or run a function just because the file says so. One rule for all: what a
program's code or this call's command line names is the user's word, and what only a file names is not. What the user
means all the same is said again on the command line: where it belongs (``--set embedder=URL``), or with ``--trust``.

Two things follow. Secrets are read from the process's variables here and nowhere else, for one URL at a time. And
:func:`reaches_out` tells which values of a record would open or call something, for those who play records again.
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
    """What the user said in this call."""

    values: frozenset[str]
    modules: frozenset[str]


_said: _Said | None = None
"""``None`` where there is no command line: a program's own code names what it means. Not a context variable, since
environments are made in threads of theirs, where nothing may be trusted by mistake."""
_withheld: set[tuple[str, str]] = set()


BASE_URL = "OPENAI_BASE_URL"
"""The environment variable that names a model's server where the command line names none."""


def base_url() -> str | None:
    """The URL of a model's server out of the environment, without white space around it."""
    return os.environ.get(BASE_URL, "").strip() or None


@contextlib.contextmanager
def command_line(arguments: Sequence[str], imports: Sequence[str] = ()) -> Iterator[None]:
    """Within the context the user's word is what these arguments name, and nothing else.

    Args:
        arguments: As they were typed; also the values in ``--option=value`` and ``KEY=VALUE``, and each of ``V,V``.
        imports: Modules that the user has imported.
    """
    global _said
    # What the user's own environment names is the user's word, too.
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


def is_said(value: str) -> bool:
    """Whether the command line names a URL, path or other value. ``False`` where there is none.

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
    """Whether the command line names a module, with ``--import`` or in a ``module:name``; ``False`` if there is none.

    >>> with command_line(["--agent", "mine:Agent"], imports=["tasks"]):
    ...     [is_module_said(module) for module in ("mine", "tasks", "others")]
    [True, True, False]
    """
    return _said is not None and module in _said.modules


def said_modules() -> frozenset[str]:
    """All modules that the command line names; none where there is no command line."""
    return frozenset() if _said is None else _said.modules


def checked_key(key: str, where: str) -> str:
    r"""A key as it is sent: without white space around it. No error shows it.

    >>> checked_key(" sk-1\r\n", "OPENAI_API_KEY")
    'sk-1'

    Args:
        key: As the user gave it.
        where: Who holds it, for the message.

    Raises:
        ConfigError: it holds a character that no HTTP header may have.
    """
    stripped = key.strip() if isinstance(key, str) else None
    if stripped is None or not (stripped.isascii() and stripped.isprintable()) or " " in stripped:
        raise ConfigError(
            f"{where} holds no key: it is no text, or has a space, a control character or a letter beyond ASCII inside "
            "(it is not shown here); copy the key again"
        )
    if stripped and not stripped.strip("*"):
        raise ConfigError(f"{where} is a mask and not the key itself, which is never written down; give the key again")
    return stripped


def masked(text: str) -> str:
    """A text in which no URL shows its user or password.

    >>> masked("http://me:pw@host:8000/v1 and https://host/a@b")
    'http://***@host:8000/v1 and https://host/a@b'
    """
    return _USERINFO.sub(r"\g<1>***@", text)


def without_secrets(value: Any) -> Any:
    """A JSON-like value for a file or a record: URLs without passwords, and a mask in place of every key.

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
    """Refuse keyword arguments with a secret, where they are written down to be used again as they stand.

    >>> check_no_secrets({"embedder": "https://host/v1", "embedder_options": {"api_key_env": "OPENAI_API_KEY"}})

    Args:
        keywords: Of an environment, JSON-like values.

    Raises:
        ConfigError: one has a password in a URL, or a key; the message does not show it.
    """
    for name, value in keywords.items():
        given = {name: value}
        # As texts, in which a tuple equals a list, and NaN itself.
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
    """The secret in an environment variable, for a server at this URL; ``None`` if the URL is only a file's word.

    Args:
        variable: ``OPENAI_API_KEY`` or ``MILVUS_TOKEN``; another one is read only if the user named it, too.
        url: Where it would be sent.
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
        module: Its name.
        what: Who wants it, for the message.

    Raises:
        ConfigError: neither the program's code nor the command line names it.
    """
    if _said is not None and module not in _said.modules:
        raise ConfigError(
            f"{what} would import the module {module!r}, which a file names and this command line does not; if you "
            f"trust its code, add --import {module}"
        )


def check_template(path: str, where: str) -> None:
    """Refuse a prompt template that only a file names.

    Args:
        path: Of the template, or the name of one of ours, which anybody may name.
        where: Who names it, for the message.

    Raises:
        ConfigError: the command line does not name it.
    """
    if _said is not None and not is_built_in_template(path) and not is_said(path):
        raise ConfigError(
            f"{where} names the prompt template {path!r}, which is read only if this command line names it too; if it "
            f"is yours, add --trust {path}, else give another one (--set template=… or --option template=…)"
        )


def is_built_in_template(value: object) -> bool:
    """Whether a ``template`` is one of ours by its name, in place of a file; see ``prompts.PromptTemplate``.

    >>> [is_built_in_template(name) for name in ("shared_prefix", "./shared_prefix", None)]
    [True, False, False]
    """
    return isinstance(value, str) and value == "shared_prefix"


def reaches_out(value: object) -> bool:
    """Whether a recorded embedder or tokenizer would call a server, ask a hub or open a folder: all but built-in ones.

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
"""Keyword arguments of environments, and which of their values open or call what they name. A ``source`` has a rule of
its own: records are read wherever they lie. So has code (``"module:name"``): see ``check_import``."""

_MAY_BE_CODE = ("embedder", "tokenizer", "store", "reader")


def _is_code(value: object) -> bool:
    return names_attribute(value) and not str(value).startswith("tiktoken:")


def unsaid(keywords: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The keyword arguments of a file that open or call something that the user has not named; code aside.

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
    """Refuse what the keyword arguments of a plan would open, unless the command line names it too.

    Servers may be called, since that is what playing a plan means; modules and templates have checks of their own.

    Args:
        keywords: Of an environment; besides ``model``, a language model that is loaded from a folder or a hub.
        where: Who names them, for the message.

    Raises:
        ConfigError: one of them is only the plan's word.
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
    """An argument, and each value in it."""
    while True:
        yield argument
        with contextlib.suppress(ValueError, RecursionError):
            yield from _texts(json.loads(argument))
        yield from argument.split(",")
        _, equals, argument = argument.partition("=")
        if not equals:
            return


def _texts(value: Any) -> Iterator[str]:
    """The texts in a JSON value, names of fields left out."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _texts(one)


def _canonical(text: str) -> str:
    """Equal for texts that name the same server or path."""
    if text.startswith(("http://", "https://")):
        with contextlib.suppress(ValueError):
            url = urlsplit(text)
            return f"{url.scheme}://{url.netloc.lower()}{url.path.rstrip('/')}?{url.query}"
        return text
    return os.path.abspath(os.path.expanduser(text))
