from .team import TeamEnv as TeamEnv
from .team import env as env
from .team import parallel_env as parallel_env
from .team import raw_env as raw_env
