"""The sandbox in which templates run: Jinja2's, with bounds on the time and memory of a template.

A template may come from an untrusted source. Jinja2's sandbox keeps it from Python's internals and from changing its
variables. It does not keep ``{{ 'a' * 10**8 }}`` from filling the memory, so here the result of every operation that
multiplies text is estimated first. The bounds are far above what a prompt needs.
"""

from __future__ import annotations

import functools
import re
import types
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextvars import ContextVar
from itertools import islice
from pathlib import Path
from typing import Any, cast

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.loaders import split_template_path
from jinja2.runtime import Context, LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

MAX_CHARS = 1 << 25
"""Characters of a rendered prompt, and of every intermediate text or list, at most."""
MAX_MADE = 1 << 28
"""Characters that one rendering makes in all, at most."""
MAX_STEPS = 1_000_000
"""Iterations of loops in one rendering, at most; a call counts as ``_CALL_STEPS``, an include as more."""
_CALL_STEPS = 10
_INCLUDE_STEPS = 20
_MAX_BITS = 4096
"""Bits of an integer, at most."""
_MAX_WIDTH = 1000
"""Width of a field in a format string, below which it is allowed."""
_NUMBER_CHARS = 20
_WIDE_FIELD = re.compile(r"%[-+ #.\d]*\d{4}|%[-+ #.\d]*\*|\{[^{}]*:[^{}]*\d{4}|\{[^{}]+\{")
_SEQUENCES: tuple[type[Collection[Any]], ...] = (
    list,
    tuple,
    set,
    frozenset,
    type({}.keys()),
    type({}.values()),
    type({}.items()),
)
_COLLECTIONS: tuple[Any, ...] = (str, bytes, Mapping, range, *_SEQUENCES)
_WITHOUT_TEXT = (type(None), bool, int, float)


class _Spent:
    """Steps and characters that a rendering has used so far."""

    def __init__(self) -> None:
        self.steps = 0
        self.made = 0


_spent: ContextVar[_Spent | None] = ContextVar("spent", default=None)


class PromptEnvironment(ImmutableSandboxedEnvironment):
    """Renders prompts as plain text: nothing is escaped, because that would change documents. Undefined names raise.

    Args:
        loader: Loads templates.
    """

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, loader: jinja2.BaseLoader) -> None:
        super().__init__(
            loader=loader,
            undefined=jinja2.StrictUndefined,
            autoescape=False,
            trim_blocks=True,
            lstrip_blocks=True,
            finalize=_shown,
        )
        del self.globals["lipsum"]
        self.filters = {name: _measured(name, function) for name, function in self.filters.items()}
        self.filters |= {"_steps": _steps, "_joined": _joined}

    def render_bounded(self, template: jinja2.Template, values: Mapping[str, Any]) -> str:
        """Render a template with these variables.

        Raises:
            jinja2.TemplateError, ArithmeticError, LookupError, RecursionError, TypeError, ValueError: the template is
                wrong, or exceeds the bounds of this module.
        """
        token = _spent.set(_Spent())
        try:
            return _joined(template.generate(values))
        finally:
            _spent.reset(token)

    def concat(self, parts: Iterable[str]) -> str:
        """Join the output of a block or macro."""
        return _joined(parts)

    def get_template(self, *arguments: Any, **keywords: Any) -> jinja2.Template:
        """Load a template; counts steps, so that endless includes are stopped."""
        _take(steps=_INCLUDE_STEPS)
        return super().get_template(*arguments, **keywords)

    def call(self, context: Context, function: Any, /, *arguments: Any, **keywords: Any) -> Any:
        """Call a macro, a function or a method, if the result is of a bounded size."""
        _take(steps=_CALL_STEPS)
        subject = getattr(function, "__self__", None)
        if isinstance(function, types.BuiltinMethodType) and isinstance(subject, (str, bytes, *_SEQUENCES, dict)):
            arguments = tuple(map(_listed, arguments))
            _check(function.__name__, subject, [*arguments, *keywords.values()])
            return _made(super().call(context, function, *arguments, **keywords))
        return super().call(context, function, *arguments, **keywords)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """A bounded ``str.format``, if the value is that method; else ``None``."""
        wrapped = super().wrap_str_format(value)
        if wrapped is None:
            return None

        def measured(*arguments: Any, **keywords: Any) -> str:
            _check("format", value.__self__, [*arguments, *keywords.values()])
            return str(_made(wrapped(*arguments, **keywords)))

        return measured

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Apply a binary operator, if the result is of a bounded size."""
        numbers = isinstance(left, int) and isinstance(right, int)
        if operator == "%" and isinstance(left, (str, bytes)):
            _check("format", left, [right])
        elif operator == "*" and numbers:
            _check_bits(left.bit_length() + right.bit_length())
        elif operator == "*" and (isinstance(left, int) or isinstance(right, int)):
            _check_size(_size(left) * max(right, 1) if isinstance(right, int) else _size(right) * max(left, 1))
        elif operator == "**" and numbers:
            _check_bits(left.bit_length() * abs(right))
        elif operator == "+" and numbers:
            _check_bits(max(left.bit_length(), right.bit_length()) + 1)
        elif operator == "+":
            _check_size(_size(left) + _size(right))
        return _made(super().call_binop(context, operator, left, right))

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        found: nodes.Template = _Bounding().visit(super()._parse(source, name, filename))
        return found.set_environment(self)  # type: ignore[return-value]


class FolderLoader(jinja2.FileSystemLoader):
    """Loads templates from the folder of a custom template; a link in it that leads out of the folder is refused."""

    def __init__(self, template: Path) -> None:
        super().__init__(template.parent)
        self._named = template

    def get_source(
        self, environment: jinja2.Environment, template: str
    ) -> tuple[str, str, Callable[[], bool]]:  # as in the base class
        """See :class:`jinja2.FileSystemLoader`."""
        if template != self._named.name:
            folder = self._named.parent.resolve()
            if not folder.joinpath(*split_template_path(template)).resolve().is_relative_to(folder):
                raise jinja2.TemplateNotFound(template, f"{template} leads out of the folder {folder}")
        return super().get_source(environment, template)


class _Bounding(NodeTransformer):
    """Routes loops and ``~``, which Jinja2 compiles to plain Python, through the bounded filters of this module."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        node.iter = _filtered(cast(nodes.Expr, node.iter), "_steps")
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return _filtered(nodes.List(node.nodes, lineno=node.lineno), "_joined")


def _filtered(node: nodes.Expr, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


def _take(*, steps: int = 0, made: int = 0) -> None:
    spent = _spent.get()
    if spent is None:  # constants are folded when a template is compiled
        return
    spent.steps += steps
    spent.made += made
    if spent.steps > MAX_STEPS:
        raise SecurityError(f"it takes more than {MAX_STEPS:,} iterations of loops and calls; show less in one prompt")
    if spent.made > MAX_MADE:
        raise SecurityError(f"it makes more than {MAX_MADE:,} characters of text; show less in one prompt")


def _check_size(size: int) -> None:
    if size > MAX_CHARS:
        raise SecurityError(f"it makes a text of more than {MAX_CHARS:,} characters; show less in one prompt")


def _check_bits(bits: int) -> None:
    if bits > _MAX_BITS:
        raise SecurityError(f"it calculates a number of more than {_MAX_BITS:,} bits; a prompt needs no such number")


def _size(value: Any) -> int:
    """The characters of a value and its contents, estimated; above ``MAX_CHARS`` also for too many elements."""
    if isinstance(value, (str, bytes)):
        return len(value)
    total, visited, waiting = 0, 0, [value]
    while waiting and total <= MAX_CHARS:
        one = waiting.pop()
        visited += 1
        if visited > MAX_STEPS:
            return MAX_CHARS + 1
        if isinstance(one, (str, bytes)):
            total += len(one) + 1
        elif isinstance(one, _WITHOUT_TEXT):
            total += _NUMBER_CHARS
        elif isinstance(one, Mapping):
            total += 1
            waiting += [*one.keys(), *one.values()]
        elif isinstance(one, _SEQUENCES):
            total += 1
            waiting += one
        else:
            total += 1
    _take(steps=visited // 10)
    return total


def _check(name: str, subject: Any, others: list[Any]) -> None:
    """Raise if the result of a method or filter could be too large.

    No method makes more than the product of the sizes of its arguments (``join``, ``replace``, ``center``, ``indent``);
    the size of a number is its value, because it may be a width.
    """
    if name in ("format", "format_map") and isinstance(subject, (str, bytes)):
        text = subject if isinstance(subject, str) else subject.decode("latin-1")
        if _WIDE_FIELD.search(text.replace("{{", "").replace("}}", "")):
            raise SecurityError(
                f"a field of {text[:40]!r} may be {_MAX_WIDTH:,} characters wide or more; write a smaller width"
            )
        fields = text.count("%") + text.count("{")
        _check_size(len(text) + fields * (_MAX_WIDTH + _size(others)))
        return
    weights = [abs(one) if isinstance(one, int) else _size(one) for one in others]
    _check_size(max(1, _size(subject)) * max(1, sum(weights)))


def _made(value: Any) -> Any:
    """Count the size of a result; a lazy iterator is counted when it is used."""
    if isinstance(value, _COLLECTIONS):
        _take(made=len(value))
    return value


def _listed(value: Any) -> Any:
    """An iterator as a list, whose size is known; other values unchanged."""
    if isinstance(value, Iterator) and not isinstance(value, LoopContext):
        found = list(islice(value, MAX_STEPS + 1))
        _take(steps=len(found))
        if len(found) > MAX_STEPS:
            raise SecurityError(f"it goes through more than {MAX_STEPS:,} elements; show less in one prompt")
        return found
    return value


def _measured(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter of Jinja2 that raises if its result could be too large."""

    @functools.wraps(function)
    def measured(*arguments: Any, **keywords: Any) -> Any:
        _take(steps=1)
        arguments = tuple(map(_listed, arguments))
        first = 1 if isinstance(arguments[0], (jinja2.Environment, Context, nodes.EvalContext)) else 0
        _check(name, arguments[first], [*arguments[first + 1 :], *keywords.values()])
        return _made(function(*arguments, **keywords))

    return measured


def _steps(value: Any) -> Any:
    """The iterable of a loop; its elements are counted as steps."""
    if isinstance(value, _COLLECTIONS):
        _take(steps=len(value))
        return value
    return _listed(value)


def _joined(parts: Iterable[Any]) -> str:
    """Join the parts as text, within the bounds."""
    texts, size = [], 0
    for part in parts:
        if not isinstance(part, str):
            _check_size(_size(part))
        text = part if isinstance(part, str) else str(part)
        size += len(text)
        _check_size(size)
        texts.append(text)
    _take(made=size)
    return "".join(texts)


def _shown(value: Any) -> Any:
    """The value of an expression, whose size is checked before it becomes text."""
    size = _size(value)
    _check_size(size)
    _take(made=size)
    return value
