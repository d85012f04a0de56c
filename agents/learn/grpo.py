"""Group relative policy optimisation in one file, to read and to change: a language model learns what to remember.

    python -m atommem_gym.agents.learn.grpo --model FOLDER --num-docs 8 --chunk-tokens 200 --iterations 10
    python -m atommem_gym.agents.learn.grpo --help

After Shao et al., "DeepSeekMath" (arXiv 2402.03300), with what AtomMem (arXiv 2601.08323) does otherwise: advantages
are not divided by the standard deviation, the upper clip is wider, and the loss is a mean over tokens. A session is
many independent prompts and responses, all of which get the session's advantage. To try another algorithm, give
``train`` a function of your own in place of :func:`group_advantages`. For models that need several GPUs see
``verl_loop.py``.

Needs ``pip install "atommem-gym[llm]"``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import gymnasium as gym
import numpy as np
import torch
import tyro
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

import atommem_gym  # noqa: F401  (registers the ids)
from atommem_gym.agents.play import draw_items
from atommem_gym.agents.playing import Playing
from atommem_gym.envs.shaping import load_shaping, shaped
from atommem_gym.envs.vector_env import AtomMemVectorEnv
from atommem_gym.errors import ConfigError
from atommem_gym.prompts import PromptTemplate
from atommem_gym.step import Observation


@dataclass
class Options:
    """Train a causal language model."""

    model: str
    """Folder or hub name."""
    env_id: str = "AtomMem-Synthetic-v0"
    """Any environment of the family."""
    source: str | None = None
    """Where its records come from, if not from its default source."""
    num_docs: int = 20
    """Documents per episode."""
    chunk_tokens: int = 1000
    """Tokens per chunk."""
    shaping: str = "{}"
    """Added to the reward, as JSON, such as '{"FormatPenalty": {"penalty": 0.1}}'."""
    items: int = 0
    """Items to train on; 0: all there are."""
    prompts: int = 4
    """Items per iteration."""
    group: int = 4
    """Sessions of each item."""
    iterations: int = 10
    """Rollouts, each followed by one pass over its rows."""
    batch: int = 16
    """Rows (steps of sessions) per gradient step."""
    learning_rate: float = 1e-6
    """Learning rate of AdamW."""
    clip_low: float = 0.2
    """How far the ratio of new to old probability may fall and still count."""
    clip_high: float = 0.28
    """How far it may rise and still count."""
    kl: float = 0.0
    """Weight of the distance to the first policy, by the estimator of low variance; the release has 0.001."""
    temperature: float = 1.0
    """Temperature of sampling."""
    top_p: float = 0.99
    """Draw from the smallest set of tokens that has this probability in all."""
    max_prompt: int = 4096
    """Tokens of a prompt; a longer one is an error."""
    max_response: int = 256
    """Tokens of a response; a longer one is cut there and executed as it is."""
    max_gradient: float = 1.0
    """Norm at which gradients are cut."""
    device: str = "cpu"
    """Device of the model, such as cuda:0."""
    seed: int = 0
    """Seeds the draw of items, the sampling and the order of rows."""
    save: Path | None = None
    """Folder for the trained model."""


@dataclass(frozen=True)
class Row:
    """One step of a session, as tokens."""

    session: int
    prompt: list[int]
    response: list[int]
    """With the end-of-text token, if the model came to it."""


Advantages: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""From rewards ``[sessions]`` and the groups ``[sessions]`` that they belong to, to advantages ``[sessions]``."""


def group_advantages(rewards: Tensor, groups: Tensor) -> Tensor:
    """The reward less its group's mean; no standard deviation, so easy and hard items count alike.

    veRL computes the same with ``algorithm.norm_adv_by_std_in_grpo=False``.

    >>> group_advantages(torch.tensor([1.0, 0.0, 0.5, 0.5]), torch.tensor([0, 0, 1, 1])).tolist()
    [0.5, -0.5, 0.0, 0.0]
    """
    numbers = groups.unique(return_inverse=True)[1]
    sums = torch.zeros(int(numbers.max()) + 1).index_add(0, numbers, rewards)
    return rewards - (sums / torch.bincount(numbers))[numbers]


def play(envs: AtomMemVectorEnv, policy: Policy, items: Sequence[tuple[int, int]], shaping: str) -> Played:
    """Let every sub-environment play one episode, all of them together.

    Args:
        envs: As many sub-environments as items.
        policy: Who plays.
        items: Index and layout of each; the members of a group have the same (SPEC E8).
        shaping: See ``Options``.
    """
    prompt, extra = PromptTemplate(envs.config), load_shaping(json.loads(shaping))
    games = [Playing[str, Observation]("policy", *item) for item in items]
    observations, _ = envs.reset(options={name: [game.options[name] for game in games] for name in games[0].options})
    for i, game in enumerate(games):
        game.show("", _member(observations, i), {})
    rows: list[Row] = []
    while playing := [i for i, game in enumerate(games) if not game.over]:
        messages = [prompt.messages(games[i].observation) for i in playing]
        pairs = policy.respond(messages)
        rows += [Row(i, *pair) for i, pair in zip(playing, pairs, strict=True)]
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
    return Played(rows, rewards, float(np.mean(ems)) if ems else float("nan"))


def _member(observations: Observation, i: int) -> Observation:
    return {name: value[i] for name, value in observations.items()}


@dataclass(frozen=True)
class Played:
    """The sessions of a rollout."""

    rows: list[Row]
    rewards: Tensor
    """``[sessions]``, shaping included."""
    exact_match: float
    """Mean over sessions."""


class Policy:
    """A causal language model with its tokenizer."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.tokenizer = AutoTokenizer.from_pretrained(options.model, padding_side="left")
        self.pad = int(
            self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else self.tokenizer.eos_token_id
        )
        self.model = AutoModelForCausalLM.from_pretrained(options.model).to(options.device)
        ends = self.model.generation_config.eos_token_id
        self.ends = {self.tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])}

    def respond(self, messages: Sequence[list[dict[str, str]]]) -> list[tuple[list[int], list[int]]]:
        """A prompt and a sampled response for each chat, as token ids.

        Raises:
            ConfigError: a prompt is longer than ``max_prompt``.
        """
        options = self.options
        prompts = [
            list(self.tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False))
            for chat in messages
        ]
        longest = max(map(len, prompts))
        if longest > options.max_prompt:
            raise ConfigError(
                f"a prompt has {longest} tokens: raise max_prompt={options.max_prompt} or lower chunk_tokens"
            )
        ids = torch.tensor([[self.pad] * (longest - len(one)) + one for one in prompts], device=options.device)
        mask = torch.tensor([[0] * (longest - len(one)) + [1] * len(one) for one in prompts], device=options.device)
        self.model.eval()
        with torch.no_grad():
            out = self.model.generate(
                input_ids=ids,
                attention_mask=mask,
                do_sample=True,
                temperature=options.temperature,
                top_p=options.top_p,
                top_k=0,
                max_new_tokens=options.max_response,
                pad_token_id=self.pad,
            )
        return [(one, self._ended(response)) for one, response in zip(prompts, out[:, longest:].tolist(), strict=True)]

    def texts(self, responses: Sequence[list[int]]) -> list[str]:
        """The actions that responses stand for."""
        return [str(text) for text in self.tokenizer.batch_decode(responses, skip_special_tokens=True)]

    def log_probs(self, rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
        """Log-probabilities ``[rows, tokens]`` of the responses at the sampling temperature, and which are real."""
        longest = max(len(row.prompt) + len(row.response) for row in rows)
        ids, mask, own = (torch.zeros(len(rows), longest, dtype=torch.long) for _ in range(3))
        for i, row in enumerate(rows):
            start, end = len(row.prompt), len(row.prompt) + len(row.response)
            ids[i, :end] = torch.tensor(row.prompt + row.response)
            mask[i, :end] = 1
            own[i, start:end] = 1
        ids, mask, own = (one.to(self.options.device) for one in (ids, mask, own))
        logits = self.model(input_ids=ids, attention_mask=mask).logits[:, :-1].float() / self.options.temperature
        chosen = logits.log_softmax(-1).gather(-1, ids[:, 1:, None]).squeeze(-1)
        return chosen, own[:, 1:].float()

    def _ended(self, response: list[int]) -> list[int]:
        """A response up to its first end-of-text token; what follows is padding."""
        for i, one in enumerate(response):
            if one in self.ends:
                return response[: i + 1]
        return response


def policy_loss(new: Tensor, old: Tensor, advantages: Tensor, own: Tensor, options: Options) -> Tensor:
    """The clipped loss, a mean over all real tokens: a long session counts by its tokens.

    Args:
        new: Log-probabilities ``[rows, tokens]`` of the policy.
        old: Log-probabilities with which the responses were sampled.
        advantages: ``[rows]``, of each row's session.
        own: ``[rows, tokens]``, 1 where the policy wrote the token.
        options: The clips.
    """
    ratio = (new - old).exp()
    clipped = ratio.clamp(1 - options.clip_low, 1 + options.clip_high)
    losses = torch.max(-ratio * advantages[:, None], -clipped * advantages[:, None])
    return (losses * own).sum() / own.sum()


def low_variance_kl(new: Tensor, reference: Tensor, own: Tensor) -> Tensor:
    """Distance to the reference, never negative (Schulman, "Approximating KL divergence", the estimator k3)."""
    difference = (reference - new).clamp(-20, 20)
    return (((difference.exp() - difference - 1).clamp(-10, 10)) * own).sum() / own.sum()


def update(
    policy: Policy, optimizer: torch.optim.Optimizer, rows: Sequence[Row], advantages: Tensor, old: Any
) -> float:
    """One gradient step; the loss.

    Args:
        policy: What is trained.
        optimizer: Of its parameters.
        rows: Which steps of which sessions.
        advantages: ``[sessions]``.
        old: Log-probabilities of the rows before the update, and the reference's if there is one (else ``None``).
    """
    options, (before, reference) = policy.options, old
    policy.model.train()
    new, own = policy.log_probs(rows)
    mine = advantages[torch.tensor([row.session for row in rows])].to(options.device)
    loss = policy_loss(new, before, mine, own, options)
    if reference is not None:
        loss = loss + options.kl * low_variance_kl(new, reference, own)
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(policy.model.parameters(), options.max_gradient)
    optimizer.step()
    return float(loss.detach())


def train(options: Options, advantages: Advantages = group_advantages) -> Iterator[dict[str, float]]:
    """Train, and yield the figures of each iteration.

    Args:
        options: See there.
        advantages: What every session is worth; the one function to change for another algorithm.

    Raises:
        ConfigError: an option is wrong.
    """
    torch.manual_seed(options.seed)
    keywords: dict[str, Any] = {} if options.source is None else {"source": options.source}
    sessions = options.prompts * options.group
    envs = gym.make_vec(
        options.env_id,
        num_envs=sessions,
        num_docs=options.num_docs,
        chunk_tokens=options.chunk_tokens,
        store="numpy",
        **keywords,
    )
    assert isinstance(envs, AtomMemVectorEnv)
    with closing(envs):
        policy = Policy(options)
        reference = Policy(options) if options.kl else None
        optimizer = torch.optim.AdamW(policy.model.parameters(), lr=options.learning_rate)
        items = draw_items(options.items or envs.num_items, options.prompts * options.iterations, options.seed)
        groups = torch.arange(options.prompts).repeat_interleave(options.group)
        shuffle = np.random.default_rng(options.seed)
        for iteration in range(options.iterations):
            began = time.perf_counter()
            mine = items[iteration * options.prompts : (iteration + 1) * options.prompts]
            played = play(envs, policy, [item for item in mine for _ in range(options.group)], options.shaping)
            estimates = advantages(played.rewards, groups)
            order = shuffle.permutation(len(played.rows))
            parts = [
                [played.rows[i] for i in some] for some in np.array_split(order, max(1, len(order) // options.batch))
            ]
            policy.model.eval()
            with torch.no_grad():
                old = [(policy.log_probs(part)[0], reference and reference.log_probs(part)[0]) for part in parts]
            losses = [update(policy, optimizer, part, estimates, was) for part, was in zip(parts, old, strict=True)]
            yield {
                "iteration": iteration + 1,
                "reward": float(played.rewards.mean()),
                "exact_match": played.exact_match,
                "groups_without_variance": float(
                    np.mean(
                        [float(played.rewards[groups == g].std(unbiased=False)) == 0 for g in range(options.prompts)]
                    )
                ),
                "rows": len(played.rows),
                "updates": len(parts),
                "loss": float(np.mean(losses)),
                "seconds": time.perf_counter() - began,
            }
        if options.save is not None:
            policy.model.save_pretrained(options.save)
            policy.tokenizer.save_pretrained(options.save)


def main(options: Options) -> None:
    """Train, and print a line per iteration."""
    for report in train(options):
        print("  ".join(f"{name} {value:.4g}" for name, value in report.items()), flush=True)


if __name__ == "__main__":
    main(tyro.cli(Options))
