"""The pages on plugging in are followed to the letter, in an empty folder and in processes of their own.

A block of Python goes into the file that the sentence before it names; the commands of a shell block run one after the
other; a block of text after them is what they print, in this order, with ``…`` for what is left out.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs" / "plugins"
PAGES = sorted(path.stem for path in DOCS.glob("*.md") if path.stem != "index")
_BLOCK = re.compile(r"((?:[^\n]+\n)*)\n```(python|bash|text)\n(.*?)```", re.DOTALL)


def blocks(page: str) -> list[tuple[str, str, str]]:
    """The paragraph before each block, its language, and the block."""
    return [(found[1], found[2], found[3]) for found in _BLOCK.finditer((DOCS / f"{page}.md").read_text("utf-8"))]


def run(command: str, folder: Path) -> str:
    """What a command prints; it finds the programs of this environment and no module but those of the folder."""
    programs = Path(sys.executable).parent
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    env |= {"PATH": f"{programs}{os.pathsep}{env['PATH']}", "COLUMNS": "160", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, shell=True, cwd=folder, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def check_printed(block: str, printed: str) -> None:
    place = 0
    for line in block.splitlines():
        if line != "…":
            assert line in printed[place:], f"{line!r} is not printed where it should:\n{printed}"
            place = printed.index(line, place) + len(line)


def test_every_part_has_a_page() -> None:
    assert PAGES == ["agent", "dialect", "embedder", "store", "tokenizer", "world"]
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    assert all(f"({page}.md)" in index for page in PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_the_page_is_followed_to_the_letter(page: str, tmp_path: Path) -> None:
    printed = ""
    evaluated = checked = False
    for before, language, block in blocks(page):
        if language == "python":
            [name] = re.findall(r"`(\w+\.py)`", before)
            (tmp_path / name).write_text(block, encoding="utf-8")
        elif language == "text":
            check_printed(block, printed)
        else:
            printed = ""
            for command in block.splitlines():
                if command.startswith("pip install"):
                    continue  # the tests run where this has been done
                printed += run(command, tmp_path)
                evaluated |= " eval " in command
                checked |= "replay" in command and "--check" in command
    assert evaluated, "the part is proved in an evaluation"
    assert checked, "its traces are replayed"
    assert shutil.which("atommem", path=str(Path(sys.executable).parent))


@pytest.mark.parametrize("page", PAGES)
def test_one_file_is_enough(page: str) -> None:
    files = [before for before, language, _ in blocks(page) if language == "python"]
    assert len(files) == (2 if page == "world" else 1), "play.py belongs to the world's page; a part is one file"
