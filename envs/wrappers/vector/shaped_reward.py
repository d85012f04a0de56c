"""Reward shaping of vector environments (SPEC R4)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from atommem_gym.envs import shaping
from atommem_gym.envs.shaping import Shaping, ShapingSpec, load_shaping, shaped
from atommem_gym.envs.vector_env import Flags, Rewards, TextVectorWrapper
from atommem_gym.envs.wrappers.base import VectorEnvs, vector_base


class ShapedReward(TextVectorWrapper):
    """Adds shaping terms to the rewards of every step, in the order given, except for a step that is an autoreset.

    Args:
        env: An AtomMem vector environment.
        shaping: The JSON form, or callables, see :func:`atommem_gym.envs.shaping.load_shaping`.

    Example:
        >>> import gymnasium as gym, atommem_gym
        >>> envs = gym.make_vec("AtomMem-Synthetic-v0", num_envs=2, num_docs=20, store="numpy")
        >>> envs = ShapedReward(envs, {"MemoryCost": {"per_entry": 0.01}, "FormatPenalty": {}})
        >>> _ = envs.reset(seed=1)
        >>> envs.step(["<create>a fact</create>", "<create>never closed"])[1].tolist()
        [-0.01, -0.1]
        >>> envs.close()
    """

    def __init__(self, env: VectorEnvs, shaping: ShapingSpec | Iterable[Shaping]) -> None:
        self._base = vector_base(self, env)
        super().__init__(env)
        self.shaping = load_shaping(shaping)

    def step(self, actions: Sequence[str]) -> tuple[Any, Rewards, Flags, Flags, dict[str, Any]]:
        """See ``AtomMemVectorEnv.step``; the last step of an episode is shaped by it in every autoreset mode."""
        observations, rewards, terminations, truncations, infos = self.env.step(actions)
        rewards = np.array(
            [
                reward if stepped is None else shaped(reward, self.shaping, stepped.info, stepped.episode)
                for reward, stepped in zip(rewards.tolist(), self._base.stepped, strict=True)
            ]
        )
        return observations, rewards, terminations, truncations, infos


class MemoryCost(ShapedReward):
    """A cost of memory: a rent for each live entry at each step, and a price for each executed operation.

    Args:
        env: An AtomMem vector environment.
        per_entry: The cost of each entry that is live after the step.
        per_operation: The cost of each executed create, read, update, delete and scratchpad; answers are free.
    """

    def __init__(self, env: VectorEnvs, per_entry: float = 0.0, per_operation: float = 0.0) -> None:
        super().__init__(env, [shaping.MemoryCost(per_entry, per_operation)])


class EvidenceReward(ShapedReward):
    """A reward for evidence: ``weight`` times the increase of the evidence recall (SPEC E12, lenient).

    Args:
        env: An AtomMem vector environment.
        weight: The reward for complete evidence.
    """

    def __init__(self, env: VectorEnvs, weight: float = 0.5) -> None:
        super().__init__(env, [shaping.EvidenceReward(weight)])


class FormatPenalty(ShapedReward):
    """A penalty for each operation that was rejected because of its format.

    Args:
        env: An AtomMem vector environment.
        penalty: The penalty per operation.
        reasons: The reason codes that count; by default those of malformed text.
    """

    def __init__(
        self, env: VectorEnvs, penalty: float = 0.1, reasons: tuple[str, ...] = shaping.FORMAT_REASONS
    ) -> None:
        super().__init__(env, [shaping.FormatPenalty(penalty, reasons)])
