"""A generated world of codes that are told, changed and erased on request, so that memory needs Delete (SPEC D9)."""

import lazy_loader

from atommem_gym.task import Task

TASK = Task(
    "Forget",
    "atommem_gym.worlds.forget.items:from_config",
    options="atommem_gym.worlds.forget.options:ForgetOptions",
    # A budget for the codes that are valid and may be kept; with unlimited notes nothing would have to be deleted.
    defaults={
        "source": "synthetic",
        "chunk_tokens": 500,
        "question_visible": "end",
        "scratchpad": False,
        "max_entries": 20,
    },
    summary="codes of which some are to be erased; keeping one spoils the answers",
    difficulty="atommem_gym.worlds.forget.options:at_difficulty",
    entry_point="atommem_gym.envs:ForgetEnv",
    abstention=True,
    contexts=True,
)
"""The task behind ``AtomMem-Forget-v0``."""

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
