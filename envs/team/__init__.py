"""Teams of agents over one memory, in PettingZoo's forms: parallel_env, env (AEC) and raw_env."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
