"""Where the cache folder is: where the user says, or else where the system keeps caches, as it always was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import platformdirs
import pytest
from platformdirs.macos import MacOS
from platformdirs.unix import Unix
from platformdirs.windows import Windows

from atommem_gym.files.cache import cache_folder


@pytest.mark.parametrize(
    ("system", "environment", "place"),
    [
        (Unix, {"XDG_CACHE_HOME": ""}, "home/.cache/atommem-gym"),
        (Unix, {"XDG_CACHE_HOME": "{0}/xdg"}, "xdg/atommem-gym"),
        (MacOS, {"XDG_CACHE_HOME": ""}, "home/Library/Caches/atommem-gym"),
        (Windows, {}, "local/atommem-gym"),
    ],
)
def test_the_cache_folder_is_the_systems(
    system: type[Any], environment: dict[str, str], place: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("ATOMMEM_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(platformdirs, "PlatformDirs", system)
    monkeypatch.setattr("platformdirs.windows.get_win_folder", lambda name: str(tmp_path / "local"))
    for name, value in environment.items():
        monkeypatch.setenv(name, value.format(tmp_path))
    assert cache_folder() == tmp_path / place


def test_the_users_word_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ATOMMEM_CACHE", "~/mine")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "mine"
