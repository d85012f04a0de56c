"""Checks ``reader=`` and the ``reader_options=`` of a reader on a server."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from atommem_gym.errors import ConfigError, check_choice, check_integer, check_number, options_by_name
from atommem_gym.plugins.loading import check_colon, is_plugin
from atommem_gym.readers.protocol import POLICY, FrozenReader

ORACLE = "oracle"
"""The value of ``reader=`` that gives the gold answer where its evidence is in sight."""
_OTHERS = ", 'http://host:port/v1', 'package.module:name', or a callable"
_FORMS = f"'{POLICY}', '{ORACLE}'{_OTHERS}"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class ReaderOptions:
    """Settings of a reader on an OpenAI-compatible server.

    >>> ReaderOptions.from_mapping({"model": "Qwen/Qwen3-8B", "max_tokens": 64}).max_tokens
    64
    """

    model: str | None = None
    """The model's name; by default the only one that the server lists."""
    api_key_env: str = "OPENAI_API_KEY"
    """The environment variable that holds the key. Keys themselves are never stored in settings."""
    max_tokens: int = 1024
    """Tokens of a reply, at most, with room for a model that reasons first."""
    temperature: float = 0.0
    """Sampling temperature; 0 always takes the most probable token."""
    timeout: float = 60.0
    """Seconds for one try."""
    tries: int = 5
    """How often a failing request is sent."""
    concurrency: int = 8
    """Requests under way at the same time, at most."""
    extra_body: Mapping[str, Any] | None = None
    """Further fields of the request, such as ``{"chat_template_kwargs": {"enable_thinking": false}}``."""

    @classmethod
    def from_mapping(cls, given: object) -> ReaderOptions:
        """Make options of a mapping of names to values; ``None``: all by default.

        Raises:
            ConfigError: an option is unknown or has a wrong value.
        """
        known = [field.name for field in fields(cls)]
        options = cls(**options_by_name("reader_options", given, known, "{'model': 'Qwen3-8B'}"))
        if not (options.model is None or (isinstance(options.model, str) and options.model)):
            raise ConfigError(f"the reader option model={options.model!r} must be a model's name, or None")
        variable: object = options.api_key_env
        if not (isinstance(variable, str) and _VARIABLE.fullmatch(variable)):
            # The value is not shown, because it may be the key itself.
            raise ConfigError(
                "the reader option api_key_env must be the name of an environment variable that holds the key, such as "
                "'OPENAI_API_KEY', and never the key itself"
            )
        for name in ("max_tokens", "tries", "concurrency"):
            check_integer(f"the reader option {name}", getattr(options, name), 1)
        check_number("the reader option temperature", options.temperature)
        check_number("the reader option timeout", options.timeout, above=True)
        extra: object = options.extra_body
        if not (extra is None or (isinstance(extra, Mapping) and all(isinstance(name, str) for name in extra))):
            raise ConfigError(f"the reader option extra_body={extra!r} must be a dictionary of JSON values, or None")
        return options


def check_reader(reader: object, options: object) -> None:
    """Check ``reader=`` and ``reader_options=``.

    Raises:
        ConfigError: ``reader`` is not a known name, a URL, ``"package.module:name"``, a reader or a function; or an
            option is unknown, has a wrong value, or is given for a reader that is not a server.
    """
    ReaderOptions.from_mapping(options)
    if options and not is_url(reader):
        raise ConfigError(
            f"reader_options={options!r} contradicts reader={reader!r}: they are settings of a server; name its URL, "
            "or leave them out"
        )
    if isinstance(reader, str):
        if reader in (POLICY, ORACLE) or is_url(reader) or is_plugin("reader", reader):
            return
        check_colon("reader", reader)
        check_choice("reader", reader, (POLICY, ORACLE), or_else=_OTHERS)
    if not (isinstance(reader, FrozenReader) or callable(reader)):
        raise ConfigError(f"reader={reader!r} must be {_FORMS}")


def is_url(reader: object) -> bool:
    """Whether ``reader`` is the URL of a server."""
    return isinstance(reader, str) and reader.startswith(("http://", "https://"))


def reader_name(reader: Any) -> str:
    """The name of a reader in records; a function has the name ``module:qualified name``.

    >>> reader_name("oracle"), reader_name(len)
    ('oracle', 'builtins:len')
    """
    if isinstance(reader, str):
        return reader
    if isinstance(reader, FrozenReader):
        return reader.name
    return f"{reader.__module__}:{getattr(reader, '__qualname__', type(reader).__qualname__)}"
