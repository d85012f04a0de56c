from . import grpo as grpo
from . import ppo as ppo
from . import ppo_episodes as ppo_episodes
