"""Python programs over a database of the embedded store, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PRELUDE = """
import os, resource, signal, sys, tempfile, threading
import numpy as np
from atommem_gym.errors import StoreError
from atommem_gym.memory.protocols import Search, Write
from atommem_gym.stores.loading import open_store
path = sys.argv[1]
def one(episode, entry, text="t", deletes=(), state=None):
    return Write(episode, [entry], [text], np.full((1, 4), entry, np.float32), [i for i in deletes if i > 0], state)
def say(*words):
    print(*words, flush=True)
"""


@pytest.fixture
def kept(tmp_path: Path) -> str:
    """The store form of the database that a ``program`` knows as ``path``."""
    return f"milvus://{tmp_path}/kept.db"


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Starts Python code in a process of its own, with its own folder for temporary files and `path` for a database."""
    started: list[subprocess.Popen[str]] = []
    temporary = tmp_path / "tmp"
    temporary.mkdir()

    def start(code: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", PRELUDE + code, str(tmp_path / "kept.db")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"TMPDIR": str(temporary)},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def output(process: subprocess.Popen[str]) -> list[str]:
    """All that a program prints until it ends, which must be well."""
    text, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return text.splitlines()


def line(process: subprocess.Popen[str]) -> str:
    """The next line that a program prints."""
    assert process.stdout is not None
    return process.stdout.readline().strip()
