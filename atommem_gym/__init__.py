"""Reinforcement-learning environments for learnable agent memory; importing registers every id with Gymnasium.

The subpackages (``atommem_gym.envs``, ``atommem_gym.testing``, …) are loaded at their first use.
"""

from importlib.metadata import version

import lazy_loader

from atommem_gym.registration import register_all

__version__ = version("atommem-gym")

register_all()

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
