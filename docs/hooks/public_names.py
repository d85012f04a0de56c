"""Write the tables of public names into docs/public_api.md: `python docs/hooks/public_names.py`.

Public is what a package's face offers (its ``__init__.pyi``, or ``__all__`` of its ``__init__.py``), every error, and
what the documentation imports from a module below a package, as ``tests/net/paths.py`` lists it. Each name stands once,
under the subject whose page of the reference describes it, with the first sentence of its docstring. Sources are read
and nothing is imported. A test holds the page to it.
"""

from __future__ import annotations

import ast
import re
import runpy
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "public_api.md"
REFERENCE = ROOT / "docs" / "reference"
SOURCES = {"atommem_gym.envs": "envs", "atommem_gym.agents": "agents", "atommem_gym": "atommem_gym"}
"""Where the packages stand in the repository; the longer names first."""
NOT_PROMISED = {"atommem_gym.terminal"}
"""Packages whose face serves this package alone."""
BEGIN = "<!-- The names are written by docs/hooks/public_names.py. -->"
END = "<!-- The end of the names. -->"
GROUPS = {
    "environments.md": "Make an environment, register a task",
    "options.md": "Set an environment up",
    "records.md": "Bring records, generate items",
    "actions.md": "Read and write actions, make prompts",
    "vector.md": "Step many episodes, wrap, shape rewards",
    "pool.md": "Step episodes from coroutines",
    "teams.md": "Play in a team",
    "stores.md": "Keep memories",
    "embedders.md": "Embed texts",
    "scoring.md": "Score answers",
    "agents.md": "Play with agents and language models",
    "sessions.md": "Collect sessions for a trainer",
    "training.md": "Train a small network",
    "credit.md": "Find out which step earned the reward",
    "evaluation.md": "Evaluate and compare",
    "traces.md": "Record, replay and look at episodes",
    "testing.md": "Test what you plugged in",
    "bridges.md": "Train with another framework",
    "errors.md": "Catch errors",
}
"""What a user wants to do, by the page of the reference that describes the names for it, in the order of the page."""


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


class Definition(NamedTuple):
    """Where a name is defined, and what its docstring says first."""

    module: str
    name: str
    said: str


@cache
def _module(module: str) -> tuple[Path, ast.Module, ast.Module | None]:
    """The file of a module, its code, and that of its stub."""
    package, folder = next((name, folder) for name, folder in SOURCES.items() if f"{module}.".startswith(f"{name}."))
    path = ROOT.joinpath(folder, *module.removeprefix(package).split(".")[1:])
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    stub = path.with_suffix(".pyi")
    return (
        path,
        ast.parse(path.read_text(encoding="utf-8")),
        ast.parse(stub.read_text(encoding="utf-8")) if stub.exists() else None,
    )


def definition(module: str, name: str) -> Definition:
    """The definition of a public name, through all faces and imports.

    Raises:
        LookupError: the module neither defines nor imports the name.
    """
    path, code, stub = _module(module)
    for tree in (code, stub):
        for place, node in enumerate(tree.body if tree else ()):
            match node:
                case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef() if node.name == name:
                    return Definition(module, name, first_sentence(ast.get_docstring(node) or ""))
                case ast.Assign(targets=[ast.Name(id=target)]) | ast.AnnAssign(target=ast.Name(id=target)) if (
                    target == name and tree is code
                ):
                    after = code.body[place + 1] if place + 1 < len(code.body) else None
                    documented = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
                    return Definition(module, name, first_sentence(ast.literal_eval(after.value) if documented else ""))
                case ast.ImportFrom(module=origin, level=level) if origin:
                    for alias in node.names:
                        if (alias.asname or alias.name) == name:
                            base = module if path.name == "__init__.py" else module.rpartition(".")[0]
                            parts = base.split(".")[: len(base.split(".")) - level + 1] if level else []
                            return definition(".".join((*parts, origin)), alias.name)
    raise LookupError(f"{module} has no {name}")


def first_sentence(docstring: str) -> str:
    """The first sentence of a docstring, as a cell of a Markdown table.

    >>> first_sentence("Reads :class:`~a.b.Item` of ``x`` (SPEC D2, E1). More.")
    'Reads `Item` of `x`'
    """
    paragraph = " ".join(docstring.strip().split("\n\n")[0].split())
    plain = re.sub(r":\w+:`~?\.?(?:[\w.]*\.)?([^`]+)`", r"`\1`", paragraph).replace("``", "`")
    plain = re.sub(r" \((?:SPEC|PRIVILEGED)[^)]*\)", "", plain)
    return re.split(r"(?<=[^.][.])\s", plain)[0].rstrip(".:;").replace("|", "\\|")


def described() -> dict[tuple[str, str], tuple[str, str]]:
    """The page of the reference and the anchor there, by the module and the name of a definition."""
    found = {}
    for page in sorted(REFERENCE.glob("*.md")):
        for full in re.findall(r"^::: (\S+)$", page.read_text(encoding="utf-8"), re.MULTILINE):
            module, _, name = full.rpartition(".")
            at = definition(module, name)
            found[at.module, at.name] = (page.name, full)
    return found


def section() -> str:
    """The tables as they stand in the page, between its marks."""
    places = described()
    paths: dict[Definition, list[str]] = {}
    for module, names in public_names().items():
        for name in names:
            if (module, name) != ("atommem_gym", "__version__"):
                paths.setdefault(definition(module, name), []).append(module)
    order = {place: number for number, place in enumerate(places)}
    lines = [BEGIN, "", "`atommem_gym.__version__` is the version that is installed.", ""]
    for page, title in GROUPS.items():
        lines += [f"### {title}", "", f"[Reference](reference/{page}).", "", "| name | import it from | what it is |"]
        lines += ["|---|---|---|"]
        here = [one for one in paths if places[one.module, one.name][0] == page]
        for one in sorted(here, key=lambda one: order[one.module, one.name]):
            shortest, *longer = sorted(paths[one], key=lambda path: (path.count("."), path))
            also = f" (also {', '.join(f'`{path}`' for path in longer)})" if longer else ""
            anchor = places[one.module, one.name][1]
            lines += [f"| [`{one.name}`](reference/{page}#{anchor}) | `{shortest}`{also} | {one.said} |"]
        lines += [""]
    return "\n".join([*lines, END])


def main() -> int:
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(before + section() + after, encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
