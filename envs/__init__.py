"""Gymnasium environments in all forms (plain, vector, pool, team), and their wrappers."""

import warnings
from importlib import import_module

import lazy_loader

_attribute, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
_FORMER = {
    "VectorCurriculum": "wrappers.vector.Curriculum",
    "RecordVectorTraces": "wrappers.vector.RecordTraces",
    "vector_wrappers": "wrappers.vector",
}
"""Former names, which still work, and their present names."""


def __getattr__(name: str) -> object:
    if name not in _FORMER:
        return _attribute(name)
    now = f"{__name__}.{_FORMER[name]}"
    warnings.warn(f"{__name__}.{name} is now called {now}", DeprecationWarning, stacklevel=2)
    room, _, last = now.rpartition(".")
    return getattr(import_module(room), last)
