from .pool import AtomMemPool as AtomMemPool
from .pool_env import PoolEnv as PoolEnv
