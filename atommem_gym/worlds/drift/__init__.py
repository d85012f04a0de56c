"""A generated world whose facts change along the stream, so that memory needs Update and Delete (SPEC D5)."""

import lazy_loader

from atommem_gym.task import Task

TASK = Task(
    "Drift",
    "atommem_gym.worlds.drift.items:from_config",
    options="atommem_gym.worlds.drift.options:DriftOptions",
    # A budget for what is true at the end, not for everything that was said.
    defaults={
        "source": "synthetic",
        "chunk_tokens": 500,
        "question_visible": "end",
        "max_entries": 12,
        "max_scratchpad_tokens": 512,
    },
    summary="facts that change, are corrected and withdrawn; fewer entries than notices",
    difficulty="atommem_gym.worlds.drift.options:at_difficulty",
    entry_point="atommem_gym.envs:DriftEnv",
)
"""The task behind ``AtomMem-Drift-v0``."""

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
