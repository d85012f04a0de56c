"""Mutates what mutmut 3 leaves alone: constants, regular expressions and all that runs when a module is imported.

mutmut swaps bodies of plain functions inside a process that has imported everything already. Here every mutant is a
changed file, imported afresh by a process of its own.
"""

from __future__ import annotations

import ast
import copy
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

_SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
    ast.Pow: ast.Mult,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_PIECE = re.compile(r"\\x..|\\.|\(\?(?:[:=!]|<[=!])|[^\\]", re.DOTALL)
"""What is taken out of a regular expression at a time: an escape, the head of a group, or a character."""
RUN_ONCE = {"_slips"}
"""Functions that only the import of their module calls, before mutmut can swap their bodies."""


class Change(NamedTuple):
    """One mutant of a file: the source with a node replaced."""

    place: str
    line: int
    before: str
    after: str
    source: str

    @property
    def summary(self) -> str:
        """What was taken out and put in, on one line."""
        return " ".join(f"-{self.before} | +{self.after}".split())


def changes(source: str) -> list[Change]:
    """All mutants of the parts of a module that mutmut does not mutate, in the order of the source."""
    tree = ast.parse(source)
    found = []
    for place, owner in _places(tree):
        inside_strings = {
            id(part) for node in ast.walk(owner) if isinstance(node, ast.JoinedStr) for part in node.values
        }
        for node in ast.walk(owner):
            if id(node) not in inside_strings:
                found += [_change(source, place, node, replacement) for replacement in _variants(node)]
    made = [change for change in found if change is not None and _compiles(change.source)]
    return sorted(dict.fromkeys(made), key=lambda change: (change.line, change.before, change.after))


def _places(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """Values that are computed at import, and bodies of decorated functions, each with the name it goes by."""
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    for body in (tree.body, *(node.body for node in classes)):
        for node in body:
            if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
                target = node.targets[0] if isinstance(node, ast.Assign) else node.target
                if "TypeAlias" not in ast.unparse(node) and not re.match(r"Literal|Callable", ast.unparse(node.value)):
                    yield ast.unparse(target), node.value
            elif isinstance(node, ast.FunctionDef) and _left_alone(node):
                for statement in node.body:
                    if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)):
                        yield node.name, statement


def _left_alone(node: ast.FunctionDef) -> bool:
    decorators = {ast.unparse(decorator) for decorator in node.decorator_list}
    return bool(decorators - {"staticmethod", "classmethod"}) or node.name in RUN_ONCE


def _variants(node: ast.AST) -> Iterator[ast.AST]:
    """Nodes that one slip would have put in the place of ``node``."""
    if isinstance(node, ast.Constant):
        yield from (ast.Constant(value) for value in _constants(node.value))
    elif isinstance(node, (ast.BinOp, ast.BoolOp)) and type(node.op) in _SWAPS:
        changed = copy.deepcopy(node)
        changed.op = _SWAPS[type(node.op)]()  # type: ignore[assignment]
        yield changed
    elif isinstance(node, ast.Compare) and type(node.ops[0]) in _SWAPS:
        compared = copy.deepcopy(node)
        compared.ops[0] = _SWAPS[type(node.ops[0])]()  # type: ignore[call-overload]
        yield compared
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield node.operand
    elif isinstance(node, ast.Attribute) and node.attr in ("IGNORECASE", "ASCII", "DOTALL"):
        yield ast.Constant(0)


def _constants(value: object) -> Iterator[str | int]:
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield value + 1
        yield value - 1
    elif isinstance(value, str):
        yield value + "x"
        if re.search(r"[\\\[(]", value):
            shorter = (value[: piece.start()] + value[piece.end() :] for piece in _PIECE.finditer(value))
            yield from (pattern for pattern in shorter if _is_pattern(pattern))


def _is_pattern(text: str) -> bool:
    try:
        re.compile(text)
    except re.error:
        return False
    return True


def _change(source: str, place: str, node: ast.AST, replacement: ast.AST) -> Change | None:
    segment = ast.get_source_segment(source, node)
    if segment is None or not isinstance(node, (ast.expr, ast.stmt)):
        return None
    lines = source.splitlines(keepends=True)
    before = sum(len(line) for line in lines[: node.lineno - 1])
    start = before + _characters(lines[node.lineno - 1], node.col_offset)
    text = ast.unparse(replacement)
    changed = f"{source[:start]}({text}){source[start + len(segment) :]}"
    return Change(place, node.lineno, segment, text, changed)


def _characters(line: str, octets: int) -> int:
    return len(line.encode()[:octets].decode())


def _compiles(source: str) -> bool:
    try:
        compile(source, "mutant", "exec")
    except (SyntaxError, ValueError):
        return False
    return True


def sampled(found: Sequence[Change], size: int, seed: str) -> list[Change]:
    """At most ``size`` of the changes, drawn without repeats, the same for the same ``seed``; in their order."""
    chosen = random.Random(seed).sample(range(len(found)), min(size, len(found)))
    return [found[i] for i in sorted(chosen)]


def verdict(tree: Path, file: Path, change: Change, arguments: Sequence[str], seconds: float) -> str:
    """What the tests say of a changed file of a tree, which is put back: ``killed``, ``survived`` or ``timeout``."""
    path = tree / file
    original = path.read_text()
    environment = os.environ | {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", *arguments]
    # Bytecode of the original could pass for that of a change made in the same second.
    for compiled in path.parent.glob(f"__pycache__/{path.stem}.*"):
        compiled.unlink()
    path.write_text(change.source)
    try:
        done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return "timeout"
    finally:
        path.write_text(original)
    return "survived" if done.returncode == 0 else "killed"
