"""Every public name can be imported from where it is said to be, and every import of the documentation works."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from net.documented import PACKAGE, ROOT, dotted_names, imports, pages, python_blocks, resolve
from net.paths import OPTIONAL, PUBLIC, labels, public

IMPORTS = [
    (str(page.relative_to(ROOT)), line)
    for page in pages()
    for block in python_blocks(page.read_text(encoding="utf-8"))
    for line in imports(block)
]
HEAVY = sorted({(page, line) for page, line in IMPORTS if any(line.startswith(f"from {home} ") for home in OPTIONAL)})
NAMES = [(str(page.relative_to(ROOT)), name) for page in pages() for name in dotted_names(page.read_text("utf-8"))]


def _or_skip(error: ModuleNotFoundError) -> None:
    """An extra that is not installed is no fault; a module of the package that is not there is one."""
    if (error.name or "").split(".")[0] == PACKAGE:
        raise error
    pytest.skip(f"needs {error.name}")


@pytest.mark.parametrize("label", [one for one in labels() if one.split(":")[0] not in OPTIONAL])
def test_a_public_name_is_where_it_is_said_to_be(label: str) -> None:
    try:
        assert public(label) is not None
    except ModuleNotFoundError as error:
        _or_skip(error)


@pytest.mark.parametrize("module", ["atommem_gym.envs", "atommem_gym.testing"])
def test_the_list_has_all_that_a_package_offers(module: str) -> None:
    offered: list[str] = resolve(module + ".__all__")  # type: ignore[assignment]
    assert set(PUBLIC[module]) == {name for name in offered if find_spec(f"{module}.{name}") is None}  # no rooms


@pytest.mark.parametrize(("page", "line"), sorted({*IMPORTS} - {*HEAVY}))
def test_an_import_of_the_documentation_works(page: str, line: str) -> None:
    try:
        exec(compile(line, page, "exec"), {})
    except ModuleNotFoundError as error:
        _or_skip(error)


def test_names_that_need_torch_are_where_they_are_said_to_be() -> None:
    """All in one test, so that one process alone loads it."""
    assert HEAVY
    try:
        for label in labels():
            if label.split(":")[0] in OPTIONAL:
                assert public(label) is not None
        for page, line in HEAVY:
            exec(compile(line, page, "exec"), {})
    except ModuleNotFoundError as error:
        _or_skip(error)


@pytest.mark.parametrize(("page", "name"), NAMES)
def test_a_dotted_name_of_the_documentation_is_something(page: str, name: str) -> None:
    try:
        resolve(name)
    except ModuleNotFoundError as error:
        _or_skip(error)


def test_there_are_imports_and_names_to_check() -> None:
    assert len(IMPORTS) > 50
    assert len(NAMES) > 3


def test_every_documented_name_is_in_the_list() -> None:
    """What a page imports is public, so a move of it must be written down in paths.py."""
    listed = {name for label in labels() for name in label.split(":")}
    missing = {
        (page, line)
        for page, line in IMPORTS
        if line.startswith("from ")
        for name in line.split(" import ")[1].split(", ")
        if name.split(" as ")[0] not in listed and f"{line.split()[1]}.{name}" not in PUBLIC
    }
    assert not missing, f"add these to {Path(__file__).with_name('paths.py').name}"


@pytest.mark.parametrize("name", ["atommem_gym.nothing", "atommem_gym.envs.Nothing", "atommem_gym.envs:nothing"])
def test_a_name_that_is_nothing_is_found_out(name: str) -> None:
    with pytest.raises(AttributeError, match="is nothing"):
        resolve(name)
