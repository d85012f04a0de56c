"""Learners: PPO and GRPO in one file each, and what veRL needs."""

import lazy_loader

# Without its ``__dir__``: help() loads whatever dir() lists, and each module needs an extra.
__getattr__, _, __all__ = lazy_loader.attach_stub(__name__, __file__)
