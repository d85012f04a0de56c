"""A benchmark as a module, with the modules beside it, for the tests of it."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

FOLDER = Path(__file__).resolve().parents[3] / "benchmarks"
_ROOMS = ("reports", "workloads", "contestants")


@contextmanager
def imported(script: str, name: str | None = None) -> Iterator[ModuleType]:
    """``benchmarks/SCRIPT.py`` as it is when it is run; what its import has added is forgotten at the end.

    Args:
        script: Its name.
        name: That of the module, where another one has the script's.
    """
    before = set(sys.modules)
    sys.path.insert(0, str(FOLDER))
    spec = importlib.util.spec_from_file_location(name or script, FOLDER / f"{script}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.path.remove(str(FOLDER))
        beside = {path.stem for path in FOLDER.glob("*.py")} | {spec.name}
        for one in set(sys.modules) - before:
            if one in beside or one.split(".", 1)[0] in _ROOMS:
                del sys.modules[one]
