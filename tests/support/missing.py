"""Packages that look as if they were not installed."""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes a package look as if it were not installed."""
    real = builtins.__import__

    def hide(package: str) -> None:
        def importing(name: str, *args: Any, **kwargs: Any) -> Any:
            if name.split(".")[0] == package:
                raise ModuleNotFoundError(f"No module named {package!r}")
            return real(name, *args, **kwargs)

        monkeypatch.setattr(builtins, "__import__", importing)
        if package in ("sentence_transformers", "transformers"):
            # What looks for them without an import finds nothing either.
            monkeypatch.setitem(sys.modules, package, None)

    return hide
