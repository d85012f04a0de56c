"""Credit for single operations in vector environments (SPEC R7)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from atommem_gym.envs import credit
from atommem_gym.envs.batching import batch_infos
from atommem_gym.envs.vector_env import Flags, Rewards, TextVectorWrapper
from atommem_gym.envs.wrappers.base import VectorEnvs, vector_base


class HindsightCredit(TextVectorWrapper):
    """Adds the credit of each operation at the end of each episode (SPEC R7); rewards do not change.

    It is in ``infos["credit"]`` where an episode ended, with same-step autoreset in ``infos["final_info"]["credit"]``;
    see :class:`atommem_gym.envs.wrappers.HindsightCredit`. For single sub-environments it is in ``stepped[i].info``,
    too.

    Args:
        env: An AtomMem vector environment.

    Example:
        >>> import gymnasium as gym, atommem_gym
        >>> envs = HindsightCredit(gym.make_vec("AtomMem-Synthetic-v0", num_envs=2, num_docs=8, store="numpy"))
        >>> _ = envs.reset(seed=1)
        >>> _ = envs.step(["<create>a fact</create>", ""])
        >>> infos = envs.step(["<answer>I do not know</answer>"] * 2)[4]
        >>> [operations[0]["operation"] if operations else None for operations in infos["credit"]["operations"]]
        ['create', None]
        >>> envs.close()
    """

    def __init__(self, env: VectorEnvs) -> None:
        self._base = vector_base(self, env)
        super().__init__(env)

    def step(self, actions: Sequence[str]) -> tuple[Any, Rewards, Flags, Flags, dict[str, Any]]:
        """See ``AtomMemVectorEnv.step``; the credit belongs to the episode that ended, in every autoreset mode."""
        for episode in self._base.episodes:
            if not episode.state.over:
                credit.Ledger.of(episode)
        try:
            observations, rewards, terminations, truncations, infos = self.env.step(actions)
        finally:
            # Episodes may have made their steps although an autoreset, or a wrapper in between, raises.
            for one in self._base.stepped:
                if one is not None and isinstance(one.episode.ledger, credit.Ledger):
                    one.episode.ledger.note(one.episode)
        told = {}
        for i, stepped in enumerate(self._base.stepped):
            if stepped is not None:
                credit.note(stepped.episode, stepped.info)
                if credit.KEY in stepped.info:
                    told[i] = {credit.KEY: stepped.info[credit.KEY]}
        if told:
            where = infos.get("final_info", infos)
            where.update(batch_infos(list(told.values()), list(told), self.num_envs))
        return observations, rewards, terminations, truncations, infos
