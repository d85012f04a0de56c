"""Chooses the rows that veRL's synchronous trainer trains on: whole groups, padding spread evenly (veRL 0.9).

A configuration names it in ``trainer.v1.sampler.custom_sampler``; see ``verl_configs/base/grpo.yaml``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from random import Random
from typing import Any

from verl.trainer.ppo.padding_utils import upsample_batch_to_divisible_size
from verl.trainer.ppo.v1 import replay_buffer
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

from atommem_gym.agents.learn.session_log import figures
from atommem_gym.errors import AtomMemError, ConfigError

_PADDING_TOKEN = 0
"""The token of padding rows; any will do, since they carry no loss."""


class GroupSampler(ReplayBuffer):  # type: ignore[misc]  # veRL has no types
    """veRL's sampler for its synchronous trainer, with two more rules, and figures that veRL does not log.

    **A group in which a session failed is dropped** and another prompt is played in its place. veRL's own sampler
    trains on the remaining sessions. Their group mean is then a different one, and the advantage of a single remaining
    session is its whole reward.

    **Padding is spread.** veRL fills a batch up to a multiple of the mini-batch with rows that carry no loss, all at
    the end, so that the last optimizer update of a step may have only a few real rows. This sampler shuffles the batch.

    **Figures** of every step: ``training/rows`` (without padding), ``training/updates`` (of the optimizer),
    ``training/groups_without_variance``, ``training/environment_share`` and, if the model's server reports cached
    tokens, ``training/prefix_cache_hits``; see :func:`~atommem_gym.agents.learn.session_log.figures`.

    Its options stand in ``trainer.v1.sampler.sampler_kwargs``:

    - ``train_batch_size``: Prompts per step.
    - ``mini_batch_size``, ``sessions``: The actor's ``ppo_mini_batch_size`` and ``rollout.n``; their product is the
      number of rows per optimizer update.
    - ``most_failures``: Groups that may fail during one step before the run ends; by default twice the prompts.
    - ``filter_groups``: The setting of the algorithm. If its ``enable`` is true, a group whose sessions all have the
      same reward is dropped as well.

    Raises:
        ConfigError: one of the first three options is missing, one of the first four is not an integer, or an
            option is unknown.
    """

    def __init__(self, *, sampler_kwargs: Mapping[str, Any], **base: Any) -> None:
        options = dict(sampler_kwargs)
        try:
            batch_size = int(options.pop("train_batch_size"))
            self._mini_batch_rows = int(options.pop("mini_batch_size")) * int(options.pop("sessions"))
            self._most_failures = int(options.pop("most_failures", None) or 2 * batch_size)
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                f"trainer.v1.sampler.sampler_kwargs={dict(sampler_kwargs)!r} must hold train_batch_size, "
                "mini_batch_size and sessions, and may hold most_failures, all integers "
                f"({type(error).__name__}: {error})"
            ) from error
        filtering = options.pop("filter_groups", None) or {}
        if options:
            raise ConfigError(
                f"trainer.v1.sampler.sampler_kwargs has {', '.join(map(repr, options))}, which GroupSampler does not "
                "know; its options are train_batch_size, mini_batch_size, sessions, most_failures and filter_groups"
            )
        self._failures = 0
        super().__init__(
            sampler_kwargs=sampler_kwargs,
            filter_groups_metric=filtering.get("metric", "reward") if filtering.get("enable") else None,
            train_batch_size=batch_size,
            gen_batch_size=1,
            max_inflight_gen_batches=filtering.get("max_inflight_gen_batches", 1),
            sync_refill_failed_groups=True,
            **base,
        )

    def sample(self, global_steps: int, partition_id: str, batch_size: int) -> tuple[Any, dict[str, Any]]:
        """Wait for a batch of whole groups; returns it with the figures of the step.

        Raises:
            AtomMemError: more than ``most_failures`` groups failed during the step.
        """
        self._failures = 0
        batch, metrics = super().sample(global_steps=global_steps, partition_id=partition_id, batch_size=batch_size)
        if partition_id == "train":
            metrics |= {f"training/{name}": value for name, value in figures(_sessions(batch)).items()}
            metrics["training/rows"] = len(batch)
            batch = upsample_batch_to_divisible_size(batch, self._mini_batch_rows, _PADDING_TOKEN)
            metrics["training/updates"] = len(batch) // self._mini_batch_rows
            order = list(range(len(batch)))
            Random(global_steps).shuffle(order)
            batch.reorder(order)
        return batch, metrics

    def _terminal_eviction_reasons(
        self, global_steps: int, partition_id: str
    ) -> tuple[set[str], set[str], set[str], Counter[float]]:
        stale, flat, _, counts = super()._terminal_eviction_reasons(global_steps, partition_id)
        failed = set() if partition_id == "val" else set(self.failure_keys[partition_id])
        self._failures += len(failed)
        if self._failures > self._most_failures:
            raise AtomMemError(
                f"{self._failures} groups had a failed session while step {global_steps} was played, more than "
                f"most_failures={self._most_failures}; the errors stand in the log of the rollout workers "
                "(is the embedding server, the Milvus server, or a source gone?)"
            )
        return stale, flat, failed, counts


def _sessions(batch: Any) -> list[dict[str, Any]]:
    """Group, reward and totals of the sessions of a batch; veRL copies them to every row of a session."""
    rows = {key.rsplit("_", 1)[0]: key for key in batch.keys}
    told = replay_buffer.tq.kv_batch_get(
        keys=list(rows.values()), partition_id=batch.partition_id, select_fields=["rm_scores", "extra_fields"]
    )
    return [
        {
            "uid": session.split("_")[0],
            "reward": float(scores.sum()),
            **getattr(extra, "data", extra).get("reward_extra_info", {}),
        }
        for session, scores, extra in zip(rows, list(told["rm_scores"]), list(told["extra_fields"]), strict=True)
    ]
