"""The API reference describes each public name once, and the docstrings it is made of say what a caller needs."""

from __future__ import annotations

import ast
import re
import runpy
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mkdocstrings_handlers.python", reason="needs mkdocstrings: pip install 'atommem-gym[docs]'")
griffe = pytest.importorskip("griffe")

ROOT = Path(__file__).resolve().parents[2]
HOOK: dict[str, Any] = runpy.run_path(str(ROOT / "docs" / "hooks" / "reference.py"))
ENTRIES: dict[str, list[str]] = HOOK["entries"]()
ALSO = ("atommem_gym.readers.", "atommem_gym.bridges.")
"""Packages without a face: the reference shows some of their names, which are not promised."""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The sources as griffe reads them; nothing is imported."""
    tree = HOOK["lay_out"](tmp_path_factory.mktemp("sources"))
    loader = griffe.GriffeLoader(search_paths=[tree], allow_inspection=False)
    return loader.load("atommem_gym", try_relative_path=False)


def described(package: Any, full: str) -> Any:
    """The definition of a name, wherever it stands; ``KeyError`` if there is none."""
    found = package[full.removeprefix("atommem_gym.")]
    return found.final_target if found.is_alias else found


def public(package: Any) -> set[str]:
    """Where each public name is defined, packages and the version left out."""
    listed = runpy.run_path(str(ROOT / "docs" / "hooks" / "public_names.py"))["public_names"]()
    names = [f"{module}.{name}" for module, names in listed.items() for name in names if name != "__version__"]
    return {found.path for found in (described(package, name) for name in names) if not found.is_module}


def test_every_public_name_stands_on_exactly_one_page_of_the_reference(package: Any) -> None:
    written = Counter(described(package, name).path for names in ENTRIES.values() for name in names)
    wanted = public(package)
    assert len(wanted) > 150
    assert sorted(wanted - set(written)) == [], "write `::: NAME` on the page of docs/reference that fits"
    assert [name for name, count in written.items() if count > 1] == []
    assert [name for name in written if name not in wanted and not name.startswith(ALSO)] == []


def test_the_overview_lists_the_names_of_every_page() -> None:
    overview = (ROOT / "docs" / "reference" / "index.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| \[[^\]]+\]\((\w+\.md)\) \| (.+) \|$", overview, re.MULTILINE))
    assert set(rows) == set(ENTRIES) - {"index.md"}
    for page, row in rows.items():
        assert re.findall(r"`(\w+)`", row) == list(dict.fromkeys(name.rpartition(".")[2] for name in ENTRIES[page]))


NAMES = [name for names in ENTRIES.values() for name in names]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_of_the_reference_says_what_it_is_and_takes_and_raises(package: Any, name: str) -> None:
    found = described(package, name)
    assert found.docstring is not None, f"{found.path} has no docstring"
    if found.is_class:
        assert [one.path for one in methods(found) if one.docstring is None] == [], "methods without a docstring"
    for function, text in functions(found):
        words = set(re.findall(r"\w+", text))
        arguments = [one.name for one in function.parameters if one.kind.value[:8] != "variadic" and one.name != "self"]
        assert [one for one in arguments if one not in words] == [], f"{function.path} does not say what these are"
        assert sorted(raised(function) - words) == [], f"{function.path} raises what its docstring does not name"


def methods(found: Any) -> Iterator[Any]:
    """The public methods that a class defines itself."""
    for one in found.members.values():
        if not one.is_alias and one.is_function and not one.name.startswith("_"):
            yield one


def functions(found: Any) -> Iterator[tuple[Any, str]]:
    """A function, or how a class is made if it has an ``__init__`` of its own, with what documents the arguments.

    Fields of dataclasses have their own docstrings, and stand in the signature where their names say it all.
    """
    if found.is_function:
        yield found, found.docstring.value
    elif found.is_class and "__init__" in found.members and "dataclass" not in found.labels:
        init = found.members["__init__"]
        yield init, found.docstring.value + (init.docstring.value if init.docstring else "")


def raised(function: Any) -> set[str]:
    """The errors that a function's own lines raise."""
    lines = Path(function.filepath).read_text(encoding="utf-8").splitlines()[function.lineno - 1 : function.endlineno]
    return set(re.findall(r"\braise (\w+Error)\(", "\n".join(lines))) - {"NotImplementedError"}


def test_docstrings_become_markdown() -> None:
    known = {"atommem_gym.stores.open_store": "stores.md", "a.X": "one.md", "b.X": "two.md"}
    text = "See :func:`~atommem_gym.stores.open_store`, :func:`open_store`, :class:`X` and :mod:`gone.away`.\n\n"
    text += ">>> 1 + 1\n2\n\n    >>> f(\n    ...     2)\n    3\n\nEnd."
    link = "[`{}`][atommem_gym.stores.open_store]"
    assert HOOK["markdown"](text, known) == (
        f"See {link.format('atommem_gym.stores.open_store')}, {link.format('open_store')}, `X` and `gone.away`.\n\n"
        "```pycon\n>>> 1 + 1\n2\n```\n\n    ```pycon\n    >>> f(\n    ...     2)\n    3\n    ```\n\nEnd."
    )
    assert HOOK["markdown"]("One a step (SPEC M3, R2).", {}) == "One a step ([rule M3](../semantics.md#M3), R2)."
    assert HOOK["markdown"]("A test at the end:\n>>> 1", {}).endswith("```pycon\n>>> 1\n```")


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """``docs/hooks/names.py``."""
    return runpy.run_path(str(ROOT / "docs" / "hooks" / "names.py"))


def test_a_guide_links_the_first_mention_of_a_public_name(names: dict[str, Any]) -> None:
    known = names["known_names"]()
    page = (
        "# `AtomMemPool`\n`AtomMemPool(…)` and `AtomMemPool`, `env`, `unknown`, [`StoreError`](x.md), ``RecordError``\n"
        "```python\n# `ConfigError`\nfrom atommem_gym.actions import (\n    Answer,\n    parse,\n)\n```\n"
        "`envs.Curriculum`, `wrappers.vector.Curriculum`, `tag_names`\n"
    )
    text = names["linked"](page, "plugins/some.md", known)
    expected = page
    for code, place in (
        ("`AtomMemPool(…)`", "pool.md#atommem_gym.envs.AtomMemPool"),
        ("`envs.Curriculum`", "vector.md#atommem_gym.envs.Curriculum"),
        ("`wrappers.vector.Curriculum`", "vector.md#atommem_gym.envs.wrappers.vector.Curriculum"),
    ):
        expected = expected.replace(code, f"[{code}](../reference/{place})")
    assert text.startswith(expected)
    assert text.removeprefix(expected) == (
        "\nIn the reference: [`Answer`](../reference/actions.md#atommem_gym.actions.Answer), "
        "[`parse`](../reference/actions.md#atommem_gym.actions.parse).\n"
    )


def test_guides_are_linked_with_the_reference(names: dict[str, Any]) -> None:
    known = names["known_names"]()
    assert set(known.values()) <= {(page, name) for page, found in ENTRIES.items() for name in found}
    pages = [path for folder in ("", "plugins") for path in (ROOT / "docs" / folder).glob("*.md")]
    without = [
        path.name
        for path in pages
        if "from atommem_gym." in (text := path.read_text(encoding="utf-8"))
        and "reference/" not in names["linked"](text, path.name, known)
    ]
    assert len(pages) > 30
    assert without == []


def undescribed_fields(source: str) -> Iterator[tuple[int, str]]:
    """Line and name of the public fields of public dataclasses that no docstring follows."""
    for found in ast.walk(ast.parse(source)):
        if not isinstance(found, ast.ClassDef) or found.name.startswith("_"):
            continue
        if not any("dataclass" in ast.unparse(decorator) for decorator in found.decorator_list):
            continue
        for field, following in zip(found.body, [*found.body[1:], None], strict=True):
            if not isinstance(field, ast.AnnAssign) or "ClassVar" in ast.unparse(field.annotation):
                continue
            name = ast.unparse(field.target)
            text = getattr(following.value, "value", None) if isinstance(following, ast.Expr) else None
            if not name.startswith("_") and not (isinstance(text, str) and text.strip()):
                yield field.lineno, f"{found.name}.{name}"


def test_every_public_field_of_a_dataclass_has_a_docstring() -> None:
    missing = [
        f"{path.relative_to(ROOT)}:{line} {name}"
        for folder in ("atommem_gym", "envs", "agents")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line, name in undescribed_fields(path.read_text(encoding="utf-8"))
    ]
    assert missing == [], "write one line of docstring below each of these fields"


def test_a_field_without_a_docstring_is_found() -> None:
    source = """
@dataclass(frozen=True)
class Point:
    x: int
    '''Described.'''
    y: int = 0
    _cache: int = 0
    names: ClassVar[str] = "xy"
    z: int
"""
    assert list(undescribed_fields(source)) == [(6, "Point.y"), (9, "Point.z")]
    assert list(undescribed_fields(source.replace("@dataclass(frozen=True)", "@final"))) == []
