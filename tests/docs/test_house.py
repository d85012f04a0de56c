"""The house itself: rooms that are installed, rooms that are not too full, and imports that go in one direction."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
SOURCES = {"atommem_gym": "atommem_gym", "atommem_gym.envs": "envs", "atommem_gym.agents": "agents"}
"""Where the installed packages stand, as ``[tool.setuptools.package-dir]`` has it."""
SETUP = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
MOST_MODULES = 16
CROWDED = {
    "benchmarks",  # is being split into rooms
    "atommem_gym/evaluation",  # one over
}
"""Rooms that still hold more; whoever empties one takes its name out."""
CIRCLES = {
    frozenset({"atommem_gym.scoring.judge", "atommem_gym.scoring.scorers"}),  # is being untied
    frozenset(
        f"atommem_gym.agents.players.{name}"
        for name in ("language_model", "sampling", "openai_model", "transformers_model")
    ),
}
"""Circles of imports that still stand; whoever unties one takes it out."""
HEAVY = ("pyarrow", "torch", "pymilvus", "milvus_lite", "pettingzoo", "tyro", "rich", "matplotlib")


def folders(top: Path) -> Iterator[Path]:
    """``top`` and the folders below it that hold modules."""
    for folder in (top, *sorted(path for path in top.rglob("*") if path.is_dir())):
        if "__pycache__" not in folder.parts and any(folder.glob("*.py")):
            yield folder


def package_of(folder: Path) -> str:
    """The name under which a folder of sources is installed."""
    top, *below = folder.relative_to(ROOT).parts
    name = next(name for name, source in SOURCES.items() if source == top)
    return ".".join((name, *below))


def modules() -> dict[str, Path]:
    """The file of every module of the package."""
    found = {}
    for source in SOURCES.values():
        for folder in folders(ROOT / source):
            for path in folder.glob("*.py"):
                package = package_of(folder)
                found[package if path.stem == "__init__" else f"{package}.{path.stem}"] = path
    return found


MODULES = modules()


def test_the_sources_stand_where_setuptools_is_told() -> None:
    assert SETUP["package-dir"] == SOURCES


def test_every_folder_of_the_package_is_installed_and_nothing_else() -> None:
    there = {package_of(folder) for source in SOURCES.values() for folder in folders(ROOT / source)}
    assert sorted(SETUP["packages"]) == sorted(there)
    assert {name for name in there if name not in MODULES} == set(), "a package needs an __init__.py"


@pytest.mark.parametrize("top", ["atommem_gym", "envs", "agents", "benchmarks", "tests"])
def test_no_room_is_too_full(top: str) -> None:
    counted = {
        folder.relative_to(ROOT).as_posix(): sum(not path.stem.startswith("__") for path in folder.glob("*.py"))
        for folder in folders(ROOT / top)
    }
    full = {room: count for room, count in counted.items() if count > MOST_MODULES and room not in CROWDED}
    assert not full, f"a room holds {MOST_MODULES} modules at the most; give a subject a room of its own"


# -- circles


def typing_only(test: ast.expr) -> bool:
    return ast.unparse(test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes, those in functions included, without what only type checkers see."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and typing_only(node.test):
            for other in node.orelse:
                yield from (other, *nodes(other))
            continue
        yield node
        yield from nodes(node)


def imported(text: str, module: str, *, package: bool, known: Iterable[str]) -> set[str]:
    """The modules among ``known`` whose code an import of ``module``'s ``text`` needs.

    ``from room import name`` means the module ``room.name`` if there is one, and else the room's own code. The rooms
    that an import passes through are not counted: their faces are lazy.
    """
    found = set()
    for node in nodes(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = module.split(".")[: None if node.level == 0 else len(module.split(".")) - node.level + package]
            base = ".".join(([] if node.level == 0 else above) + ([node.module] if node.module else []))
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                found.add(inner if inner in known else base)
    return {name for name in found if name in known and name != module}


def circles(graph: dict[str, set[str]]) -> set[frozenset[str]]:
    """The groups of modules each of which leads back to itself: strongly connected components of two or more."""
    reached: dict[str, set[str]] = {}
    for start in graph:
        seen: set[str] = set()
        waiting = list(graph[start])
        while waiting:
            name = waiting.pop()
            if name not in seen:
                seen.add(name)
                waiting += graph[name]
        reached[start] = seen
    return {
        frozenset({name, *(other for other in reached[name] if name in reached[other])})
        for name in graph
        if name in reached[name]
    }


def test_the_search_for_circles_sees_functions_and_relative_imports_but_no_types() -> None:
    known = {"p", "p.a", "p.b", "p.b.c", "p.b.d"}
    text = (
        "from typing import TYPE_CHECKING\nimport p.b.c\n"
        "if TYPE_CHECKING:\n    from p.a import X\nelse:\n    from p.b import Y\n"
        "def f():\n    from . import d\n"
    )
    assert imported(text, "p.b.e", package=False, known=known) == {"p.b.c", "p.b", "p.b.d"}
    assert imported("from .a import x\nfrom . import y", "p", package=True, known=known) == {"p.a"}
    assert imported("from ..a import x", "p.b.c", package=False, known=known) == {"p.a"}
    graph = {"p": set(), "p.a": {"p.b"}, "p.b": {"p.b.c"}, "p.b.c": {"p.a", "p"}, "p.b.d": {"p.a"}}
    assert circles(graph) == {frozenset({"p.a", "p.b", "p.b.c"})}


def test_no_module_imports_in_a_circle() -> None:
    graph = {
        name: imported(path.read_text(encoding="utf-8"), name, package=path.stem == "__init__", known=MODULES)
        for name, path in MODULES.items()
    }
    assert sum(map(len, graph.values())) > len(graph), "the graph is too thin to be that of this package"
    found = circles(graph) - CIRCLES
    assert not found, f"these modules import each other: {[sorted(circle) for circle in found]}; move what both need"


# -- faces

FACES = [(name, path.with_suffix(".pyi")) for name, path in MODULES.items() if path.with_suffix(".pyi").exists()]


def test_there_are_faces() -> None:
    assert len(FACES) >= 5


@pytest.mark.parametrize(("package", "face"), FACES, ids=[name for name, _ in FACES])
def test_every_name_of_a_face_exists(package: str, face: Path) -> None:
    room = importlib.import_module(package)
    names = [
        alias.asname or alias.name
        for node in ast.walk(ast.parse(face.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ]
    assert names
    if package in ("atommem_gym.agents.learn", "atommem_gym.bridges"):  # each module needs an extra
        assert set(names) == set(room.__all__)
        assert all(f"{package}.{name}" in MODULES for name in names)
        return
    assert set(names) <= set(dir(room))
    if package == "atommem_gym.envs.team":
        pytest.importorskip("pettingzoo", reason="needs PettingZoo: pip install 'atommem-gym[team]'")
    assert [name for name in names if not hasattr(room, name)] == []


def test_importing_the_package_loads_nothing_heavy() -> None:
    script = f"import sys, atommem_gym; print(sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
