"""Wrappers for reward shaping (SPEC R4).

For vector environments, wrappers with the same names are in :mod:`atommem_gym.envs.wrappers.vector.shaped_reward`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import gymnasium as gym
from gymnasium.utils import RecordConstructorArgs

from atommem_gym.envs import shaping
from atommem_gym.envs.shaping import Shaping, ShapingSpec, load_shaping, shaped
from atommem_gym.envs.wrappers.base import plain_base
from atommem_gym.step import Observation


class ShapedReward(gym.Wrapper[Observation, str, Observation, str], RecordConstructorArgs):
    """Adds shaping terms to the reward of every step, in the order given.

    A snapshot of the environment does not hold the shaping: a restored episode continues with this wrapper's.

    Args:
        env: An AtomMem environment.
        shaping: The JSON form, or callables, see :func:`atommem_gym.envs.shaping.load_shaping`.

    Example:
        >>> import gymnasium as gym, atommem_gym
        >>> env = gym.make("AtomMem-Synthetic-v0", num_docs=20, store="numpy")
        >>> env = ShapedReward(env, {"MemoryCost": {"per_entry": 0.01}, "FormatPenalty": {}})
        >>> _ = env.reset(seed=1)
        >>> env.step("<create>a fact</create><create>never closed")[1]
        -0.11
        >>> env.close()
    """

    def __init__(self, env: gym.Env[Observation, str], shaping: ShapingSpec | Iterable[Shaping]) -> None:
        RecordConstructorArgs.__init__(self, shaping=shaping)
        self._wrap(env, load_shaping(shaping))

    def _wrap(self, env: gym.Env[Observation, str], shaping: tuple[Shaping, ...]) -> None:
        self._base = plain_base(self, env)
        gym.Wrapper.__init__(self, env)
        self.shaping = shaping

    def step(self, action: str) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Step the environment and shape the reward."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, shaped(float(reward), self.shaping, info, self._base.episode), terminated, truncated, info


class MemoryCost(ShapedReward):
    """A cost of memory: a rent for each live entry at each step, and a price for each executed operation.

    Args:
        env: An AtomMem environment.
        per_entry: The cost of each entry that is live after the step.
        per_operation: The cost of each executed create, read, update, delete and scratchpad; answers are free.

    Example:
        >>> import gymnasium as gym, atommem_gym
        >>> env = MemoryCost(gym.make("AtomMem-Synthetic-v0", num_docs=20, store="numpy"), per_operation=0.01)
        >>> _ = env.reset(seed=1)
        >>> env.step("<create>a fact</create><create>another</create>")[1]
        -0.02
        >>> env.close()
    """

    def __init__(self, env: gym.Env[Observation, str], per_entry: float = 0.0, per_operation: float = 0.0) -> None:
        RecordConstructorArgs.__init__(self, per_entry=per_entry, per_operation=per_operation)
        self._wrap(env, (shaping.MemoryCost(per_entry, per_operation),))


class EvidenceReward(ShapedReward):
    """A reward for evidence: ``weight`` times the increase of the evidence recall (SPEC E12, lenient).

    Over an episode it adds ``weight`` times ``episode_metrics["evidence_recall"]``, minus what the reset showed.

    Args:
        env: An AtomMem environment.
        weight: The reward for complete evidence.

    Example:
        >>> import gymnasium as gym, atommem_gym
        >>> env = EvidenceReward(gym.make("AtomMem-Synthetic-v0", num_docs=20, store="numpy"), weight=0.5)
        >>> _ = env.reset(seed=1)
        >>> evidence = env.unwrapped.item.questions[0].evidence
        >>> round(env.step(f"<scratchpad>{' '.join(e.text for e in evidence)}</scratchpad>")[1], 2)
        0.5
        >>> env.close()
    """

    def __init__(self, env: gym.Env[Observation, str], weight: float = 0.5) -> None:
        RecordConstructorArgs.__init__(self, weight=weight)
        self._wrap(env, (shaping.EvidenceReward(weight),))


class FormatPenalty(ShapedReward):
    """A penalty for each operation that was rejected because of its format.

    Args:
        env: An AtomMem environment.
        penalty: The penalty per operation.
        reasons: The reason codes that count; by default those of malformed text.

    Example:
        >>> import gymnasium as gym, atommem_gym
        >>> env = FormatPenalty(gym.make("AtomMem-Synthetic-v0", num_docs=20, store="numpy"), penalty=0.1)
        >>> _ = env.reset(seed=1)
        >>> env.step("<create>never closed")[1]
        -0.1
        >>> env.close()
    """

    def __init__(
        self,
        env: gym.Env[Observation, str],
        penalty: float = 0.1,
        reasons: tuple[str, ...] = shaping.FORMAT_REASONS,
    ) -> None:
        RecordConstructorArgs.__init__(self, penalty=penalty, reasons=reasons)
        self._wrap(env, (shaping.FormatPenalty(penalty, reasons),))
