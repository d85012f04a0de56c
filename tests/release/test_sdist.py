"""The source distribution is complete: whoever has it has all that is under version control, and nothing else."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MADE = {"PKG-INFO", "setup.cfg"}
"""What setuptools adds, besides ``*.egg-info``."""


def tracked() -> list[str]:
    """Paths under version control, also those that are not committed yet."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=False) if shutil.which("git") else None
    if listed is None or listed.returncode != 0:
        pytest.skip("needs git and a checkout, to know what is under version control")
    return sorted(name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file())


def test_finding_6_9_the_sdist_holds_what_is_under_version_control(tmp_path: Path) -> None:
    names = tracked()
    assert {"Makefile", "docs/semantics.md", "benchmarks/stores.py", "tests/conftest.py"} <= set(names)
    tree = tmp_path / "tree"
    for name in names:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, tree / name)
    # Rubbish of a working folder must stay out.
    (tree / "envs" / "__pycache__").mkdir()
    (tree / "envs" / "__pycache__" / "team.cpython-310.pyc").write_bytes(b"")
    (tree / "runs").mkdir()
    (tree / "runs" / "mine.json").write_text("{}")
    program = "import sys; from setuptools import build_meta; print(build_meta.build_sdist(sys.argv[1]))"
    command = [sys.executable, "-c", program, str(tmp_path)]
    built = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    archive = tmp_path / built.stdout.splitlines()[-1]
    with tarfile.open(archive) as packed:
        found = {member.name.partition("/")[2] for member in packed.getmembers() if member.isfile()}
    assert sorted(set(names) - found) == []
    assert sorted(name for name in found - set(names) - MADE if ".egg-info/" not in name) == []
