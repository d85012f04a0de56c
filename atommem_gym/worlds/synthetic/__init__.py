"""The synthetic world: multi-hop questions over invented documents, generated from a seed without files."""

import lazy_loader

from atommem_gym.task import Task

TASK = Task(
    "Synthetic",
    "atommem_gym.worlds.synthetic.items:from_config",
    defaults={"source": "synthetic"},
    summary="generated multi-hop questions, no network and no files",
    difficulty="atommem_gym.worlds.synthetic.items:at_difficulty",
    entry_point="atommem_gym.envs:SyntheticEnv",
)
"""The task behind ``AtomMem-Synthetic-v0``."""

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
