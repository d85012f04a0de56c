"""The agent loop in veRL's own code, without Ray, vLLM or an accelerator; skipped where veRL is not installed.

Run it in the environment that ``make verl-environment`` makes: ``.verl/bin/python -m pytest tests/test_verl_*.py``.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.pools import ENV_ID, SMALL, run
from support.tiny_model import tiny_model  # noqa: F401  (a fixture)

from atommem_gym.errors import ConfigError, LanguageModelError
from atommem_gym.records.record import Items
from atommem_gym.records.verl_rows import AGENT_NAME, references, row, write_rows
from atommem_gym.registration import configure, load_items

pytest.importorskip("verl", reason="needs veRL: make verl-environment")
torch = pytest.importorskip("torch")

from omegaconf import OmegaConf  # noqa: E402
from tensordict import TensorDict  # noqa: E402
from verl.experimental.agent_loop.agent_loop import DictConfigWrap, _agent_loop_registry  # noqa: E402
from verl.trainer.ppo.core_algos import AdvantageEstimator  # noqa: E402
from verl.trainer.ppo.v1 import agent_loop_tq  # noqa: E402
from verl.trainer.ppo.v1.utils import compute_advantage_for_multi_trajectories  # noqa: E402
from verl.utils.dataset.rl_dataset import RLHFDataset, collate_fn  # noqa: E402
from verl.workers.rollout.replica import TokenOutput  # noqa: E402

from atommem_gym.agents.learn.verl_loop import AtomMemAgentLoop  # noqa: E402
from atommem_gym.agents.session import TOTALS  # noqa: E402
from atommem_gym.agents.shared_pools import close_pools  # noqa: E402

CONFIG = OmegaConf.create(
    {
        "data": {"train_batch_size": 4, "max_prompt_length": 2500, "prompt_key": "prompt"},
        "actor_rollout_ref": {"rollout": {"prompt_length": 2500, "response_length": 40}},
    }
)


class Server:
    """Stands where veRL's client of the model servers does; says one text, or fails as told."""

    def __init__(
        self, tokenizer: Any, text: str, failures: int = 0, empty: bool = False, ends: tuple[str | None, ...] = ()
    ) -> None:
        self.ids = [] if empty else [*tokenizer.encode(text), tokenizer.eos_token_id]
        self.failures = failures
        self.ends = list(ends)
        self.calls: list[list[int]] = []
        self.sampling: list[dict[str, Any]] = []
        self.requests: list[str] = []

    async def generate(self, request_id: str, *, prompt_ids: list[int], sampling_params: dict[str, Any]) -> TokenOutput:
        self.requests.append(request_id)
        self.calls.append(prompt_ids)
        self.sampling.append(sampling_params)
        if len(self.calls) <= self.failures:
            raise RuntimeError("the replica is gone")
        ids = self.ids[: sampling_params.pop("max_tokens")]
        steps = {"global_steps": 3, "min_global_steps": 3, "max_global_steps": 3}
        ended = self.ends.pop(0) if self.ends else "completed"
        return TokenOutput(token_ids=ids, log_probs=[-0.25] * len(ids), stop_reason=ended, extra_fields=steps)


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:  # noqa: F811
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model)


def items() -> Items:
    return load_items("Synthetic", configure("Synthetic", SMALL))


def a_row(index: int = 0) -> dict[str, Any]:
    ((reference, item),) = references(ENV_ID, SMALL, items(), [index])
    return {**row(reference, item, "Synthetic"), "raw_prompt": [], "global_steps": 1, "uid": "u", "session_id": 0}


def play(tokenizer: Any, server: Server, columns: dict[str, Any] | None = None, **arguments: Any) -> list[Any]:
    async def go() -> list[Any]:
        try:
            loop = AtomMemAgentLoop(
                trainer_config=DictConfigWrap(CONFIG),
                server_manager=server,
                tokenizer=tokenizer,
                processor=None,
                hf_model_type="qwen3",
                dataset_cls=RLHFDataset,
                data_config=DictConfigWrap(CONFIG.data),
                tools=None,
                **arguments,
            )
            return await loop.run({"temperature": 1.0}, **(columns or a_row()))
        finally:
            await close_pools()

    return run(go())


def test_the_rows_are_the_tokens_that_the_server_saw_and_sampled(tokenizer: Any) -> None:
    server = Server(tokenizer, "<create>a fact</create>")
    rows = play(tokenizer, server)
    assert [one.prompt_ids for one in rows] == server.calls
    for one in rows:
        assert one.response_ids == server.ids
        assert one.response_mask == [1] * len(server.ids)
        assert one.response_logprobs == [-0.25] * len(server.ids)
        assert one.extra_fields["max_global_steps"] == 3
        assert one.extra_fields["atommem"]["operations"]["create"] in (0, 1)
    assert all(sampling == {"temperature": 1.0} for sampling in server.sampling)  # max_tokens was taken out
    assert [one.reward_score for one in rows[:-1]] == [None] * (len(rows) - 1)
    assert tuple(rows[-1].extra_fields["reward_extra_info"]) == TOTALS


def test_the_import_leaves_the_settings_of_the_file_alone() -> None:
    # veRL reads agent_loop_config_path first and imports the loop for the first session; were the class registered by
    # that import, all later sessions would be made without the file's shaping, store and log.
    assert AGENT_NAME not in _agent_loop_registry


def test_prompts_are_those_of_the_chat_template_and_never_cut_from_the_left(tokenizer: Any) -> None:
    short = CONFIG.copy()
    for one in play(tokenizer, Server(tokenizer, "")):
        assert tokenizer.decode(one.prompt_ids).startswith("<|im_start|>system")
        assert tokenizer.decode(one.prompt_ids).endswith("<|im_start|>assistant\n")
        assert len(one.prompt_ids) <= short.data.max_prompt_length


def test_R4_memory_cost_changes_the_reward_that_verl_sees(tokenizer: Any) -> None:
    plain = play(tokenizer, Server(tokenizer, "<create>a fact</create>"))[-1]
    shaping = OmegaConf.create({"MemoryCost": {"per_operation": 0.125}})
    shaped = play(tokenizer, Server(tokenizer, "<create>a fact</create>"), shaping=shaping)[-1]
    creates = plain.extra_fields["reward_extra_info"]["op_create"]
    assert creates > 0
    assert (plain.reward_score, shaped.reward_score) == (0.0, pytest.approx(-0.125 * creates))


def test_a_server_that_fails_is_asked_again(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    no_waiting(monkeypatch)
    server = Server(tokenizer, "<create>a fact</create>", failures=2)
    rows = play(tokenizer, server)
    assert len(server.calls) == len(rows) + 2
    with pytest.raises(RuntimeError, match="replica is gone"):
        play(tokenizer, Server(tokenizer, "x", failures=3))
    with pytest.raises(LanguageModelError, match="no token"):
        play(tokenizer, Server(tokenizer, "x", empty=True), tries=1)


def test_finding_5_8_the_calls_of_a_group_have_one_request_id_and_a_repeated_one_another(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_waiting(monkeypatch)

    def requests(failures: int = 0, columns: dict[str, Any] | None = None, **arguments: Any) -> list[str]:
        server = Server(tokenizer, "<create>a fact</create>", failures=failures)
        play(tokenizer, server, {**a_row(), **(columns or {})}, **arguments)
        return server.requests

    assert set(requests()) == set(requests(columns={"session_id": 1})) == {"u"}
    assert set(requests(columns={"uid": "v"})) == {"v"}
    failed = requests(failures=2)
    assert len(set(failed[:3])) == 3  # the router would send the same id to the same replica again
    assert set(failed[3:]) == {"u"}
    sessions = [set(requests(columns={"session_id": i}, routing="session")) for i in range(2)]
    assert [len(one) for one in sessions] == [1, 1]
    assert sessions[0] != sessions[1]
    alone = [requests(columns={"uid": None}) for _ in range(2)]
    assert [len(set(one)) for one in alone] == [1, 1]
    assert alone[0][0] != alone[1][0]
    with pytest.raises(ConfigError, match="routing='replica'"):
        requests(routing="replica")


def test_finding_5_8_under_full_determinism_vllm_is_given_our_ids_which_differ(tokenizer: Any) -> None:
    def requests(member: int) -> list[str]:
        server = Server(tokenizer, "<create>a fact</create>")
        play(tokenizer, server, {**a_row(), "session_id": member})
        return server.requests

    CONFIG.actor_rollout_ref.rollout.full_determinism = True
    try:
        first, second, again = requests(0), requests(1), requests(1)
    finally:
        del CONFIG.actor_rollout_ref.rollout.full_determinism
    assert len({*first, *second}) == len(first) + len(second)
    assert second == again


def test_finding_5_8_verls_router_sends_a_group_to_one_replica() -> None:
    from verl.workers.rollout.router import GlobalRequestLoadBalancer

    router = GlobalRequestLoadBalancer({str(i): None for i in range(8)})
    groups = [{router.acquire_server(f"group {g}")[0] for _ in range(16)} for g in range(8)]
    assert all(len(replicas) == 1 for replicas in groups)
    assert len(set.union(*groups)) == 8  # and groups to different ones


@pytest.mark.parametrize("where", ["the loop's configuration", "the row"])
def test_finding_5_8_a_row_or_the_loop_may_name_the_template_of_shared_prefixes(tokenizer: Any, where: str) -> None:
    columns, arguments = a_row(), {}
    if where == "the row":
        ((reference, item),) = references(ENV_ID, {**SMALL, "template": "shared_prefix"}, items(), [0])
        columns |= row(reference, item, "Synthetic")
    else:
        arguments["template"] = "shared_prefix"
    server = Server(tokenizer, "<scratchpad>notes</scratchpad>")
    play(tokenizer, server, columns, **arguments)
    text = tokenizer.decode(server.calls[1])
    assert text.index("The chunk:") < text.index("Scratchpad:\nnotes")


@pytest.mark.parametrize("ended", ["aborted", "abort", "error", None])
def test_A9_a_sample_that_was_not_completed_is_drawn_again_and_then_fails_the_session(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch, ended: str | None
) -> None:
    no_waiting(monkeypatch)
    server = Server(tokenizer, "<create>a fact</create>", ends=(ended, ended, "completed", "length", "stop"))
    rows = play(tokenizer, server)
    assert len(server.calls) == len(rows) + 2
    with pytest.raises(LanguageModelError, match="stop_reason"):
        play(tokenizer, Server(tokenizer, "<create>a fact</create>", ends=("completed", ended, ended, ended)))


def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    from atommem_gym.agents import token_policy

    monkeypatch.setattr(token_policy, "wait_exponential", lambda **_: lambda _: 0)


def test_wrong_arguments_are_named(tokenizer: Any) -> None:
    for arguments, message in (
        ({"overlong_prompt": "cut"}, "overlong_prompt='cut'"),
        ({"tries": 0}, "tries=0"),
        ({"shaping": {"MemoryCots": {}}}, "MemoryCost"),
        ({"env_keywords": {"stroe": "numpy"}}, "stroe"),
    ):
        with pytest.raises(ConfigError, match=message):
            play(tokenizer, Server(tokenizer, "x"), **arguments)


def test_sessions_are_logged_one_line_each(tokenizer: Any, tmp_path: Path) -> None:
    log = tmp_path / "new" / "sessions.jsonl"
    for _ in range(2):
        play(tokenizer, Server(tokenizer, "x"), log=str(log))
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(lines) == 2
    assert lines[0]["item"] == a_row()["extra_info"]["item"]
    assert set(TOTALS) < set(lines[0])


def test_verl_reads_the_rows(tokenizer: Any, tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    write_rows(path, [row(*one, "Synthetic") for one in references(ENV_ID, SMALL, items(), [0, 5])])
    config = OmegaConf.create({**OmegaConf.to_container(CONFIG.data), "cache_dir": str(tmp_path / "cache")})
    batch = collate_fn([RLHFDataset(str(path), tokenizer, config)[i] for i in range(2)])
    assert list(batch["agent_name"]) == ["atommem", "atommem"]
    assert list(batch["index"]) == [0, 5]
    columns = {**{name: values[1] for name, values in batch.items()}, "global_steps": 1}
    rows = play(tokenizer, Server(tokenizer, "x"), columns)
    assert rows[-1].reward_score == 0.0


def worker(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, dict[str, Any]]:
    """veRL's agent loop worker without Ray, and what it puts into the transfer queue."""
    kind = agent_loop_tq.AgentLoopWorkerTQ.__ray_metadata__.modified_class
    made, put = kind.__new__(kind), {}
    made.config, made.distillation_enabled, made.reward_loop_worker_handles = CONFIG, False, None
    made.processor, made.mm_processor_kwargs = None, {}

    async def keep(keys: Any, fields: Any, tags: Any, partition_id: str) -> None:
        put.update(keys=keys, fields=fields, tags=tags, partition=partition_id)

    monkeypatch.setattr(agent_loop_tq.tq, "async_kv_batch_put", keep)
    return made, put


def test_verl_takes_the_outputs_and_copies_the_reward(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    columns = a_row()
    rows = play(
        tokenizer, Server(tokenizer, "<create>a</create>"), columns, shaping={"MemoryCost": {"per_operation": 0.5}}
    )
    made, put = worker(monkeypatch)
    asyncio.run(type(made)._agent_loop_postprocess(made, rows, False, **columns))
    assert put["keys"] == [f"u_0_{i}" for i in range(len(rows))]
    assert {tag["status"] for tag in put["tags"]} == {"success"}
    assert {tag["max_global_steps"] for tag in put["tags"]} == {3}
    scores = [float(one[-1]) for one in put["fields"]["rm_scores"]]
    assert scores == [rows[-1].reward_score] * len(rows)
    assert scores[0] < 0


def test_verl_s_group_advantages_see_sessions_not_rows(tokenizer: Any) -> None:
    texts = ("<create>a</create>", "", "<create>a</create><create>b</create>", "<read>a</read>")
    shaping = {"MemoryCost": {"per_operation": 0.125}}
    sessions = [play(tokenizer, Server(tokenizer, text), shaping=shaping) for text in texts]
    keys = [f"u_{s}_{i}" for s, rows in enumerate(sessions) for i in range(len(rows))]
    advantages = advantages_of(sessions, keys)
    rewards = np.array([rows[-1].reward_score for rows in sessions])
    for key, advantage in zip(keys, advantages, strict=True):
        assert float(advantage[0]) == pytest.approx(rewards[int(key.split("_")[1])] - rewards.mean(), abs=1e-6)


def advantages_of(sessions: list[list[Any]], keys: list[str]) -> Any:
    """veRL's advantages without the standard deviation, as ``grpo_qwen3_8b.yaml`` sets it."""
    from verl.protocol import DataProto

    flat = [(one, rows[-1].reward_score) for rows in sessions for one in rows]
    width = max(len(one.response_ids) for one, _ in flat)
    mask, rewards = torch.zeros(len(flat), width), torch.zeros(len(flat), width)
    for i, (one, reward) in enumerate(flat):
        mask[i, : len(one.response_ids)] = 1
        rewards[i, len(one.response_ids) - 1] = reward
    data = DataProto(
        batch=TensorDict({"token_level_rewards": rewards, "response_mask": mask}, batch_size=len(flat)),
        non_tensor_batch={"uid": np.array(["u"] * len(flat), dtype=object)},
    )
    made = compute_advantage_for_multi_trajectories(data, keys, AdvantageEstimator.GRPO, norm_adv_by_std_in_grpo=False)
    return made.batch["advantages"]


@pytest.mark.parametrize(("estimator", "by_session"), [("grpo", True), ("rloo", False)])
def test_which_estimators_of_verl_go_by_sessions(estimator: str, by_session: bool) -> None:
    """What docs/train_your_own.md says: three rows of one session weigh as one with GRPO, as three with RLOO."""
    from verl.protocol import DataProto

    keys = ["u_0_0", "u_1_0", "u_1_1", "u_1_2"]
    rewards = torch.zeros(4, 2)
    rewards[:, 1] = torch.tensor([1.0, 0.0, 0.0, 0.0])
    data = DataProto(
        batch=TensorDict({"token_level_rewards": rewards, "response_mask": torch.ones(4, 2)}, batch_size=4),
        non_tensor_batch={"uid": np.array(["u"] * 4, dtype=object)},
    )
    made = compute_advantage_for_multi_trajectories(
        data, keys, AdvantageEstimator(estimator), norm_adv_by_std_in_grpo=False
    )
    advantages = made.batch["advantages"][:, 0].tolist()
    symmetric = advantages[0] == pytest.approx(-advantages[1])
    assert symmetric is by_session, advantages
