"""The rollout of ``grpo.py``: all sessions of an iteration, together, over a vector environment."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from atommem_gym.agents.learn.grpo_policy import Policy, Row
from atommem_gym.agents.playing import Playing
from atommem_gym.envs.shaping import load_shaping, shaped
from atommem_gym.envs.vector_env import AtomMemVectorEnv
from atommem_gym.prompts import PromptTemplate
from atommem_gym.step import Observation


@dataclass(frozen=True)
class Played:
    """The sessions of a rollout."""

    rows: list[Row]
    rewards: Tensor
    """``[sessions]``, shaping included."""
    exact_match: float
    """Mean over sessions."""
    sampling_seconds: float
    environment_seconds: float
    """With rendering prompts."""

    @property
    def sampled_tokens(self) -> int:
        """Of all responses."""
        return sum(len(row.response) for row in self.rows)


def play(
    envs: AtomMemVectorEnv,
    policy: Policy,
    items: Sequence[tuple[int, int]],
    shaping: str,
    say: Callable[[str], None] = lambda _: None,
) -> Played:
    """Let every sub-environment play one episode, all of them together.

    Args:
        envs: As many sub-environments as items.
        policy: Who plays.
        items: Index and layout of each; the members of a group have the same (SPEC E8).
        shaping: See ``Options``.
        say: Is told how far it is, after each token.
    """
    started = time.perf_counter()
    prompt, extra = PromptTemplate(envs.config), load_shaping(json.loads(shaping))
    games = [Playing[str, Observation]("policy", *item) for item in items]
    observations, _ = envs.reset(options={name: [game.options[name] for game in games] for name in games[0].options})
    for i, game in enumerate(games):
        game.show("", _member(observations, i), {})
    rows: list[Row] = []
    sampling, sampled = 0.0, 0
    while playing := [i for i, game in enumerate(games) if not game.over]:
        messages = [prompt.messages(games[i].observation) for i in playing]
        began = time.perf_counter()
        where = f"sampling, {len(games) - len(playing)}/{len(games)} sessions over, {len(rows)} rows"
        tell = partial(_tell, say, where, sampled, began - sampling)
        pairs = policy.respond(messages, tell)
        sampling += time.perf_counter() - began
        rows += [Row(i, *pair) for i, pair in zip(playing, pairs, strict=True)]
        sampled += sum(len(response) for _, response in pairs)
        texts = dict(zip(playing, policy.texts([response for _, response in pairs]), strict=True))
        # Those that are over begin another episode, which nobody looks at.
        observations, gained, terminations, truncations, _ = envs.step([texts.get(i, "") for i in range(len(items))])
        for i in playing:
            step = envs.stepped[i]
            assert step is not None
            # No bootstrapping after a truncation: the reward is final (SPEC E6).
            reward = shaped(float(gained[i]), extra, step.info, step.episode)
            seen = _member(observations, i)
            games[i].step(texts[i], seen, reward, bool(terminations[i]), bool(truncations[i]), step.info)
    rewards = torch.tensor([game.reward for game in games])
    ems = [em for em in (game.record().em for game in games) if em is not None]
    exact_match = float(np.mean(ems)) if ems else float("nan")
    return Played(rows, rewards, exact_match, sampling, time.perf_counter() - started - sampling)


def _tell(say: Callable[[str], None], where: str, before: int, since: float, tokens: int) -> None:
    rate = (before + tokens) / max(time.perf_counter() - since, 1e-9)
    say(f"{where}, {rate:,.0f} tokens/s")


def _member(observations: Observation, i: int) -> Observation:
    return {name: value[i] for name, value in observations.items()}
