"""What a release says of itself is the same in every place that says it."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from atommem_gym.commands import run
from atommem_gym.envs import snapshots
from atommem_gym.envs.team import branching
from atommem_gym.evaluation import results
from atommem_gym.evaluation.protocols import protocol
from atommem_gym.records import corpus
from atommem_gym.stores import milvus_rows
from atommem_gym.traces.record import READ_VERSIONS, TRACE_VERSION

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
VERSION: str = PROJECT["version"]
PROMISES = ROOT / "docs" / "public_api.md"


def citation() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    return found


def sections() -> list[str]:
    """The second-level titles of the changelog."""
    return re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)


def test_the_citation_names_the_version_the_licence_and_the_words_of_the_package() -> None:
    said = citation()
    assert said["version"] == VERSION
    assert said["license"] == PROJECT["license"]
    assert set(said["keywords"]) <= set(PROJECT["keywords"])


def test_the_changelog_begins_with_what_is_unreleased_and_then_this_version_with_its_day() -> None:
    first, second, *_ = sections()
    assert first == "Unreleased"
    number, _, day = second.partition(" – ")
    assert number == VERSION
    assert day == str(citation()["date-released"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", day)


def test_the_commands_that_an_installed_release_is_tried_with_run() -> None:
    runpy.run_path(str(ROOT / ".ci" / "installed.py"))["try_the_commands"](VERSION)


def test_the_classifiers_name_every_python_that_is_tested() -> None:
    named = {one.rpartition(" :: ")[2] for one in PROJECT["classifiers"] if "Python :: 3." in one}
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    [others] = re.findall(r"^PYTHONS \?= (.+)$", makefile, re.MULTILINE)
    # 3.11 is what `make test` runs.
    assert named == {*others.split(), "3.11"}
    assert PROJECT["requires-python"] == f">={min(named, key=lambda one: int(one.partition('.')[2]))}"


# -- what is promised (docs/public_api.md)


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """``docs/hooks/public_names.py``."""
    return runpy.run_path(str(ROOT / "docs" / "hooks" / "public_names.py"))


def test_the_list_of_public_names_is_what_faces_and_documentation_offer(names: dict[str, Any]) -> None:
    page = PROMISES.read_text(encoding="utf-8")
    behind = "docs/public_api.md is behind the faces: run `python docs/hooks/public_names.py` and commit what it writes"
    assert names["section"]() in page, behind


def test_the_list_finds_the_names_of_both_kinds_of_faces(names: dict[str, Any]) -> None:
    found = names["public_names"]()
    assert "AtomMemPool" in found["atommem_gym.envs"]  # a stub
    assert "TASK" in found["atommem_gym.worlds.drift"]  # declared in a stub
    assert "read_run" in found["atommem_gym.evaluation"]  # __all__
    assert found["atommem_gym"] == ["__version__"]  # rooms are no names
    assert "SnapshotError" in found["atommem_gym.errors"]
    assert "Replayer" in found["atommem_gym.traces.replay"]  # imported by the documentation
    assert "atommem_gym.terminal" not in found


def test_every_public_name_has_a_row_with_its_link_its_path_and_a_sentence(names: dict[str, Any]) -> None:
    page = PROMISES.read_text(encoding="utf-8")
    rows = re.findall(r"^\| \[`(\w+)`\]\(reference/(\w+\.md)#([\w.]+)\) \| (.+?) \| (.+) \|$", page, re.MULTILINE)
    assert len(rows) > 200
    for name, file, anchor, _, said in rows:
        described = (ROOT / "docs" / "reference" / file).read_text(encoding="utf-8").splitlines()
        assert f"::: {anchor}" in described, name
        assert 5 < len(said) < 200, f"the first sentence of {name} says nothing, or too much: {said!r}"
    listed = [(path, name) for name, _, _, paths, _ in rows for path in re.findall(r"`([\w.]+)`", paths)]
    wanted = [(path, name) for path, found in names["public_names"]().items() for name in found]
    assert sorted([*listed, ("atommem_gym", "__version__")]) == sorted(wanted)


def test_the_first_sentence_is_a_cell_of_a_table(names: dict[str, Any]) -> None:
    first = names["first_sentence"]
    assert first("Reads :class:`~a.b.Item` and ``x|y`` (SPEC D2, E1). More.\n\nArgs:") == r"Reads `Item` and `x\|y`"
    assert first("Two\nlines: ``.jsonl`` or ``.gz``.") == "Two lines: `.jsonl` or `.gz`"
    assert first("") == ""


def test_every_former_name_that_still_works_is_listed_and_warns() -> None:
    from atommem_gym import envs

    page = PROMISES.read_text(encoding="utf-8")
    for former, now in envs._FORMER.items():
        assert f"| `{former}` | `atommem_gym.envs.{now}` |" in page
        with pytest.warns(DeprecationWarning, match=re.escape(f"atommem_gym.envs.{now}")):
            getattr(envs, former)


WRITTEN = {
    "traces": (TRACE_VERSION, READ_VERSIONS),
    "kept databases": (milvus_rows.FORMAT, range(1, milvus_rows.FORMAT + 1)),
    "snapshots of environments": (snapshots.VERSION, range(1, snapshots.VERSION + 1)),
    "snapshots of teams": (branching.VERSION, (branching.VERSION,)),
    "rows of evaluations": (results.VERSION, (results.VERSION,)),
    "files of `atommem run`": (run.RESULTS_VERSION, ()),
    "protocols": (protocol.VERSION, (protocol.VERSION,)),
    "converted records in the cache": (corpus.FORMAT_VERSION, (corpus.FORMAT_VERSION,)),
}


@pytest.mark.parametrize("what", WRITTEN)
def test_the_page_names_the_version_of_every_file(what: str) -> None:
    written, read = WRITTEN[what]
    shown = f"{min(read)} to {max(read)}" if len(read) > 1 else str(*read) or "–"
    assert f"| {what} | {written} | {shown} |" in PROMISES.read_text(encoding="utf-8")


# -- what a stranger is told (CONTRIBUTING.md)


def test_every_make_target_is_described() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    [phony] = re.findall(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    rows = re.findall(r"^\| (`make .+?) \|", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.MULTILINE)
    described = {name.removeprefix("make ") for row in rows for name in re.findall(r"`([^`]+)`", row)}
    assert set(phony.split()) == described


def test_every_room_of_the_package_is_described() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    [table] = re.findall(r"\| room \| .+?\n\n", text, re.DOTALL)
    first = [line.split(" | ")[0] for line in table.splitlines()]
    named = {name.removeprefix("atommem_gym/") for line in first for name in re.findall(r"`([^`]+)`", line)}
    rooms = {init.parent.name for init in (ROOT / "atommem_gym").glob("*/__init__.py")}
    assert rooms <= named


def test_links_for_contributors_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)\s#]+)", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    assert len(targets) > 5
    assert [target for target in targets if "://" not in target and not (ROOT / target).exists()] == []
