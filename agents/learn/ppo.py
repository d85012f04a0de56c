"""Proximal policy optimisation (PPO) in one file, to read and to change: a small network learns what to remember.

    python -m atommem_gym.agents.learn.ppo --steps 25000 --num-docs 40 --max-entries 12
    python -m atommem_gym.agents.learn.ppo --help

After Schulman et al., "Proximal Policy Optimization Algorithms" (arXiv 1707.06347), with generalised advantage
estimation (arXiv 1506.02438). ``ppo_episodes.py`` adds whole episodes, hindsight credit and local groups.
Needs ``pip install "atommem-gym[rl]"``.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, TypeAlias

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import tyro
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from atommem_gym.agents.learn.extras import without_extra

try:
    import torch
    from torch import Tensor, nn
except ModuleNotFoundError as error:
    raise without_extra(error, "rl") from error

from atommem_gym.envs import EvidenceReward
from atommem_gym.envs.macro.embedding_observation import FEATURES, SCALARS, EmbeddingObservation
from atommem_gym.envs.macro.macro_actions import SKIP, MacroActions

Wrap: TypeAlias = Callable[[gym.Env[Any, Any]], gym.Env[Any, Any]]
"""Puts a wrapper around a text environment."""


@dataclass
class Options:
    """Train a network to choose macro-actions."""

    env_id: str = "AtomMem-Synthetic-v0"
    """Gymnasium id of the environment."""
    source: str | None = None
    """Source of its records, if not the default one."""
    num_docs: int = 40
    """Documents per episode."""
    chunk_tokens: int = 128
    """Tokens per chunk; 128 are two or three synthetic documents."""
    max_entries: int = 12
    """Entries that memory may hold."""
    max_entry_tokens: int = 128
    """Tokens per entry, at most."""
    top_k: int = 12
    """Entries that a read returns."""
    slots: int = 3
    """Documents that one action decides on."""
    vectors: int = 0
    """Dimensions of the embeddings in the observation."""
    shaping: float = 0.5
    """Weight of the reward for evidence; 0: the reward is exact match alone."""
    network: Literal["shared", "plain"] = "shared"
    """shared: one scorer for all documents; plain: one network over the whole observation."""
    width: int = 64
    """Units in each of the two hidden layers."""
    steps: int = 25_000
    """Environment steps in all."""
    num_envs: int = 16
    """Environments stepped together."""
    rollout: int = 64
    """Steps per environment between two updates."""
    epochs: int = 8
    """Passes over a rollout."""
    batch: int = 128
    """Transitions per gradient step."""
    learning_rate: float = 2e-3
    """Learning rate of Adam at the start; it falls linearly to 0."""
    gamma: float = 1.0
    """Discount per step; 1, since episodes are short and end with the reward."""
    gae_lambda: float = 0.95
    """Lambda of generalised advantage estimation: bias against variance."""
    clip: float = 0.2
    """The ratio of new to old probability is clipped to 1 minus this and 1 plus this."""
    entropy: float = 0.002
    """Weight of the entropy bonus."""
    value_weight: float = 0.5
    """Weight of the critic's loss."""
    max_gradient: float = 0.5
    """Norm at which gradients are clipped."""
    seed: int = 0
    """Seeds weights, environments, sampling and the order of transitions."""
    save: Path | None = None
    """File for the trained weights."""


def make_env(options: Options, wrap: Wrap | None = None) -> EmbeddingObservation:
    """One environment: ``wrap`` around the text environment, then the shaping reward, macro-actions and vectors."""
    keywords: dict[str, Any] = {} if options.source is None else {"source": options.source}
    env = gym.make(
        options.env_id,
        disable_env_checker=True,
        num_docs=options.num_docs,
        chunk_tokens=options.chunk_tokens,
        max_entries=options.max_entries,
        max_entry_tokens=options.max_entry_tokens,
        top_k=options.top_k,
        store="numpy",
        **keywords,
    )
    if wrap is not None:
        env = wrap(env)
    if options.shaping:
        env = EvidenceReward(env, weight=options.shaping)
    return EmbeddingObservation(MacroActions(env, slots=options.slots), vectors=options.vectors)


def mlp(inputs: int, outputs: int, width: int, scale: float) -> nn.Sequential:
    """A network with two hidden layers and orthogonal weights; ``scale`` is the gain of the last layer."""
    layers = [nn.Linear(inputs, width), nn.Linear(width, width), nn.Linear(width, outputs)]
    for layer, gain in zip(layers, (2**0.5, 2**0.5, scale), strict=True):
        nn.init.orthogonal_(layer.weight, gain)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(layers[0], nn.Tanh(), layers[1], nn.Tanh(), layers[2])


class Policy(nn.Module):  # type: ignore[misc]  # torch is optional and so untyped here
    """Actor and critic over the observations of ``EmbeddingObservation``.

    ``shared`` scores every document with the same network, from the document's features, their mean over all documents
    and the scalars; what it learns about one slot holds for all. ``plain`` is one network over the whole observation,
    like Stable-Baselines3's ``MlpPolicy``.

    Args:
        choices: ``nvec`` of the action space: ``slots`` document choices, drop, read.
        size: Length of an observation vector.
        network: ``"shared"`` or ``"plain"``.
        width: Units of the hidden layers.
    """

    def __init__(self, choices: npt.NDArray[np.int64], size: int, network: str = "shared", width: int = 64) -> None:
        super().__init__()
        self.choices = [int(n) for n in choices]
        self.slots = len(self.choices) - 2
        self.shared = network == "shared"
        context = len(SCALARS) + len(FEATURES)
        rest = size - len(SCALARS) - self.slots * len(FEATURES)
        heads = sum(self.choices[self.slots :])
        self.critic = mlp(context + rest if self.shared else size, 1, width, 1.0)
        if self.shared:
            self.documents = mlp(context + len(FEATURES), self.choices[0], width, 0.01)
            self.memory = mlp(context + rest, heads, width, 0.01)
        else:
            self.actor = mlp(size, sum(self.choices), width, 0.01)

    def forward(self, observations: Tensor) -> tuple[list[torch.distributions.Categorical], Tensor]:
        """For observations ``[n, size]``, the distribution of each choice and the values ``[n]``."""
        end = len(SCALARS) + self.slots * len(FEATURES)
        scalars, rest = observations[:, : len(SCALARS)], observations[:, end:]
        documents = observations[:, len(SCALARS) : end].reshape(-1, self.slots, len(FEATURES))
        if not self.shared:
            logits, values = self.actor(observations), self.critic(observations)
        else:
            context = torch.cat([scalars, documents.mean(1)], 1)
            each = context[:, None].expand(-1, self.slots, -1)
            scores = self.documents(torch.cat([each, documents], 2)).flatten(1)
            whole = torch.cat([context, rest], 1)
            logits, values = torch.cat([scores, self.memory(whole)], 1), self.critic(whole)
        split = list(torch.split(logits, self.choices, dim=1))
        for slot in range(self.slots):
            # A slot without a document has one choice, SKIP; sampling others would only add noise to the gradient.
            free = documents[:, slot, :1] == 0
            others = torch.arange(self.choices[slot]) != SKIP
            split[slot] = split[slot].masked_fill(free & others, -1e9)
        return [torch.distributions.Categorical(logits=part) for part in split], values[:, 0]

    def act(self, observation: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        """The most probable choices ``[slots + 2]`` for one observation ``[size]``."""
        with torch.no_grad():
            distributions, _ = self(torch.as_tensor(observation)[None])
        return np.array([int(d.logits.argmax()) for d in distributions])


OnRollout: TypeAlias = Callable[[int, Policy], None]
"""Called with the number of steps so far and the policy, before each rollout and once at the end."""


def generalised_advantages(
    rewards: Tensor, values: Tensor, ends: Tensor, last_values: Tensor, gamma: float, gae_lambda: float
) -> Tensor:
    """Generalised advantage estimates ``[time, envs]``.

    Args:
        rewards: ``[time, envs]``.
        values: ``[time, envs]``, the critic's values of the observations before each step.
        ends: ``[time, envs]``, 1 where the step ended the episode; nothing is bootstrapped after it (SPEC E6).
        last_values: ``[envs]``, the values of the observations after the last step.
        gamma: Discount per step.
        gae_lambda: Lambda, from 0 to 1.

    >>> one, none = torch.ones(2, 1), torch.zeros(2, 1)
    >>> generalised_advantages(one, none, torch.tensor([[0.0], [1.0]]), torch.ones(1), 1.0, 1.0).flatten().tolist()
    [2.0, 1.0]
    """
    estimates, running, following = torch.zeros_like(rewards), torch.zeros_like(last_values), last_values
    for t in reversed(range(len(rewards))):
        goes_on = 1.0 - ends[t]
        error = rewards[t] + gamma * following * goes_on - values[t]
        running = error + gamma * gae_lambda * goes_on * running
        estimates[t], following = running, values[t]
    return estimates


def train(options: Options, on_rollout: OnRollout | None = None) -> Policy:
    """Train a policy with PPO over macro-actions.

    Args:
        options: The settings; their defaults are those of the command line.
        on_rollout: Called with the number of steps so far and the policy, before each rollout and once at the end.

    Returns:
        The trained policy.
    """
    torch.manual_seed(options.seed)
    shuffle = np.random.default_rng(options.seed)
    makers = [lambda: make_env(options)] * options.num_envs
    with closing(SyncVectorEnv(makers, autoreset_mode=AutoresetMode.SAME_STEP)) as envs:
        space: Any = envs.single_action_space
        first = envs.reset(seed=options.seed)[0]
        policy = Policy(space.nvec, first.shape[1], options.network, options.width)
        optimizer = torch.optim.Adam(policy.parameters(), lr=options.learning_rate, eps=1e-5)
        observation = torch.as_tensor(first)
        size = options.num_envs * options.rollout
        for done in range(0, options.steps, size):
            if on_rollout is not None:
                on_rollout(done, policy)
            for group in optimizer.param_groups:
                group["lr"] = options.learning_rate * (1 - done / options.steps)
            steps = []
            for _ in range(options.rollout):
                with torch.no_grad():
                    distributions, values = policy(observation)
                choices = torch.stack([d.sample() for d in distributions], 1)
                log_probs = log_prob(distributions, choices)
                following, rewards, terminations, _, _ = envs.step(choices.numpy())
                ends = torch.as_tensor(terminations, dtype=torch.float32)
                steps.append((observation, choices, log_probs, values, torch.as_tensor(rewards).float(), ends))
                observation = torch.as_tensor(following)
            observations, chosen, old, values, rewards, ends = (torch.stack(part) for part in zip(*steps, strict=True))
            with torch.no_grad():
                last_values = policy(observation)[1]
            advantages = generalised_advantages(rewards, values, ends, last_values, options.gamma, options.gae_lambda)
            rows = [part.flatten(0, 1) for part in (observations, chosen, old, advantages, advantages + values)]
            for _ in range(options.epochs):
                for some in np.array_split(shuffle.permutation(size), max(1, size // options.batch)):
                    update(policy, optimizer, [part[some] for part in rows], options)
        if on_rollout is not None:
            on_rollout(-(-options.steps // size) * size, policy)
    return policy


def log_prob(distributions: list[torch.distributions.Categorical], choices: Tensor) -> Tensor:
    """The joint log-probability ``[n]`` of the choices ``[n, places]``."""
    return sum(d.log_prob(choices[:, place]) for place, d in enumerate(distributions))


def update(policy: Policy, optimizer: torch.optim.Optimizer, rows: list[Tensor], options: Options) -> None:
    """Do one gradient step.

    Args:
        policy: The policy to train.
        optimizer: Optimizer of its parameters.
        rows: A batch of ``n`` steps: observations ``[n, size]``, choices ``[n, places]``, their log-probabilities,
            advantages and returns ``[n]``.
        options: Clip, weights and the norm of gradients.
    """
    observations, choices, old_log_probs, advantages, returns = rows
    distributions, values = policy(observations)
    ratio = torch.exp(log_prob(distributions, choices) - old_log_probs)
    if len(advantages) > 1:  # a single one has no standard deviation
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    clipped = ratio.clamp(1 - options.clip, 1 + options.clip)
    surrogate = torch.min(ratio * advantages, clipped * advantages).mean()
    entropy = sum(d.entropy() for d in distributions).mean()
    loss = options.value_weight * 0.5 * (values - returns).pow(2).mean() - surrogate - options.entropy * entropy
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(policy.parameters(), options.max_gradient)
    optimizer.step()


def main(options: Options) -> None:
    """Train; every ten rollouts play ten episodes and print the exact match of the last fifty."""
    torch.set_num_threads(1)  # for networks this small, more threads only wait for each other
    recent: deque[float] = deque(maxlen=50)
    started = time.perf_counter()
    with closing(make_env(options)) as env:

        def on_rollout(steps: int, policy: Policy) -> None:
            if steps // (options.num_envs * options.rollout) % 10:
                return
            for _ in range(10):
                observation, _ = env.reset(seed=options.seed + 10_000) if not recent else env.reset()
                over = False
                while not over:
                    observation, _, over, _, info = env.step(policy.act(observation))
                recent.append(info["episode_metrics"]["em"])
            seconds = time.perf_counter() - started
            print(f"{steps:>8} steps  {seconds:6.0f} s  exact match of the last {len(recent)}: {fmean(recent):.2f}")

        policy = train(options, on_rollout)
    if options.save is not None:
        torch.save(policy.state_dict(), options.save)


if __name__ == "__main__":
    main(tyro.cli(Options))
