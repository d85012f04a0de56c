"""The sampler in veRL's own replay buffer, with a TransferQueue that is a dict; skipped where veRL is not installed."""

from __future__ import annotations

from typing import Any

import pytest

from atommem_gym.errors import AtomMemError, ConfigError

pytest.importorskip("verl", reason="needs veRL: make verl-environment")
torch = pytest.importorskip("torch")

from tensordict import TensorDict  # noqa: E402
from transfer_queue import KVBatchMeta  # noqa: E402
from verl.trainer.ppo import padding_utils  # noqa: E402
from verl.trainer.ppo.v1 import replay_buffer  # noqa: E402

from atommem_gym.agents.learn.verl_sampler import GroupSampler  # noqa: E402


class Queue:
    """Keys with their tags and values, as TransferQueue keeps them, in one partition."""

    def __init__(self) -> None:
        self.tags: dict[str, dict[str, Any]] = {}
        self.values: dict[str, dict[str, Any]] = {}
        self.totals: dict[str, float] = {}

    def prompt(self, uid: str, status: str, sessions: dict[int, tuple[float, int]]) -> None:
        """A prompt with ``{session: (reward, rows)}``; a session that failed has left nothing."""
        self.tags[uid] = {"is_prompt": True, "status": status, "global_steps": 1}
        for session, (reward, rows) in sessions.items():
            for row in range(rows):
                key = f"{uid}_{session}_{row}"
                self.tags[key] = {"status": "success", "seq_len": 9, "prompt_len": 6, "response_len": 3}
                totals = {"prompt_tokens": 100.0, "cached_tokens": 30.0 * session, "env_s": 0.5, "session_s": 10.0}
                self.values[key] = {
                    "rm_scores": torch.tensor([0.0, reward]),
                    "response_mask": torch.ones(2),
                    "extra_fields": {"reward_extra_info": {**totals, **self.totals}},
                }

    def kv_list(self) -> dict[str, Any]:
        return {"train": {key: dict(tag) for key, tag in self.tags.items()}}

    def kv_clear(self, partition_id: str, keys: list[str]) -> None:
        for key in keys:
            self.tags.pop(key, None)

    def kv_batch_get(self, keys: list[str], partition_id: str, select_fields: list[str] | None = None) -> Any:
        if select_fields is None:
            return [self.values[key] for key in keys]
        return {name: [self.values[key][name] for key in keys] for name in select_fields}

    def kv_batch_put(self, keys: list[str], partition_id: str, fields: TensorDict, tags: list[Any]) -> KVBatchMeta:
        self.tags.update(zip(keys, tags, strict=True))
        return KVBatchMeta(partition_id=partition_id, keys=keys, tags=tags)


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> Queue:
    queue = Queue()
    monkeypatch.setattr(replay_buffer, "tq", queue)
    monkeypatch.setattr(padding_utils, "tq", queue)
    monkeypatch.setattr(padding_utils, "list_of_dict_to_tensordict", lambda fields: fields)
    return queue


def sampler(queue: Queue, refill: Any = print, **options: Any) -> GroupSampler:
    return GroupSampler(
        trainer_mode="sync",
        trainer_config={},
        max_off_policy_threshold=8,
        max_off_policy_strategy="drop",
        poll_interval=0.01,
        refill_fn=refill,
        sampler_kwargs={"train_batch_size": 2, "mini_batch_size": 1, "sessions": 1, **options},
    )


def test_finding_5_5_a_group_with_a_failed_session_is_dropped_and_replaced(queue: Queue) -> None:
    asked: list[int] = []

    def refill(count: int) -> None:
        asked.append(count)
        queue.prompt("c", "finished", {0: (1.0, 2), 1: (0.0, 3)})

    queue.prompt("a", "finished", {0: (1.0, 2), 1: (0.0, 2)})
    queue.prompt("b", "failure", {1: (1.0, 2)})  # one survivor
    batch, metrics = sampler(queue, refill).sample(1, "train", 2)
    assert {key.split("_")[0] for key in batch.keys} == {"a", "c"}
    assert asked == [1]
    assert metrics["training/rollout_failure/evicted_samples"] == 1
    assert not any(key.startswith("b") for key in queue.tags)


def test_verl_would_train_on_the_survivor(queue: Queue) -> None:
    """Why there is a sampler: veRL's own keeps the group, also where it is asked to replace failed ones."""
    queue.prompt("a", "finished", {0: (1.0, 2), 1: (0.0, 2)})
    queue.prompt("b", "failure", {1: (1.0, 2)})
    own = replay_buffer.ReplayBuffer(
        "sync", {}, 8, "drop", {}, refill_fn=print, gen_batch_size=1, train_batch_size=2, sync_refill_failed_groups=True
    )
    batch, _ = own.sample(1, "train", 2)
    assert {key.split("_")[0] for key in batch.keys} == {"a", "b"}


def test_a_step_in_which_everything_fails_ends_with_an_error(queue: Queue) -> None:
    def refill(count: int) -> None:
        for number in range(count):
            queue.prompt(f"again{len(queue.tags)}x{number}", "failure", {})

    queue.prompt("a", "failure", {})
    with pytest.raises(AtomMemError, match=r"most_failures=3.*embedding server"):
        sampler(queue, refill, most_failures=3).sample(1, "train", 2)


def test_failures_of_validation_are_reported_and_not_replaced(queue: Queue) -> None:
    queue.prompt("a", "failure", {0: (1.0, 1)})
    queue.kv_list = lambda: {"val": {key: dict(tag) for key, tag in queue.tags.items()}}  # type: ignore[method-assign]
    batch, _ = sampler(queue).sample(1, "val", 1)
    assert batch.keys == ["a_0_0"]


def test_groups_without_variance_are_dropped_if_the_algorithm_says_so(queue: Queue) -> None:
    def refill(count: int) -> None:
        queue.prompt(f"more{len(queue.tags)}", "finished", {0: (1.0, 1), 1: (0.0, 1)})

    queue.prompt("flat", "finished", {0: (0.0, 2), 1: (0.0, 1)})
    queue.prompt("a", "finished", {0: (1.0, 1), 1: (0.0, 1)})
    filtering = {"enable": True, "metric": "reward"}
    batch, metrics = sampler(queue, refill, filter_groups=filtering).sample(1, "train", 2)
    assert "flat" not in {key.split("_")[0] for key in batch.keys}
    assert metrics["training/filter_groups/evicted_samples"] == 1


def test_finding_5_8_every_step_reports_variance_cache_hits_and_the_environments_share(queue: Queue) -> None:
    queue.prompt("a", "finished", {0: (1.0, 3), 1: (0.0, 1)})
    queue.prompt("b", "finished", {0: (0.5, 1), 1: (0.5, 2)})
    _, metrics = sampler(queue, mini_batch_size=4).sample(1, "train", 2)
    assert metrics["training/groups_without_variance"] == 0.5
    assert metrics["training/environment_share"] == pytest.approx(0.05)
    assert metrics["training/prefix_cache_hits"] == pytest.approx(0.15)


def test_finding_5_2_every_step_reports_its_real_rows_and_its_updates(queue: Queue) -> None:
    queue.prompt("a", "finished", {0: (1.0, 3), 1: (0.0, 1)})
    queue.prompt("b", "finished", {0: (0.5, 1), 1: (0.5, 2)})
    batch, metrics = sampler(queue, mini_batch_size=4).sample(1, "train", 2)
    assert metrics["training/rows"] == 7
    assert metrics["training/updates"] == 2
    assert len(batch) == 8


def test_finding_5_8_a_server_that_does_not_tell_has_no_cache_hits(queue: Queue) -> None:
    queue.totals = {"cached_tokens": float("nan")}
    queue.prompt("a", "finished", {0: (1.0, 3), 1: (0.0, 1)})
    _, metrics = sampler(queue).sample(1, "train", 1)
    assert "training/prefix_cache_hits" not in metrics
    assert metrics["training/environment_share"] == pytest.approx(0.05)


def test_finding_5_8_padding_is_spread_over_the_mini_batches(queue: Queue) -> None:
    queue.prompt("a", "finished", {0: (1.0, 40), 1: (0.0, 30)})
    queue.prompt("b", "finished", {0: (1.0, 20), 1: (0.0, 14)})  # 104 rows, mini-batches of 32: 24 of padding
    batch, _ = sampler(queue, mini_batch_size=16, sessions=2).sample(1, "train", 2)
    padding = [tag.get("is_padding", False) for tag in batch.tags]
    assert len(padding) == 128
    real = [32 - sum(padding[start : start + 32]) for start in range(0, 128, 32)]
    assert sum(real) == 104
    assert min(real) > 16  # veRL alone: 32, 32, 32, 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mini_batch_rows": 3}, "'mini_batch_rows'"),
        ({"train_batch_size": None}, "train_batch_size"),
        ({"most_failures": "few"}, "may hold most_failures"),
    ],
)
def test_wrong_options_are_named(queue: Queue, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        sampler(queue, **options)
