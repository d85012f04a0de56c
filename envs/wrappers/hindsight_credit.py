"""Credit for single operations, computed after the end (SPEC R7).

For vector environments, a wrapper with the same name is in :mod:`atommem_gym.envs.wrappers.vector.hindsight_credit`.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
from gymnasium.utils import RecordConstructorArgs

from atommem_gym.envs import credit
from atommem_gym.envs.wrappers.base import plain_base
from atommem_gym.step import Observation


class HindsightCredit(gym.Wrapper[Observation, str, Observation, str], RecordConstructorArgs):
    """Adds the credit of each operation at the end: its share of the reward, from what later reads showed (SPEC R7).

    Rewards do not change. The ``info`` of the step that ends an episode has ``credit``:

    - ``operations``: ``{step, position, operation, entry, credit}`` of every executed create, update and delete, and of
      answers that get the rest, in order; ``step`` counts from 0, ``position`` from 1;
    - ``by_step``: the credit of the operations of each step, to train on in place of the reward at the end
      (:func:`atommem_gym.envs.credit.step_rewards`);
    - ``begun``: the first step that was followed; 0 unless the episode was stepped before without this wrapper.

    All credits of an episode add up to its reward (SPEC R1, without shaping);
    :class:`atommem_gym.envs.credit.Ledger` has the rules. Forks and snapshots take the ledger along. It
    uses the gold evidence, so it is for training and analysis only. A pool has the keyword argument
    ``credit=True`` instead.

    Args:
        env: An AtomMem environment.

    Example:
        >>> import gymnasium as gym, atommem_gym
        >>> env = HindsightCredit(gym.make("AtomMem-Synthetic-v0", num_docs=8, chunk_tokens=4000, store="numpy"))
        >>> observation, info = env.reset(options={"index": 0})
        >>> question = env.unwrapped.item.questions[0]
        >>> facts = "".join(f"<create>{piece.text}</create>" for piece in question.evidence)
        >>> for action in (facts, f"<read>{question.question}</read>", f"<answer>{question.answer}</answer>"):
        ...     observation, reward, terminated, truncated, info = env.step(action)
        >>> [(one["operation"], one["entry"], one["credit"]) for one in info["credit"]["operations"]]
        [('create', 1, 0.5), ('create', 2, 0.5)]
        >>> reward, info["credit"]["by_step"]
        (1.0, [1.0, 0.0, 0.0])
        >>> env.close()
    """

    def __init__(self, env: gym.Env[Observation, str]) -> None:
        RecordConstructorArgs.__init__(self)
        self._base = plain_base(self, env)
        gym.Wrapper.__init__(self, env)

    def step(self, action: str) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Step the environment; if the episode is over, ``info`` has the credit."""
        ledger = credit.Ledger.of(self._base.episode)
        try:
            observation, reward, terminated, truncated, info = self.env.step(action)
        finally:
            # A wrapper in between may raise after the episode has made its step.
            ledger.note(self._base.episode)
        credit.note(self._base.episode, info)
        return observation, float(reward), terminated, truncated, info
