"""The environments in other stacks: one module each, by that stack's conventions, with an extra of its name.

None has a rule of its own: what an episode is and does lies below, in ``atommem_gym.agents.session`` and the pool.
"""

import lazy_loader

# Without its ``__dir__``: help() loads whatever dir() lists, and each module needs an extra.
__getattr__, _, __all__ = lazy_loader.attach_stub(__name__, __file__)
