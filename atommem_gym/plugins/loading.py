"""Loads the custom part that ``"package.module:name"`` names, and checks its form."""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Mapping
from typing import Any

from atommem_gym.errors import AtomMemError, ConfigError
from atommem_gym.plugins.forms import FORMS, Form
from atommem_gym.trust import check_import, names_attribute

_NOT_OURS = {"tokenizer": ("tiktoken:",)}
"""Beginnings of values that look like ``module:name`` and do not name a custom part."""


def is_plugin(keyword: str, value: object) -> bool:
    """Whether the value of a keyword argument names a custom part.

    >>> is_plugin("store", "mine:Store"), is_plugin("store", "milvus"), is_plugin("tokenizer", "tiktoken:cl100k_base")
    (True, False, False)
    """
    return names_attribute(value) and not str(value).startswith(_NOT_OURS.get(keyword, ()))


def module_of(value: str) -> str:
    """The module that a ``"package.module:name"`` imports."""
    return value.partition(":")[0]


def plugins_in(keywords: Mapping[str, Any]) -> dict[str, str]:
    """The keyword arguments that name custom parts, with their values.

    >>> plugins_in({"store": "mine:Store", "embedder": "hashing", "num_docs": 8})
    {'store': 'mine:Store'}
    """
    return {name: keywords[name] for name in FORMS if name in keywords and is_plugin(name, keywords[name])}


def check_colon(keyword: str, value: str) -> None:
    """Refuse a value with a colon that is not of the form ``"package.module:name"``.

    Raises:
        ConfigError: it has a colon, and is neither a URL, a path nor a name with both parts.
    """
    if ":" not in value or is_plugin(keyword, value) or value.startswith(_NOT_OURS.get(keyword, ())):
        return
    if not any(sign in value for sign in "/\\") and not os.path.lexists(value):
        form = FORMS[keyword]
        raise ConfigError(
            f"{keyword}={value!r} is not written 'package.module:name', with a module and a name in it that Python "
            f"could import; {form.what} of your own is {form.written}{form.remedy}"
        )


def find_plugin(keyword: str, value: str) -> Any:
    """Import the module of ``"package.module:name"`` and return the named attribute, unchecked.

    Raises:
        ConfigError: the module may not be imported (:func:`atommem_gym.trust.check_import`) or cannot be, or has no
            such name.
    """
    module, _, attributes = value.partition(":")
    check_import(module, f"{keyword}={value!r}")
    remedy = FORMS[keyword].remedy
    try:
        found: Any = importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"{keyword}={value!r}: module {module!r} cannot be imported ({error}); is its folder on PYTHONPATH?{remedy}"
        ) from error
    except Exception as error:  # whatever the module's own code raises
        raise ConfigError(
            f"{keyword}={value!r}: importing {module!r} raised {type(error).__name__}: {error}; mend the module{remedy}"
        ) from error
    for attribute in attributes.split("."):
        try:
            found = getattr(found, attribute)
        except AttributeError as error:
            raise ConfigError(f"{keyword}={value!r}: {module!r} has no {attributes!r} ({error}){remedy}") from error
    return found


def load_plugin(keyword: str, value: str, *arguments: Any, **keywords: Any) -> Any:
    """The part that ``"package.module:name"`` names, with its form checked; it is called first if it makes the part.

    Args:
        keyword: A key of ``FORMS``.
        value: The value of the keyword argument.
        *arguments: The positional arguments of the call, if it is called.
        **keywords: The keyword arguments of the call.

    Raises:
        ConfigError: it cannot be found, has the wrong signature, lacks a method or an attribute, or raises.
        AtomMemError: its own code raises an error of this package.
    """
    found, form = find_plugin(keyword, value), FORMS[keyword]
    if form.arguments is None:
        check_form(keyword, value, found)
        return found
    if not callable(found):
        raise _wrong(keyword, value, f"is {found!r}, which cannot be called; name a class or a function")
    _check_signature(keyword, value, "the call", found, form.arguments, form.keywords)
    if not form.makes:
        return found
    try:
        made = found(*arguments, **keywords)
    except AtomMemError:
        raise
    except Exception as error:  # whatever the user's code raises
        raise _wrong(keyword, value, f"raised {type(error).__name__} when it was made: {error}") from error
    check_form(keyword, value, made)
    return made


def check_form(keyword: str, value: str, part: object) -> None:
    """Check the methods and attributes of a part.

    Args:
        keyword: A key of ``FORMS``.
        value: The value of the keyword argument, for messages.
        part: The part itself.

    Raises:
        ConfigError: one is missing or has the wrong type.
    """
    form = FORMS[keyword]
    if isinstance(part, type):
        raise _wrong(keyword, value, f"is the class {part.__qualname__}, and an object is wanted: make one and name it")
    for name, count in form.methods.items():
        method = getattr(part, name, None)
        if not callable(method):
            raise _wrong(keyword, value, f"has no method {name!r}")
        if inspect.iscoroutinefunction(method):
            raise _wrong(keyword, value, f"has a coroutine function as {name!r}, and nobody awaits it; use plain `def`")
        _check_signature(keyword, value, f"{name!r}", method, (None,) * count, {})
    for name, kind in form.attributes.items():
        held = getattr(part, name, None)
        whole = not isinstance(held, bool) and isinstance(held, int) and held > 0
        if not (whole if kind is int else isinstance(held, kind) and (kind is not str or held != "")):
            raise _wrong(keyword, value, f"has {name}={held!r}, which must be {_KINDS[kind]}")


def _check_signature(
    keyword: str, value: str, what: str, function: Any, arguments: tuple[Any, ...], keywords: Mapping[str, Any]
) -> None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return  # written in C, with nothing to look at: the call itself will tell
    try:
        signature.bind(*arguments, **keywords)
    except TypeError as error:
        takes = f"{what} takes {signature}, which does not fit {len(arguments)} argument"
        named = f" and {', '.join(f'{name}=' for name in keywords)}" if keywords else ""
        raise _wrong(keyword, value, f"{takes}{'' if len(arguments) == 1 else 's'}{named} ({error})") from error


def _wrong(keyword: str, value: str, fault: str) -> ConfigError:
    form: Form = FORMS[keyword]
    return ConfigError(f"{keyword}={value!r}: it {fault}. {form.what.capitalize()} is {form.written}{form.remedy}")


_KINDS: dict[type, str] = {
    str: "a text that is not empty",
    int: "a whole number of at least 1",
    bool: "True or False",
    Mapping: "a mapping, which may be empty",
}
