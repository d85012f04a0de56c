"""Credit for single operations, known after the end (SPEC R7).

Vector environments have their own under the same name: :mod:`atommem_gym.envs.wrappers.vector.hindsight_credit`.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
from gymnasium.utils import RecordConstructorArgs

from atommem_gym.envs import credit
from atommem_gym.envs.wrappers.base import plain_base
from atommem_gym.step import Observation


class HindsightCredit(gym.Wrapper[Observation, str, Observation, str], RecordConstructorArgs):
    """Says at the end what each operation earned: its share of the reward, from what later reads showed (SPEC R7).

    The rewards stay as they are. The ``info`` of the step that ends an episode has ``credit``:

    - ``operations``: ``{step, position, operation, entry, credit}`` of every executed create, update and delete, and of
      answers that earned what is left, in order; ``step`` counts from 0, ``position`` in the action from 1;
    - ``by_step``: what the operations of each step earned, to train on in place of the reward at the end
      (:func:`atommem_gym.envs.credit.step_rewards`);
    - ``begun``: the step from which on the episode was followed, 0 unless it was stepped without this wrapper before.

    All credits of an episode add up to its reward (R1, without any shaping);
    :class:`atommem_gym.envs.credit.Ledger` has the rules. Forks and snapshots take along what is known of the past. It
    looks at the gold evidence, so it is for training and analysis only. A pool has the keyword argument
    ``credit=True`` in its place.

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
        """The step of the environment; its ``info`` has the credit if the episode is over."""
        ledger = credit.Ledger.of(self._base.episode)
        try:
            observation, reward, terminated, truncated, info = self.env.step(action)
        finally:
            # A wrapper in between may raise after the episode has gone on.
            ledger.note(self._base.episode)
        credit.note(self._base.episode, info)
        return observation, float(reward), terminated, truncated, info
