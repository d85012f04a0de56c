"""Frozen readers, which answer in the policy's place from what its memory shows (SPEC E13)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
