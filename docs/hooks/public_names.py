"""Write the list of public names into docs/public_api.md: `python docs/hooks/public_names.py`.

Public is what a package's face offers (its ``__init__.pyi``, or ``__all__`` of its ``__init__.py``), every error, and
what the documentation imports from a module below a package, as ``tests/net/paths.py`` lists it. A test holds the page
to it.
"""

from __future__ import annotations

import ast
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "public_api.md"
SOURCES = {"atommem_gym.envs": "envs", "atommem_gym.agents": "agents", "atommem_gym": "atommem_gym"}
"""Where the packages stand in the repository; the longer names first."""
NOT_PROMISED = {"atommem_gym.terminal"}
"""Packages whose face serves this package alone."""
BEGIN = "<!-- The names are written by docs/hooks/public_names.py. -->"
END = "<!-- The end of the names. -->"


def packages() -> Iterator[tuple[str, Path]]:
    """Name and ``__init__.py`` of every package."""
    for name, folder in SOURCES.items():
        for init in sorted((ROOT / folder).rglob("__init__.py")):
            yield ".".join((name, *init.parent.relative_to(ROOT / folder).parts)), init


def face(init: Path) -> list[str]:
    """The names that a package offers, sorted; none if it has no face."""
    stub = init.with_suffix(".pyi")
    tree = ast.parse((stub if stub.exists() else init).read_text(encoding="utf-8"))
    names: list[str] = []
    for node in tree.body:
        if stub.exists() and isinstance(node, ast.ImportFrom) and node.module:  # without one it is a room
            names += [alias.asname or alias.name for alias in node.names]
        elif stub.exists() and isinstance(node, ast.AnnAssign):
            names.append(ast.unparse(node.target))
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names += ast.literal_eval(node.value)
    return sorted(names)


def errors() -> list[str]:
    """What the package may raise on purpose."""
    tree = ast.parse((ROOT / "atommem_gym" / "errors.py").read_text(encoding="utf-8"))
    return [node.name for node in tree.body if isinstance(node, ast.ClassDef)]


def public_names() -> dict[str, list[str]]:
    """The public names of every package and module that has any."""
    found = {package: face(init) for package, init in packages() if package not in NOT_PROMISED}
    found["atommem_gym.errors"] = errors()
    listed = runpy.run_path(str(ROOT / "tests" / "net" / "paths.py"))
    for module, names in {**listed["PUBLIC"], **listed["OPTIONAL"]}.items():
        found[module] = sorted({*found.get(module, ()), *names})
    return {module: names for module, names in sorted(found.items()) if names}


def section() -> str:
    """The list as it stands in the page, between its marks."""
    lines = [f"- **{module}**: {', '.join(f'`{name}`' for name in names)}" for module, names in public_names().items()]
    return "\n".join([BEGIN, "", *lines, "", END])


def main() -> int:
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(before + section() + after, encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
