"""Needles in haystacks of up to millions of tokens, after RULER (arXiv 2404.06654; SPEC D4)."""

import lazy_loader

from atommem_gym.task import Task

TASK = Task(
    "Needle",
    "atommem_gym.worlds.needle.items:from_config",
    options="atommem_gym.worlds.needle.options:NeedleOptions",
    defaults={"source": "synthetic"},
    summary="sentences hidden in a haystack of up to millions of tokens",
    difficulty="atommem_gym.worlds.needle.options:at_difficulty",
    entry_point="atommem_gym.envs:NeedleEnv",
)
"""The task behind ``AtomMem-Needle-v0``."""

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
