"""TRL 1.16 is given what the plain environment says: ``make bridge-trl``.

Types, dataset, collator, loss and trainer are the real ones. vLLM is a scripted server, which TRL's own worker would
understand; where a model is trained, it is a tiny one of random weights, on the CPU.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import queue
import re
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest
from support import conformance
from support.conformance import ENV_ID, KEYWORDS, Messages, Played, Reference, action, assert_same
from support.conformance import reference as reference
from support.openai_server import OpenAIServer, Reply, Request
from support.openai_server import server as server
from support.tiny_model import tiny_model as tiny_model

conformance.require("trl", "trl")

import torch  # noqa: E402
from transformers import AutoTokenizer  # noqa: E402
from trl.experimental.async_grpo import AsyncGRPOConfig, async_grpo_trainer, packing  # noqa: E402
from trl.experimental.async_grpo import async_rollout_worker as theirs  # noqa: E402
from trl.experimental.async_grpo.async_grpo_trainer import (  # noqa: E402
    RolloutQueueDataset,
    RolloutWorkerProtocol,
    _reduce_metric,
)
from trl.experimental.async_grpo.async_rollout_worker import RolloutSample  # noqa: E402

from atommem_gym.agents.learn.grpo import group_advantages  # noqa: E402
from atommem_gym.bridges.trl import AtomMemRolloutWorker  # noqa: E402
from atommem_gym.cli import main as atommem  # noqa: E402
from atommem_gym.errors import AtomMemError, ConfigError  # noqa: E402
from atommem_gym.records.verl_rows import references  # noqa: E402
from atommem_gym.registration import configure, load_items, task_of  # noqa: E402

WAITS_S = conformance.WAITS_S
Fault = Callable[[Messages, int], Any]
"""The finish reason, by prompt and how often it came before; it may raise, or return a whole reply."""


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_model)


def messages_of(tokenizer: Any, ids: list[int]) -> Messages:
    """The inverse of the tiny model's chat template."""
    text = tokenizer.decode(ids, skip_special_tokens=False)
    found = re.findall(r"<\|im_start\|>(\w+)\n(.*?)<\|im_end\|>\n", text, re.DOTALL)
    return [{"role": role, "content": content} for role, content in found]


def sampled_ids(tokenizer: Any, text: str) -> list[int]:
    return [*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id]


def completions(server: OpenAIServer) -> list[dict[str, Any]]:
    """What was asked for; of a request that was cut when the worker stopped, the server may have no body."""
    return [request.body for request in server.asked("/v1/completions") if request.body is not None]


def log_probs_of(ids: Iterable[int]) -> list[float]:
    return [-(one % 7) / 4 for one in ids]


def serve(
    server: OpenAIServer,
    tokenizer: Any,
    answers: Mapping[str, str],
    *,
    fault: Fault = lambda messages, before: "stop",
    together: int = 1,
    differently: bool = False,
) -> None:
    """Let a server speak as vLLM does to TRL, and answer by the rule of all bridges.

    Args:
        server: A scripted server.
        tokenizer: The tiny model's.
        answers: The right answer to each question.
        fault: How it ends a sample.
        together: The first reply waits for so many requests at a time.
        differently: An answer is right, and wrong every second time that the same prompt asks for it.
    """
    enough, lock, seen = threading.Event(), threading.Lock(), Counter[str]()

    def answer(request: Request, number: int) -> Reply:
        if request.path == "/health":
            return Reply("")
        if request.path == "/v1/models":
            return Reply({"data": [{"id": "policy", "max_model_len": 4096}]})
        assert request.path == "/v1/completions", request.path
        if server.most_at_once >= together:
            enough.set()
        assert enough.wait(WAITS_S)
        messages = messages_of(tokenizer, request.body["prompt"])
        with lock:
            before = seen[str(messages)]
            seen[str(messages)] += 1
        ended = fault(messages, before)
        if isinstance(ended, Reply):
            return ended
        text = action(messages, answers)
        if differently and text.startswith("<answer>"):
            right = answers[conformance.question_of(messages[1]["content"])]
            text = f"<answer>{'nobody at all' if before % 2 else right}</answer>"
        ids = sampled_ids(tokenizer, text)
        choice = {"token_ids": ids, "logprobs": {"token_logprobs": log_probs_of(ids)}, "finish_reason": ended}
        return Reply({"choices": [choice]})

    server.answer = answer


def config(server: OpenAIServer, folder: Path, **more: Any) -> Any:
    keywords = {"num_generations": 2, "max_inflight_tasks": 4, "max_completion_length": 1000, **more}
    return AsyncGRPOConfig(
        output_dir=str(folder),
        vllm_server_base_url=server.url.removesuffix("/v1"),
        report_to=[],
        bf16=False,
        **keywords,
    )


def rows(indices: Iterable[int], part: str = "train", **keywords: Any) -> list[dict[str, Any]]:
    """Rows of `atommem data verl`, whose first layout is that of the plain environment."""
    task = task_of(ENV_ID)
    assert task is not None
    keywords = {**KEYWORDS, **keywords}
    items = load_items(task.name, configure(task.name, keywords))
    made = references(ENV_ID, keywords, items, list(indices), part=part)
    return [{"prompt": [], "extra_info": one.as_extra_info()} for one, _ in made]


@pytest.fixture
def make(server: OpenAIServer, tokenizer: Any, tmp_path: Path) -> Iterator[Callable[..., AtomMemRolloutWorker]]:
    """Workers, which are stopped after the test."""
    made: list[AtomMemRolloutWorker] = []

    def worker(data: Any, *, args: Mapping[str, Any] | None = None, **settings: Any) -> AtomMemRolloutWorker:
        keywords = {"model": "policy", "max_prompt_length": 100_000, "tries": 1, **settings}
        made.append(AtomMemRolloutWorker(data, config(server, tmp_path, **(args or {})), tokenizer, **keywords))
        return made[-1]

    yield worker
    for one in made:
        one.stop()


Sessions = dict[int, list[list[RolloutSample]]]
"""The samples of each session, by group id."""


def take(worker: AtomMemRolloutWorker, wanted: Iterable[int], raw: dict[int, list[RolloutSample]]) -> Sessions:
    """Take samples until these groups are whole; all whole groups.

    Args:
        worker: It runs.
        wanted: Group ids.
        raw: The samples that were taken before; those that are taken now are put into it.
    """

    def whole(group: int) -> bool:
        return sum(bool(sample.metrics) for sample in raw.get(group, ())) == worker.args.num_generations

    while not all(map(whole, wanted)):
        try:
            sample = worker.rollout_buffer.get(timeout=5)
        except queue.Empty:
            worker.check_health(WAITS_S)
            continue
        raw.setdefault(sample.group_id, []).append(sample)
    found: Sessions = {}
    for group in filter(whole, raw):
        found[group] = [[]]
        for sample in raw[group]:
            found[group][-1].append(sample)
            if sample.metrics:
                found[group].append([])
        assert found[group].pop() == []
    return found


def collected(worker: AtomMemRolloutWorker, *wanted: int) -> Sessions:
    worker.start()
    found = take(worker, wanted, {})
    worker.stop()
    return found


def logged(worker: AtomMemRolloutWorker) -> dict[str, float]:
    """The worker's metrics, as TRL reduces them."""
    values: dict[str, list[Any]] = {}
    while not worker.metrics_queue.empty():
        for key, value in worker.metrics_queue.get().items():
            values.setdefault(key, []).append(value)
    return {key: _reduce_metric(key, some) for key, some in values.items()}


def assert_session(tokenizer: Any, steps: list[RolloutSample], expected: Played) -> None:
    """The samples of a session are what the plain environment says, and what TRL makes of such turns itself."""
    found = Played(item=expected.item, metrics=expected.metrics, rewards=expected.rewards)
    for sample in steps:
        assert isinstance(sample, RolloutSample)
        mask = sample.completion_mask.astype(bool)
        prompt, ids = sample.input_ids[~mask].tolist(), sample.input_ids[mask].tolist()
        turn = theirs.TurnRecord(prompt, ids, log_probs_of(ids))
        (row,), _ = theirs._chain_to_sequences([turn], "", 1024)
        assert sample.input_ids.tolist() == row.input_ids
        assert sample.completion_mask.tolist() == row.completion_mask
        assert sample.old_log_probs.tolist() == row.old_log_probs
        assert [str(one.dtype) for one in (sample.input_ids, sample.completion_mask, sample.old_log_probs)] == [
            "int64",
            "int64",
            "float32",
        ]
        (reply,) = sample.completion
        assert ids == sampled_ids(tokenizer, reply["content"])
        assert messages_of(tokenizer, prompt) == sample.prompt
        found.prompts.append(sample.prompt)
        found.actions.append(reply["content"])
        assert sample.enqueued_at is not None
    assert_same(found, expected)
    assert all(sample.metrics == {} for sample in steps[:-1])
    metrics = steps[-1].metrics
    assert metrics["reward"] == expected.reward
    assert metrics["atommem/em"] == expected.metrics["em"]
    assert metrics["atommem/f1"] == expected.metrics["f1"]
    assert metrics["atommem/steps"] == len(expected.actions)
    creates = sum(one.count("<create>") for one in expected.actions)
    assert metrics["atommem/op_create"] == creates


@pytest.mark.parametrize("store", ["numpy", "milvus"])
def test_64_sessions_at_a_time_equal_the_plain_environment(
    make: Any, server: OpenAIServer, tokenizer: Any, reference: Reference, store: str
) -> None:
    serve(server, tokenizer, reference.answers, together=64)
    worker = make(rows(range(32), store=store), args={"max_inflight_tasks": 64}, env_keywords={"store": store})
    found = collected(worker, *range(32))
    assert server.most_at_once == 64
    for index in range(32):
        first, second = found[index]
        assert_session(tokenizer, first, reference.play(index))
        assert_session(tokenizer, second, reference.play(index))
    assert {sessions[0][-1].metrics["reward"] for sessions in found.values()} == {0.0, 1.0}
    assert all(sample.advantage == 0.0 for sessions in found.values() for steps in sessions for sample in steps)
    figures = logged(worker)
    assert figures["atommem/groups_without_variance"] == 1.0
    assert figures["atommem/failed_sessions_total"] == figures["atommem/dropped_groups_total"] == 0.0


def test_the_worker_has_what_the_protocol_of_trl_names(make: Any) -> None:
    worker = make(rows([0]))
    for name in RolloutWorkerProtocol.__annotations__:
        assert isinstance(getattr(worker, name), queue.Queue)
    for name, method in vars(RolloutWorkerProtocol).items():
        if inspect.isfunction(method) and not name.startswith("_"):
            mine = inspect.signature(getattr(AtomMemRolloutWorker, name))
            assert list(mine.parameters) == list(inspect.signature(method).parameters), name


def test_requests_are_those_of_trls_own_worker(
    make: Any, server: OpenAIServer, tokenizer: Any, reference: Reference
) -> None:
    serve(server, tokenizer, reference.answers)
    sampling = {"temperature": 0.7, "top_p": 0.9, "top_k": 5, "min_p": 0.1, "repetition_penalty": 1.1}
    worker = make(rows([0]), args=sampling)
    collected(worker, 0)
    asked = completions(server)[0]
    posted: list[Any] = []

    async def post(path: str, payload: Any, timeout: float) -> Any:
        posted.append((path, payload))
        return {"choices": [{"token_ids": [1], "logprobs": {"token_logprobs": [0.0]}}]}

    own = object.__new__(theirs._AsyncRolloutLoop)
    vars(own).update(sampling, model_name="policy", lora_name=None, max_tokens=1000, request_timeout=1, _post=post)
    asyncio.run(own._generate_one_turn(asked["prompt"]))
    ((path, payload),) = posted
    assert path == "/v1/completions"
    assert {**payload, "seed": 0} == {**asked, "seed": 0}
    seeds = [body["seed"] for body in completions(server)]
    assert len(set(seeds)) == len(seeds)


def test_every_step_has_the_advantage_of_its_session(
    make: Any, server: OpenAIServer, tokenizer: Any, reference: Reference
) -> None:
    serve(server, tokenizer, reference.answers, differently=True)
    worker = make(rows(reference.right(2)), args={"num_generations": 4})
    found = collected(worker, 0, 1)
    for group in (0, 1):
        rewards = [steps[-1].metrics["reward"] for steps in found[group]]
        assert sorted(rewards) == [0.0, 0.0, 1.0, 1.0]
        expected = group_advantages(torch.tensor(rewards), torch.zeros(4, dtype=torch.long)).tolist()
        assert sorted(expected) == [-0.5, -0.5, 0.5, 0.5]
        for steps, advantage in zip(found[group], expected, strict=True):
            assert len(steps) > 2
            assert [sample.advantage for sample in steps] == [advantage] * len(steps)
            assert steps[-1].metrics["reward_std"] == 0.5
    assert logged(worker)["atommem/groups_without_variance"] < 1.0


def test_another_rule_of_advantages_may_be_given(
    make: Any, server: OpenAIServer, tokenizer: Any, reference: Reference
) -> None:
    serve(server, tokenizer, reference.answers)
    worker = make(rows([0]), advantages=lambda rewards, groups: rewards * 0 + 3)
    assert {sample.advantage for steps in collected(worker, 0)[0] for sample in steps} == {3.0}


def once(reference: Reference, index: int, ended: Any) -> Fault:
    """The second step of one session of an item ends in this way, and nothing else."""
    second = reference.play(index).prompts[1]
    return lambda messages, before: ended if messages == second and before == 0 else "stop"


@pytest.mark.parametrize(
    "ended",
    ["abort", "error", None, "unheard_of", Reply({"error": "overloaded"}, 503), Reply({"choices": [{"text": "x"}]})],
    ids=["abort", "error", "null", "unheard_of", "503", "no_token_ids"],
)
def test_A9_a_group_of_which_a_sample_is_not_complete_is_never_trained_on(
    make: Any, server: OpenAIServer, tokenizer: Any, reference: Reference, ended: Any
) -> None:
    serve(server, tokenizer, reference.answers, fault=once(reference, 0, ended))
    worker = make(rows([0, 1]))
    worker.start()
    raw: dict[int, list[RolloutSample]] = {}
    found = take(worker, [1], raw)
    assert_session(tokenizer, found[1][0], reference.play(1))
    figures: dict[str, Any] = {"atommem/dropped_groups_total": 0.0}
    while not figures["atommem/dropped_groups_total"]:
        figures = worker.metrics_queue.get(timeout=WAITS_S)
    assert figures["atommem/failed_sessions_total"] == figures["atommem/dropped_groups_total"] == 1.0
    worker.stop()
    assert 0 not in raw
    assert 0 not in {sample.group_id for sample in worker.rollout_buffer.queue}


def test_A9_an_aborted_sample_is_asked_for_again(
    make: Any, server: OpenAIServer, tokenizer: Any, reference: Reference
) -> None:
    serve(server, tokenizer, reference.answers, fault=once(reference, 0, "abort"))
    found = collected(make(rows([0]), tries=2), 0)
    for steps in found[0]:
        assert_session(tokenizer, steps, reference.play(0))


def test_a_server_that_is_killed_costs_no_finished_group_and_ends_the_run(
    make: Any, server: OpenAIServer, tokenizer: Any, reference: Reference
) -> None:
    killed = threading.Event()

    def fault(messages: Messages, before: int) -> str:
        if killed.is_set():
            raise ConnectionAbortedError("the server is gone")
        return "stop"

    serve(server, tokenizer, reference.answers, fault=fault)
    worker = make(rows(range(32)), most_failures=3)
    worker.start()
    raw: dict[int, list[RolloutSample]] = {}
    take(worker, [0, 1], raw)
    # Connections are cut, and further ones refused.
    killed.set()
    server.stop()
    worker._thread.join(WAITS_S)
    with pytest.raises(AtomMemError, match=r"3 groups failed in a row; .*Error: .* See to the server at http://"):
        worker.check_health(WAITS_S)
    while not worker.rollout_buffer.empty():
        sample = worker.rollout_buffer.get()
        raw.setdefault(sample.group_id, []).append(sample)
    # Nothing of a group that failed is there.
    found = take(worker, raw, raw)
    for index in found:
        for steps in found[index]:
            assert_session(tokenizer, steps, reference.play(index))
    assert logged(worker)["atommem/dropped_groups_total"] >= 3
    worker.stop()
    server.__init__()  # type: ignore[misc]  # the fixture stops one that runs


def test_samples_of_a_group_have_one_version_and_stale_ones_are_dropped_by_trl(
    make: Any, server: OpenAIServer, tokenizer: Any, reference: Reference
) -> None:
    serve(server, tokenizer, reference.answers)
    worker = make(rows(range(32)), args={"max_inflight_tasks": 2})
    second = reference.play(0).prompts[1]

    def fault(messages: Messages, before: int) -> str:
        # In the middle of the first group the weights change.
        if messages == second:
            worker.update_model_version(3)
        return "stop"

    worker.update_model_version(1)
    serve(server, tokenizer, reference.answers, fault=fault)
    found = collected(worker, *range(6))
    versions = {group: {sample.model_version for steps in found[group] for sample in steps} for group in found}
    assert versions[0] == {1}
    assert versions[max(found)] == {3}
    assert all(len(some) == 1 for some in versions.values())
    samples: queue.Queue[RolloutSample] = queue.Queue()
    for group in (0, max(found)):
        for steps in found[group]:
            for sample in steps:
                samples.put(sample)
    metrics: dict[str, list[Any]] = defaultdict(list)
    taken = RolloutQueueDataset(samples, lambda: 3, worker.check_health, 1.0, metrics, max_staleness=1)
    assert next(iter(taken))["group_id"] == max(found)
    assert len(metrics["sample/dropped_stale_total"]) == sum(len(steps) for steps in found[0])


def test_adapters_are_asked_for_by_the_name_of_their_version(
    make: Any, server: OpenAIServer, tokenizer: Any, reference: Reference
) -> None:
    serve(server, tokenizer, reference.answers)
    worker = make(rows([0]), lora_name="trl-policy")
    worker.update_model_version(7)
    collected(worker, 0)
    assert {body["model"] for body in completions(server)} == {"trl-policy-v7"}


def test_a_group_meets_one_layout_and_every_epoch_another(
    make: Any, server: OpenAIServer, tokenizer: Any, reference: Reference
) -> None:
    def layouts(part: str) -> list[str]:
        data = rows([0], part)
        for row in data:
            row["extra_info"]["rows_an_epoch"] = int(part == "train")
        found = collected(make(data), 0, 1)
        (one, same), (other, _) = found[0], found[1]
        assert str(one[0].prompt) == str(same[0].prompt)
        return [str(one[0].prompt), str(other[0].prompt)]

    serve(server, tokenizer, reference.answers)
    first, second = layouts("train")
    assert first != second
    assert layouts("validation") == [first, first]


def test_a_full_buffer_holds_further_groups_back(
    make: Any, server: OpenAIServer, tokenizer: Any, reference: Reference
) -> None:
    serve(server, tokenizer, reference.answers)
    worker = make(rows(range(32)), args={"queue_maxsize": 3, "max_inflight_tasks": 4})
    worker.start()
    waiting = threading.Event()
    before = -1
    while len(server.requests) != before:
        before = len(server.requests)
        assert not waiting.wait(1.5)
    assert worker.rollout_buffer.qsize() == 3
    assert next(worker._numbers) == 4  # twice the two that fit
    worker.check_health(WAITS_S)
    found = take(worker, [0, 1], {})
    for index in range(2):
        assert_session(tokenizer, found[index][0], reference.play(index))


def test_a_worker_that_was_stopped_goes_on_with_the_next_group(
    make: Any, server: OpenAIServer, tokenizer: Any, reference: Reference
) -> None:
    serve(server, tokenizer, reference.answers)
    worker = make(rows(range(32)))
    with pytest.raises(AtomMemError, match=r"does not run.*start\(\)"):
        worker.check_health(WAITS_S)
    collected(worker, 0, 1)
    assert not [thread for thread in threading.enumerate() if thread.name == "atommem-rollouts"]
    following = next(worker._numbers) + 1
    assert following > 2
    assert_session(tokenizer, collected(worker, following)[following][0], reference.play(following))


def test_a_worker_that_hangs_is_not_healthy(make: Any, server: OpenAIServer, tokenizer: Any) -> None:
    serve(server, tokenizer, {}, fault=lambda messages, before: Reply("", 503))
    worker = make(rows([0]), tries=5)
    worker.start()
    worker.check_health(WAITS_S)
    with pytest.raises(AtomMemError, match=r"stuck for .*args\.heartbeat_stale_after_s"):
        worker.check_health(-1.0)


def test_a_prompt_that_is_too_long_is_shortened_and_counted(
    make: Any, server: OpenAIServer, tokenizer: Any, reference: Reference
) -> None:
    serve(server, tokenizer, reference.answers)
    (whole, _) = collected(make(rows([0])), 0)[0]
    longest = max(int((sample.completion_mask == 0).sum()) for sample in whole)
    (steps, _) = collected(make(rows([0]), max_prompt_length=longest - 20), 0)[0]
    assert max(int((sample.completion_mask == 0).sum()) for sample in steps) <= longest - 20
    assert steps[-1].metrics["atommem/prompts_shortened"] > 0


def test_a_wrong_row_or_setting_is_refused_and_says_what_to_do(
    make: Any, server: OpenAIServer, tokenizer: Any, reference: Reference
) -> None:
    with pytest.raises(ConfigError, match="atommem data verl"):
        make([])
    with pytest.raises(ConfigError, match="atommem data verl"):
        make([{"prompt": []}])
    with pytest.raises(ConfigError, match=r"store='http://elsewhere:1'.*env_keywords\.store"):
        make(_with(rows([0]), env_keywords='{"store": "http://elsewhere:1"}'))
    with pytest.raises(ConfigError, match=r"args\.num_generations"):
        make(rows([0]), args={"num_generations": 1})
    for wrong in ({"tries": 0}, {"most_failures": 0}, {"max_prompt_length": 0}, {"overlong_prompt": "cut"}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            make(rows([0]), **wrong)
    with pytest.raises(ConfigError, match=r"args\.max_inflight_tasks=-1.*same args"):
        make(rows([0]), args={"max_inflight_tasks": -1}).start()
    serve(server, tokenizer, reference.answers)
    changed = make(_with(rows([0]), item_hash="changed"))
    changed.start()
    changed._thread.join(WAITS_S)
    with pytest.raises(AtomMemError, match="the row was made of"):
        changed.check_health(WAITS_S)


def _with(data: list[dict[str, Any]], **info: Any) -> list[dict[str, Any]]:
    data[0]["extra_info"].update(info)
    return data


# -- TRL's trainer


def plain_attention(
    query: Any, key: Any, value: Any, starts: Any, key_starts: Any, *_: Any, softmax_scale: float, **__: Any
) -> Any:
    """What TRL asks of flash attention, whose kernel needs a GPU."""
    parts = []
    for segment in range(len(starts) - 1):
        q = query[starts[segment] : starts[segment + 1]].transpose(0, 1)
        k, v = (one[key_starts[segment] : key_starts[segment + 1]].transpose(0, 1) for one in (key, value))
        k, v = (one.repeat_interleave(q.shape[0] // one.shape[0], 0) for one in (k, v))
        seen = torch.ones(q.shape[1], k.shape[1], dtype=torch.bool).tril(k.shape[1] - q.shape[1])
        parts.append(
            torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=softmax_scale).transpose(
                0, 1
            )
        )
    return torch.cat(parts)


class NoTransfer:
    """In place of NCCL: notes what the trainer does."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.done: list[str] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        def note(weights: Iterable[Any] = ()) -> None:
            self.done.append(name)
            assert name != "send_weights" or len(list(weights)) > 10

        return note


def test_the_script_of_the_page_trains_a_tiny_model_with_trls_trainer(
    server: OpenAIServer, tokenizer: Any, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write = next(line for line in conformance.commands("TRL") if line.startswith("atommem"))
    assert atommem(write.split()[1:]) == 0
    section = conformance.PAGE.read_text(encoding="utf-8").split("\n## TRL\n", 1)[1].split("\n## ", 1)[0]
    (script,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    for said, instead in {
        "Qwen/Qwen3-0.6B": str(tiny_model),
        "http://localhost:8000": server.url.removesuffix("/v1"),
        # The scripted log-probabilities are far from the model's: with a lower bound of 0 none of them is clipped.
        "num_train_epochs=1": "max_steps=2, learning_rate=0.01, logging_steps=1, report_to=[], bf16=False, epsilon=1.0",
    }.items():
        assert said in script
        script = script.replace(said, instead)
    infos = [row["extra_info"] for row in pq.read_table("data/train.parquet").to_pylist()]
    plain = Reference([info["index"] for info in infos], **json.loads(infos[0]["env_keywords"]))
    serve(server, tokenizer, plain.answers, differently=True)
    plain.env.close()
    monkeypatch.setattr(packing, "_flash_attn", lambda: SimpleNamespace(flash_attn_varlen_func=plain_attention))
    monkeypatch.setattr(async_grpo_trainer, "WeightTransferClient", NoTransfer)
    monkeypatch.setattr(async_grpo_trainer, "get_peak_flops_per_device", lambda *_: None)
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(script, "train.py", "exec"), names)
    trainer, worker = names["trainer"], names["worker"]
    assert isinstance(worker, AtomMemRolloutWorker)
    assert trainer.state.global_step == 2
    # The first weights and those of every step, each known to the worker, which is at its end.
    assert worker.model_version == trainer.model_version == 3
    assert trainer.weight_transfer.done.count("send_weights") == 3
    assert trainer.weight_transfer.done[-1] == "destroy"
    assert worker._thread is None
    lines = [line for line in trainer.state.log_history if "loss" in line]
    assert any(line["grad_norm"] > 0 for line in lines)
    seen = {key for line in lines for key in line}
    assert {"reward", "atommem/em", "atommem/steps", "atommem/op_create", "atommem/failed_sessions_total"} <= seen
    assert all(line["sample/staleness_max"] <= trainer.args.max_staleness for line in lines)
