"""What README and documentation import and name, as they stand."""

from __future__ import annotations

import ast
import re
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGE = "atommem_gym"


def pages() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def python_blocks(text: str) -> list[str]:
    return re.findall(r"^[ ]*```python[^\n]*\n(.*?)^[ ]*```", text, re.DOTALL | re.MULTILINE)


def imports(block: str) -> list[str]:
    """The statements of a block that import from the package, also those inside functions."""
    return [
        ast.unparse(node)
        for node in ast.walk(ast.parse(block))
        if (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == PACKAGE)
        or (isinstance(node, ast.Import) and any(one.name.split(".")[0] == PACKAGE for one in node.names))
    ]


def dotted_names(text: str) -> list[str]:
    """Names such as ``atommem_gym.envs.shaping`` in backticks, also as ``module:name``; no ids of environments."""
    prose = re.sub(r"^[ ]*```.*?^[ ]*```", "", text, flags=re.DOTALL | re.MULTILINE)
    spans = re.findall(r"`([^`\n]+)`", prose)
    return sorted(
        {name for span in spans for name in re.findall(rf"\b{PACKAGE}(?:[.:](?!AtomMem-)[A-Za-z_]\w*)+", span)}
    )


def resolve(name: str) -> object:
    """What a dotted name stands for: the longest part that is a module, then attributes.

    Raises:
        AttributeError: there is no such thing.
        ModuleNotFoundError: a module needs an extra that is not installed.
    """
    parts = re.split("[.:]", name)
    found: object = import_module(parts[0])
    for i, part in enumerate(parts[1:], 1):
        if not hasattr(found, part):
            module = ".".join(parts[: i + 1])
            try:
                import_module(module)
            except ModuleNotFoundError as error:
                if error.name != module:
                    raise
                raise AttributeError(f"the documentation names {name}, but {module} is nothing") from None
        found = getattr(found, part)
    return found
