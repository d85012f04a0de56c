"""Sdist and wheel are complete, and `.ci/distributions.py`, which says so at a release, finds what is not."""

from __future__ import annotations

import io
import runpy
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(
    not (ROOT / ".git").exists() or not shutil.which("git"),
    reason="needs git and a checkout, to know what belongs to it",
)
CHECK = runpy.run_path(str(ROOT / ".ci" / "distributions.py"))
PARTS = ("Makefile", "LICENSE", "README.md", ".ci/run")
PARTS += ("tests/a.py", "docs/a.md", "benchmarks/a.py", "verl_configs/a.sh", "bridges/a.py")
PACKAGE_FILES = {"atommem_gym/__init__.py": "1", "atommem_gym/prompts/crud.j2": "2"}
REPOSITORY = {**dict.fromkeys(PARTS, "x"), **PACKAGE_FILES, "envs/pool.py": "3", "agents/tidy.py": "4"}
PACKAGE = {**PACKAGE_FILES, "atommem_gym/envs/pool.py": "3", "atommem_gym/agents/tidy.py": "4"}
METADATA = {"atommem_gym-0.2.0.dist-info/RECORD": "5"}


def distributions(
    folder: Path, sdist: Mapping[str, str], wheel: Mapping[str, str], other: Mapping[str, str]
) -> tuple[str, str, str]:
    """A repository, a folder of distributions, and a second wheel: what the check is given."""
    for name, text in REPOSITORY.items():
        (folder / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "tree" / name).write_text(text, encoding="utf-8")
    subprocess.run(["git", "init", "--quiet", str(folder / "tree")], check=True)
    (folder / "dist").mkdir()
    with tarfile.open(folder / "dist" / "atommem_gym-0.2.0.tar.gz", "w:gz") as packed:
        for name, text in {**sdist, "PKG-INFO": "", "atommem_gym.egg-info/SOURCES.txt": ""}.items():
            member = tarfile.TarInfo(f"atommem_gym-0.2.0/{name}")
            member.size = len(text)
            packed.addfile(member, io.BytesIO(text.encode()))
    for path, files in ((folder / "dist" / "a.whl", wheel), (folder / "b.whl", other)):
        with zipfile.ZipFile(path, "w") as archive:
            for name, text in files.items():
                archive.writestr(name, text)
    return str(folder / "tree"), str(folder / "dist"), str(folder / "b.whl")


WHOLE = {**PACKAGE, **METADATA}
WITHOUT_PROMPTS = {name: text for name, text in WHOLE.items() if not name.endswith(".j2")}


@pytest.mark.parametrize(
    ("sdist", "wheel", "other", "says"),
    [
        (REPOSITORY, WHOLE, WHOLE, ""),
        ({**REPOSITORY, "tests/a.py": "y"}, WHOLE, WHOLE, "is not the repository: different tests/a.py"),
        ({**REPOSITORY, "runs/mine.json": "{}"}, WHOLE, WHOLE, "is not the repository: too much runs/mine.json"),
        (REPOSITORY, WITHOUT_PROMPTS, WITHOUT_PROMPTS, "is not the package: missing atommem_gym/prompts/crud.j2"),
        (REPOSITORY, {**WHOLE, "envs/pool.py": "3"}, WHOLE, "is not the package: too much envs/pool.py"),
        (
            REPOSITORY,
            WHOLE,
            {**WHOLE, **dict.fromkeys(METADATA, "6")},
            "build different wheels: different atommem_gym-0",
        ),
    ],
)
def test_what_is_not_complete_is_named(
    sdist: dict[str, str],
    wheel: dict[str, str],
    other: dict[str, str],
    says: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert CHECK["main"](*distributions(tmp_path, sdist, wheel, other)) == (1 if says else 0)
    assert says in capsys.readouterr().out


def test_an_sdist_without_what_is_needed_to_test_it_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(REPOSITORY, "tests/a.py")
    assert CHECK["main"](*distributions(tmp_path, REPOSITORY, WHOLE, WHOLE)) == 1
    assert "lacks tests/" in capsys.readouterr().out


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the repository as it stands, built of its package's files alone."""
    folder = tmp_path_factory.mktemp("wheel")
    tree = folder / "tree"
    tree.mkdir()
    for name in ("atommem_gym", "envs", "agents", "pyproject.toml", "README.md", "LICENSE"):
        (tree / name).symlink_to(ROOT / name)
    program = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"
    command = [sys.executable, "-c", program, str(folder)]
    built = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return folder / built.stdout.splitlines()[-1]


def test_the_wheel_holds_the_package_s_files_and_no_others(wheel: Path) -> None:
    """A file of a kind that no rule of package-data names is in the repository and not in the wheel."""
    files: dict[str, Any] = CHECK["of_tree"](ROOT)
    wanted, found = CHECK["installed"](files), CHECK["without_metadata"](CHECK["of_wheel"](wheel))
    assert {"atommem_gym/envs/pool/pool.py", "atommem_gym/prompts/crud.j2"} <= set(wanted)
    assert CHECK["differences"]("the wheel", wanted, found) == []


def test_the_wheel_s_metadata_hold_readme_licence_and_bounds(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as packed:
        [name] = [name for name in packed.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = packed.read(name).decode("utf-8")
        names = packed.namelist()
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert "Description-Content-Type: text/markdown" in metadata
    assert "# atommem-gym" in metadata
    assert "Requires-Python: >=3.10" in metadata
    assert "License-Expression: Apache-2.0" in metadata
