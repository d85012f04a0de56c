"""The floor: well-formed actions drawn at random."""

from __future__ import annotations

from atommem_gym.actions import ActionText
from atommem_gym.episode import Episode
from atommem_gym.records.layout import stable_rng
from atommem_gym.step import Observation


class RandomAgent:
    """Samples the environment's action space; never looks at an observation."""

    name = "random"

    def reset(self, episode: Episode, seed: int) -> None:
        """Seed the action space for this episode."""
        config = episode.config
        generator = stable_rng("random agent", seed)
        self._actions = ActionText(
            config.max_action_chars, dialect=config.dialect, kinds=config.kinds, seed=int(generator.integers(2**31))
        )

    def act(self, observation: Observation) -> str:
        """One to three random operations."""
        return self._actions.sample()
