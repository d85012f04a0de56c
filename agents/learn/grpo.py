"""Group relative policy optimisation (GRPO), to read and to change: a language model learns what to remember.

    python -m atommem_gym.agents.learn.grpo --model FOLDER --num-docs 8 --chunk-tokens 200 --iterations 10
    python -m atommem_gym.agents.learn.grpo --help

After Shao et al., "DeepSeekMath" (arXiv 2402.03300), with the changes of AtomMem (arXiv 2601.08323): advantages are
not divided by the standard deviation, the upper clip is wider, and the loss is a mean over tokens. A session is many
independent prompts and responses, and each of them gets the session's advantage. To try another algorithm, pass
``train`` a function in place of :func:`group_advantages`.

With ``--local-groups n``, ``n`` sessions of each iteration are forked on the way (SPEC M14). The continuations of a
fork share their past and form a group. The steps before the fork are rewarded with the mean over the continuations.

This file is the loop. The model is in ``grpo_policy.py``, the rollout in ``grpo_rollout.py``, the losses and the
gradient step in ``grpo_update.py``. For models that need several GPUs see ``verl_loop.py``.

Needs ``pip install "atommem-gym[llm]"``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing
from typing import Any, TypeAlias, cast

import gymnasium as gym
import numpy as np
import tyro

from atommem_gym.agents.learn.extras import without_extra

try:
    import torch
    from torch import Tensor
except ModuleNotFoundError as error:
    raise without_extra(error, "llm") from error

import atommem_gym  # noqa: F401  (registers the ids)
from atommem_gym.agents.learn.grpo_options import Options
from atommem_gym.agents.learn.grpo_policy import Policy, Row
from atommem_gym.agents.learn.grpo_progress import Progress
from atommem_gym.agents.learn.grpo_rollout import LocalGroups, Played, play
from atommem_gym.agents.learn.grpo_update import (
    Before,
    each_log_probs,
    low_variance_kl,
    micro_batches,
    policy_loss,
    update,
)
from atommem_gym.agents.learn.training_log import TrainingLog
from atommem_gym.agents.play import draw_items
from atommem_gym.envs.vector_env import AtomMemVectorEnv

__all__ = [
    "Advantages",
    "Before",
    "LocalGroups",
    "Options",
    "Played",
    "Policy",
    "Row",
    "each_log_probs",
    "group_advantages",
    "low_variance_kl",
    "main",
    "micro_batches",
    "play",
    "policy_loss",
    "train",
    "update",
]

Advantages: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""From the rewards ``[sessions]`` and group numbers ``[sessions]`` of sessions to their advantages ``[sessions]``."""


def group_advantages(rewards: Tensor, groups: Tensor) -> Tensor:
    """Each reward minus its group's mean, not divided by the standard deviation: easy and hard items count alike.

    veRL computes the same with ``algorithm.norm_adv_by_std_in_grpo=False``.

    >>> group_advantages(torch.tensor([1.0, 0.0, 0.5, 0.5]), torch.tensor([0, 0, 1, 1])).tolist()
    [0.5, -0.5, 0.0, 0.0]

    Args:
        rewards: ``[sessions]``, shaping included.
        groups: ``[sessions]``, the number of each session's group.

    Returns:
        ``[sessions]``.
    """
    numbers = groups.unique(return_inverse=True)[1]
    sums = torch.zeros(int(numbers.max()) + 1).index_add(0, numbers, rewards)
    return rewards - (sums / torch.bincount(numbers))[numbers]


def train(
    options: Options, advantages: Advantages = group_advantages, say: Callable[[str], None] = lambda _: None
) -> Generator[dict[str, float], None, None]:
    """Train, and yield the figures of each iteration.

    If ``options.save`` names a folder, the model is saved there when training ends, by an error or an interruption as
    well, unless it ends before the first update.

    Args:
        options: The settings; their defaults are those of the command line.
        advantages: Computes the advantages of sessions; the one function to replace for another algorithm.
        say: Called many times a second with a line about the current work.

    Yields:
        Figures of an iteration by name, such as ``reward``, ``exact_match``, ``loss`` and ``seconds``.

    Raises:
        ConfigError: an option is wrong, or a prompt is longer than ``options.max_prompt``.
        AtomMemError: the log folder cannot be written or holds the log of another training, or the environment's I/O
            failed.
    """
    torch.manual_seed(options.seed)
    keywords: dict[str, Any] = {} if options.source is None else {"source": options.source}
    say(f"opening {options.env_id}")
    envs = gym.make_vec(
        options.env_id,
        num_envs=options.prompts * options.group,
        num_docs=options.num_docs,
        chunk_tokens=options.chunk_tokens,
        store="numpy",
        **keywords,
    )
    assert isinstance(envs, AtomMemVectorEnv)
    log: TrainingLog | None = None
    with ExitStack() as stack:
        stack.callback(envs.close)
        if options.log is not None:
            log = stack.enter_context(
                closing(TrainingLog(envs, options.log, options.model, options.group, options.log_groups))
            )
            # The log passes all calls of the rollout on to the environment.
            envs = cast("AtomMemVectorEnv", log)
        say(f"loading {options.model}")
        policy = Policy(options)
        reference = Policy(options) if options.kl else None
        optimizer = torch.optim.AdamW(policy.model.parameters(), lr=options.learning_rate)
        items = draw_items(options.items or envs.num_items, options.prompts * options.iterations, options.seed)
        shuffle = np.random.default_rng(options.seed)
        drawn = np.random.default_rng((options.seed, 1))
        local = LocalGroups(options.local_groups, options.branches, drawn) if options.local_groups else None
        updates = 0
        try:
            for iteration in range(options.iterations):
                where = f"iteration {iteration + 1}/{options.iterations}"
                began = time.perf_counter()
                mine = items[iteration * options.prompts : (iteration + 1) * options.prompts]
                members = [item for item in mine for _ in range(options.group)]

                def tell(status: str, where: str = where) -> None:
                    say(f"{where}: {status}")

                played = play(envs, policy, members, options.shaping, tell, local)
                training = time.perf_counter()
                losses = []
                for loss in _updates(policy, reference, optimizer, played, advantages, shuffle, tell):
                    losses.append(loss)
                    updates += 1
                report = _report(options, iteration + 1, played, losses, began, training)
                if log is not None:
                    log.write(report, played.rewards.tolist())
                yield report
        finally:
            if options.save is not None and updates:
                say(f"saving into {options.save}")
                policy.save(options.save)


def groups_of(options: Options, played: Played) -> Tensor:
    """The group number of each session ``[sessions]``: items first, then local groups."""
    return torch.cat([torch.arange(options.prompts).repeat_interleave(options.group), options.prompts + played.local])


def _updates(
    policy: Policy,
    reference: Policy | None,
    optimizer: torch.optim.Optimizer,
    played: Played,
    advantages: Advantages,
    shuffle: np.random.Generator,
    say: Callable[[str], None],
) -> Iterator[float]:
    """Train on all rows of a rollout once; yields the loss of each gradient step."""
    options = policy.options
    estimates = advantages(played.rewards, groups_of(options, played))
    order = shuffle.permutation(len(played.rows))
    parts = [[played.rows[i] for i in some] for some in np.array_split(order, max(1, len(order) // options.batch))]
    before = []
    for k, part in enumerate(parts):
        say(f"probabilities of {len(played.rows)} rows before the updates, {k}/{len(parts)}")
        theirs = None if reference is None else each_log_probs(reference, part)
        before.append(Before(each_log_probs(policy, part), theirs))
    for k, (part, was) in enumerate(zip(parts, before, strict=True)):
        say(f"update {k + 1}/{len(parts)}")
        yield update(policy, optimizer, part, estimates, was)


def _report(
    options: Options, iteration: int, played: Played, losses: list[float], began: float, training: float
) -> dict[str, float]:
    """The figures of an iteration that began at ``began`` and started its updates at ``training``."""
    now, groups = time.perf_counter(), groups_of(options, played)
    flat = [
        bool((played.rewards[groups == g] == played.rewards[groups == g][0]).all()) for g in groups.unique().tolist()
    ]
    local: dict[str, float] = {}
    if options.local_groups:
        shares = flat[options.prompts :]
        without = float(np.mean(shares)) if shares else float("nan")
        local = {"local_groups": len(shares), "local_groups_without_variance": without}
    return {
        "iteration": iteration,
        "reward": float(played.rewards[: options.prompts * options.group].mean()),
        "exact_match": played.exact_match,
        "groups_without_variance": float(np.mean(flat[: options.prompts])),
        **local,
        "rows": len(played.rows),
        "updates": len(losses),
        "loss": float(np.mean(losses)),
        "sampled_tokens": played.sampled_tokens,
        "sampled_tokens_per_second": played.sampled_tokens / played.sampling_seconds,
        "trained_tokens_per_second": sum(row.tokens for row in played.rows) / (now - training),
        "environment_share": played.environment_seconds / (now - began),
        "seconds": now - began,
    }


def main(options: Options) -> int:
    """Train; print a line per iteration on standard output, and the progress on standard error every few seconds.

    Returns:
        The exit status: 0, or 130 after an interruption.
    """

    def show(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    with Progress(show) as progress, closing(train(options, say=progress.say)) as reports:
        try:
            for report in reports:
                print("  ".join(f"{name} {value:.4g}" for name, value in report.items()), flush=True)
        except KeyboardInterrupt:
            show(f"interrupted{f'; {options.save} has what was learned, if anything' if options.save else ''}")
            return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options)))
