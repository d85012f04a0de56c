"""SkyRL 0.3 is given what the plain environment says: ``make bridges BRIDGES=skyrl PYTHON=python3.12``.

Its generator, trainer and evaluation are the real ones; the inference engine is a fake with their interface. No model
is trained.
"""

from __future__ import annotations

import asyncio
import json
import math
import runpy
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support import conformance
from support.conformance import ENV_ID, KEYWORDS, Messages, Played, Reference, action, as_json, assert_same
from support.conformance import reference as reference

conformance.require("skyrl PYTHON=python3.12", "skyrl")

import torch  # noqa: E402
from skyrl.backends.skyrl_train.inference_servers.base import InferenceEngineInterface  # noqa: E402
from skyrl.backends.skyrl_train.inference_servers.engine_utils import get_sampling_params_for_backend  # noqa: E402
from skyrl.train.dataset import PromptDataset  # noqa: E402
from skyrl.train.evaluate import evaluate_step_wise  # noqa: E402
from skyrl.train.generators.utils import concatenate_generator_outputs, prepare_generator_input  # noqa: E402
from skyrl.train.trainer import RayPPOTrainer  # noqa: E402
from skyrl.train.utils.trainer_utils import validate_generator_output  # noqa: E402

from atommem_gym.agents.shared_pools import close_pools  # noqa: E402
from atommem_gym.bridges import skyrl as bridge  # noqa: E402
from atommem_gym.cli import main as atommem  # noqa: E402
from atommem_gym.errors import AtomMemError, ConfigError  # noqa: E402
from atommem_gym.records.verl_rows import references, skyrl_row  # noqa: E402
from atommem_gym.registration import configure, load_items, task_of  # noqa: E402

EOS, PAD = 1000, 1001
MODEL = "policy"


class Tokenizer:
    """Token ids that stand for bytes; a prompt is its messages as JSON, so that the engine can read it."""

    eos_token_id, eos_token, pad_token_id = EOS, "<eos>", PAD

    def encode(self, text: str, **_: Any) -> list[int]:
        return list(text.encode())

    def decode(self, ids: Sequence[int], **_: Any) -> str:
        return bytes(one for one in ids if one < 256).decode()

    def apply_chat_template(self, messages: Messages, **_: Any) -> list[int]:
        return self.encode(json.dumps(messages))


class Engine(InferenceEngineInterface):  # type: ignore[misc]
    """Answers every prompt by the rule of all bridges."""

    model_name = MODEL

    def __init__(self, answers: dict[str, str], *, together: int = 1, log_probs: bool = True) -> None:
        self.answers, self.log_probs = answers, log_probs
        self.fault: Callable[[str, int], str | None] = lambda session, call: "stop"
        """The stop reason by session and number of its call; it may raise."""
        self.calls: dict[str, int] = {}
        self.finished: list[str] = []
        self.now = self.most = 0
        self._together, self._enough = together, asyncio.Event()

    async def generate(self, input_batch: Any, model: str | None = None) -> Any:
        assert model == MODEL
        (ids,), (session,) = input_batch["prompt_token_ids"], input_batch["session_ids"]
        number = self.calls[session] = self.calls.get(session, -1) + 1
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            if self.most >= self._together:
                self._enough.set()
            await asyncio.wait_for(self._enough.wait(), conformance.WAITS_S)
            stop_reason = self.fault(session, number)
        finally:
            self.now -= 1
        sampled = sampled_ids(action(json.loads(Tokenizer().decode(ids)), self.answers))
        return {
            "responses": [Tokenizer().decode(sampled)],
            "response_ids": [sampled],
            "stop_reasons": [stop_reason],
            "response_logprobs": [log_probs_of(sampled)] if self.log_probs else None,
        }

    async def finish_session(self, session_id: str) -> None:
        self.finished.append(session_id)

    async def _never(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("the bridge needs generate and finish_session alone")

    get_endpoint_url = chat_completion = render_chat_completion = completion = wake_up = sleep = _never
    init_weight_update_communicator = update_named_weights = teardown = reset_prefix_cache = _never
    pause_generation = resume_generation = get_world_size = _never


def sampled_ids(text: str) -> list[int]:
    return [*Tokenizer().encode(text), EOS]


def log_probs_of(ids: Sequence[int]) -> list[float]:
    return [-(one % 7) / 4 for one in ids]


def config(*more: str) -> Any:
    options = ["generator.step_wise_trajectories=true", "generator.max_input_length=100000"]
    return bridge.AtomMemSkyRLConfig.from_cli_overrides([*options, "generator.sampling_params.logprobs=1", *more])


def generator(engine: Engine, cfg: Any = None, **settings: Any) -> Any:
    cfg = config() if cfg is None else cfg
    return bridge.AtomMemGenerator(
        atommem=bridge.AtomMemConfig(**{"tries": 1, **settings}),
        generator_cfg=cfg.generator,
        skyrl_gym_cfg=cfg.environment.skyrl_gym,
        inference_engine_client=engine,
        tokenizer=Tokenizer(),
        policy_model_name=MODEL,
    )


def prompts(indices: Iterable[int], part: str = "train", **keywords: Any) -> list[dict[str, Any]]:
    """Rows as SkyRL's data loader gives them."""
    task = task_of(ENV_ID)
    assert task is not None
    keywords = {**KEYWORDS, **keywords}
    items = load_items(task.name, configure(task.name, keywords))
    made = []
    for one, item in references(ENV_ID, keywords, items, list(indices), part=part):
        columns = skyrl_row(one, item, task.name)
        prompt, env_class = columns.pop("prompt"), columns.pop("env_class")
        made.append({"prompt": prompt, "env_class": env_class, "env_extras": columns, "uid": str(one.index)})
    return made


def batch(
    rows: list[dict[str, Any]], sessions: int = 1, *, phase: Any = "train", step: Any = 0, cfg: Any = None
) -> Any:
    """SkyRL's input for a generator; at step 0 the layout of training is that of the plain environment."""
    cfg = config() if cfg is None else cfg
    sampling = get_sampling_params_for_backend("vllm", cfg.generator.sampling_params)
    return prepare_generator_input(rows, sessions, sampling, "gsm8k", phase, step)[0]


def generate(made: Any, asked: Any) -> Any:
    async def go() -> Any:
        try:
            return await made.generate(asked, disable_tqdm=True)
        finally:
            await close_pools()

    return asyncio.run(go())


def sessions_of(output: Any) -> dict[str, list[int]]:
    """The rows of each trajectory."""
    found: dict[str, list[int]] = {}
    for number, one in enumerate(output["trajectory_ids"]):
        found.setdefault(one.to_string(), []).append(number)
    return found


def played(output: Any, rows: Sequence[int]) -> Played:
    """An episode of a generator's output: a sample a step."""
    last = output["env_metrics"][rows[-1]]
    found = Played(item=last["item"], metrics=as_json(last["episode_metrics"]))
    for number in rows:
        found.prompts.append(json.loads(Tokenizer().decode(output["prompt_token_ids"][number])))
        found.actions.append(Tokenizer().decode(output["response_ids"][number]))
        found.rewards.append(sum(output["rewards"][number]))
    return found


def assert_trajectory(output: Any, rows: Sequence[int], expected: Played) -> None:
    assert_same(played(output, rows), expected)
    assert [output["is_last_step"][number] for number in rows] == [False] * (len(rows) - 1) + [True]
    for number in rows:
        ids = output["response_ids"][number]
        assert ids == sampled_ids(Tokenizer().decode(ids))
        assert output["loss_masks"][number] == [1] * len(ids)
        assert output["rollout_logprobs"][number] == log_probs_of(ids)
        assert output["stop_reasons"][number] == "stop"
    # Where SkyRL's trainer looks for a trajectory's reward and its advantage: the last token of the last step.
    assert output["rewards"][rows[-1]][-1] == expected.reward
    assert output["env_metrics"][rows[-1]]["em"] == expected.metrics["em"]
    assert all(output["env_metrics"][number] == {} for number in rows[:-1])


@pytest.mark.parametrize("store", ["numpy", "milvus"])
def test_64_sessions_at_a_time_equal_the_plain_environment(reference: Reference, store: str) -> None:
    async def go() -> tuple[Engine, Any]:
        engine = Engine(reference.answers, together=64)
        asked = batch(prompts(range(64), store=store))
        output = await generator(engine, env_keywords={"store": store}).generate(asked, disable_tqdm=True)
        await close_pools()
        return engine, output

    engine, output = asyncio.run(go())
    assert engine.most == 64
    validate_generator_output(64, output, step_wise=True)
    found = sessions_of(output)
    assert sorted(engine.finished) == sorted(found)
    assert list(found) == [f"{index}_0" for index in range(64)]
    for index in range(64):
        assert_trajectory(output, found[f"{index}_0"], reference.play(index))
    expected = [reference.play(index) for index in range(64)]
    assert {one.reward for one in expected} == {0.0, 1.0}
    metrics = output["rollout_metrics"]
    assert metrics["environment/failed_sessions"] == 0
    assert metrics["environment/mean_em"] == pytest.approx(sum(one.metrics["em"] for one in expected) / 64)
    assert metrics["environment/mean_steps"] == pytest.approx(sum(len(one.actions) for one in expected) / 64)
    assert metrics["environment/mean_op_create"] > 1


def trainer(cfg: Any, made: Any) -> Any:
    """SkyRL's trainer without its workers: what it does to a generator's output needs none of them."""
    bare = object.__new__(RayPPOTrainer)
    bare.cfg, bare.tokenizer, bare.generator, bare.all_metrics = cfg, Tokenizer(), made, {}
    bare.dispatch = SimpleNamespace(get_lcm_dp_size=lambda: 4)
    return bare


def trained_on(cfg: Any, engine: Engine, rows: list[dict[str, Any]], sessions: int) -> tuple[Any, Any, Any]:
    """What SkyRL's trainer makes of a batch: its generator's output, its tensors with advantages, and the trainer."""

    async def go() -> tuple[Any, Any]:
        bare = trainer(cfg, generator(engine, cfg))
        try:
            return bare, await bare.generate(batch(rows, sessions, cfg=cfg))
        finally:
            await close_pools()

    bare, output = asyncio.run(go())
    uids = [one.instance_id for one in output["trajectory_ids"]]
    output, uids = bare.postprocess_generator_output(output, uids)
    data = bare.convert_to_training_input(output, uids)
    data["values"] = None
    return output, bare.compute_advantages_and_returns(data), bare


def sizes(prompts: int, sessions: int) -> list[str]:
    return [
        f"trainer.train_batch_size={prompts}",
        f"trainer.policy_mini_batch_size={prompts}",
        f"generator.n_samples_per_prompt={sessions}",
    ]


def differently(engine: Engine) -> None:
    """Let the second session of every group answer wrongly."""
    rule = engine.generate

    async def generate(input_batch: Any, model: str | None = None) -> Any:
        answer = await rule(input_batch, model)
        if input_batch["session_ids"][0].endswith("_1") and "<answer>" in answer["responses"][0]:
            answer["response_ids"][0] = sampled_ids("<answer>nobody at all</answer>")
            answer["response_logprobs"] = [log_probs_of(answer["response_ids"][0])]
        return answer

    engine.generate = generate  # type: ignore[method-assign]


def test_the_trainer_of_skyrl_gives_every_step_the_advantage_of_its_session(reference: Reference) -> None:
    engine, indices = Engine(reference.answers), reference.right(3)
    differently(engine)
    cfg = config(*sizes(3, 3), "trainer.algorithm.advantage_estimator=grpo")
    output, data, bare = trained_on(cfg, engine, prompts(indices), 3)
    scores = torch.tensor([1.0, 0.0, 1.0])
    expected = (scores - scores.mean()) / (scores.std() + 1e-6)
    found = sessions_of(output)
    assert len(found) == 9
    for index in indices:
        for member in range(3):
            rows = found[f"{index}_{member}"]
            assert len(rows) > 2
            for number in rows:
                tokens = len(output["response_ids"][number])
                assert int(data["response_mask"][number].sum()) == int(data["loss_mask"][number].sum()) == tokens
                assert torch.allclose(data["advantages"][number][-tokens:], expected[member].expand(tokens))
                assert data["rollout_logprobs"][number][-tokens:].tolist() == log_probs_of(
                    output["response_ids"][number]
                )
                ids = output["prompt_token_ids"][number] + output["response_ids"][number]
                assert data["sequences"][number][-len(ids) :].tolist() == ids
    assert bare.all_metrics["reward/avg_raw_reward"] == pytest.approx(2 / 3)
    assert bare.all_metrics["environment/mean_em"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("stop_reason", ["abort", "error", None, "unheard_of"])
def test_A9_a_sample_that_is_not_complete_takes_its_group_out_of_training(
    reference: Reference, stop_reason: str | None
) -> None:
    engine, (broken, whole) = Engine(reference.answers), reference.right(2)
    differently(engine)
    engine.fault = lambda session, call: stop_reason if (session, call) == (f"{broken}_2", 1) else "stop"
    cfg = config(*sizes(2, 3), "trainer.algorithm.advantage_estimator=grpo")
    output, data, bare = trained_on(cfg, engine, prompts([broken, whole]), 3)
    found = sessions_of(output)
    # Of what is left of the group a step without loss tells the trainer the reward; the failed session is not there.
    assert [name for name in found if name.startswith(f"{broken}_")] == [f"{broken}_0", f"{broken}_1"]
    for name in (f"{broken}_0", f"{broken}_1"):
        (number,) = found[name]
        assert not any(output["loss_masks"][number])
        assert not data["loss_mask"][number].any()
        assert sum(output["rewards"][number]) == (1.0 if name.endswith("_0") else 0.0)
    for member in (0, 2):
        assert_trajectory(output, found[f"{whole}_{member}"], reference.play(whole))
    assert data["loss_mask"][found[f"{whole}_0"]].any()
    assert bare.all_metrics["environment/failed_sessions"] == 1
    assert bare.all_metrics["environment/groups_without_loss"] == 1
    assert bare.all_metrics["environment/mean_em"] == pytest.approx(3 / 5)
    assert sorted(engine.finished) == sorted(f"{index}_{member}" for index in (broken, whole) for member in range(3))


def test_A9_a_group_of_which_all_failed_is_one_sample_without_loss(reference: Reference) -> None:
    def dead(session: str, call: int) -> str:
        if session.startswith("0_") and call:
            raise ConnectionError("the engine is gone")
        return "stop"

    engine = Engine(reference.answers)
    engine.fault = dead
    output, data, _ = trained_on(config(*sizes(2, 2)), engine, prompts([0, 1]), 2)
    found = sessions_of(output)
    (name,) = [name for name in found if name.startswith("0_")]
    (number,) = found[name]
    assert output["loss_masks"][number] == [0]
    assert output["rewards"][number] == [0.0]
    assert not data["loss_mask"][number].any()
    for member in range(2):
        assert_trajectory(output, found[f"1_{member}"], reference.play(1))


def test_an_engine_that_dies_in_the_middle_costs_no_finished_session_and_with_all_failed_the_batch(
    reference: Reference,
) -> None:
    finished = [0, 1, 2]

    def dying(session: str, call: int) -> str:
        if int(session.split("_")[0]) not in finished and call == 2:
            raise ConnectionError("the engine is gone")
        return "stop"

    engine = Engine(reference.answers)
    engine.fault = dying
    output = generate(generator(engine), batch(prompts(range(6)), phase="eval", step=None))
    validate_generator_output(6, output, step_wise=True)
    found = sessions_of(output)
    assert list(found) == [f"{index}_0" for index in finished]
    for index in finished:
        assert_trajectory(output, found[f"{index}_0"], reference.play(index))
    assert output["rollout_metrics"]["environment/failed_sessions"] == 3
    finished.clear()
    with pytest.raises(AtomMemError, match="all 6 sessions failed, the last with ConnectionError: the engine is gone"):
        generate(generator(engine := Engine(reference.answers)), _dead(engine, batch(prompts(range(6)))))
    assert len(engine.finished) == 6


def _dead(engine: Engine, asked: Any) -> Any:
    def gone(session: str, call: int) -> str:
        raise ConnectionError("the engine is gone")

    engine.fault = gone
    return asked


def test_A9_a_call_of_one_group_that_failed_whole_is_one_sample_without_loss_until_nothing_else_comes(
    reference: Reference,
) -> None:
    engine = Engine(reference.answers)
    engine.fault = lambda session, call: "abort"
    made = generator(engine)
    output = generate(made, batch(prompts([0]), 3))
    validate_generator_output(3, output, step_wise=True)
    assert (output["loss_masks"], output["rewards"], output["is_last_step"]) == ([[0]], [[0.0]], [True])
    assert output["rollout_metrics"]["environment/failed_sessions"] == 3
    whole = generate(generator(Engine(reference.answers)), batch(prompts([1]), 3))
    joined = concatenate_generator_outputs([output, whole], step_wise=True)
    assert len(sessions_of(joined)) == 4
    for _ in range(6):
        generate(made, batch(prompts([0]), 3))
    with pytest.raises(AtomMemError, match="all sessions of 8 calls in a row failed"):
        generate(made, batch(prompts([0]), 3))


def test_A9_an_evaluation_goes_on_where_a_batch_failed_whole(reference: Reference) -> None:
    (gone, one, other), engine, cfg = reference.right(3), Engine(reference.answers), config()
    engine.fault = lambda session, call: "abort" if session.startswith(f"{gone}_") else "stop"

    async def go() -> Any:
        try:
            loader = [prompts([gone], "validation"), prompts([one, other], "validation")]
            return await evaluate_step_wise(loader, generator(engine, cfg), cfg, 5, Tokenizer())
        finally:
            await close_pools()

    assert asyncio.run(go())["eval/all/avg_score"] == pytest.approx(2 / 3)


def test_the_time_of_a_session_counts_once(reference: Reference) -> None:
    engine = Engine(reference.answers)
    engine.fault = lambda session, call: "abort" if session == "0_0" else "stop"
    output = generate(generator(engine), batch(prompts([0, 1, 2])))
    times = [
        seconds
        for seconds, last in zip(output["trajectory_generation_times"], output["is_last_step"], strict=True)
        if last
    ]
    assert len(set(times)) == 3 < len(output["is_last_step"])
    (mean,) = [value for key, value in output["rollout_metrics"].items() if "completion_time" in key and "mean" in key]
    assert mean == pytest.approx(sum(times) / 3)


@pytest.mark.parametrize("ends_by", ["cancellation", "row"])
def test_the_other_sessions_of_a_call_that_is_left_end_with_it(reference: Reference, ends_by: str) -> None:
    async def go() -> None:
        # It never answers, so that sessions wait for it.
        engine, rows = Engine(reference.answers, together=10**6), prompts(range(4))
        made = generator(engine, capacity=4)
        if ends_by == "row":
            rows[0]["env_extras"]["extra_info"]["item_hash"] = "changed"
        call = asyncio.create_task(made.generate(batch(rows), disable_tqdm=True))
        if ends_by == "row":
            with pytest.raises(ConfigError, match="the row was made of"):
                await call
        else:
            while engine.now < 4:
                await asyncio.sleep(0.01)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        assert engine.now == 0
        assert sorted(engine.finished) == sorted(f"{index}_0" for index in range(4))
        # All places are free again.
        again = generator(Engine(reference.answers, together=4), capacity=4)
        output = await asyncio.wait_for(
            again.generate(batch(prompts(range(4))), disable_tqdm=True), conformance.WAITS_S
        )
        assert len(sessions_of(output)) == 4
        await close_pools()

    asyncio.run(go())


def test_A9_an_aborted_sample_is_asked_for_again(reference: Reference) -> None:
    engine = Engine(reference.answers)
    engine.fault = lambda session, call: "abort" if call == 1 else "stop"
    output = generate(generator(engine, tries=2), batch(prompts([0, 1])))
    for index in (0, 1):
        assert_trajectory(output, sessions_of(output)[f"{index}_0"], reference.play(index))


def test_members_of_a_group_meet_one_layout_and_every_training_step_another(reference: Reference) -> None:
    def first(step: int, phase: str = "train") -> list[list[int]]:
        asked = batch(prompts([0], "train" if phase == "train" else "validation"), 2, phase=phase, step=step)
        output = generate(generator(Engine(reference.answers)), asked)
        return [output["prompt_token_ids"][rows[0]] for rows in sessions_of(output).values()]

    (one, same), (other, _) = first(1), first(2)
    assert one == same != other
    assert first(1, "eval") == first(2, "eval")


def test_log_probabilities_are_there_if_they_are_asked_for(reference: Reference) -> None:
    without = config("generator.sampling_params.logprobs=null")
    engine = Engine(reference.answers, log_probs=False)
    output = generate(generator(engine, without), batch(prompts([0]), cfg=without))
    assert output["rollout_logprobs"] is None
    validate_generator_output(1, output, step_wise=True)
    with pytest.raises(AtomMemError, match="gave no log-probabilities"):
        generate(generator(engine), batch(prompts([0, 1])))


def test_outputs_of_groups_are_joined_as_the_asynchronous_trainer_joins_them(reference: Reference) -> None:
    engine = Engine(reference.answers)
    outputs = [generate(generator(engine), batch(prompts([index]), 2)) for index in reference.right(2)]
    joined = concatenate_generator_outputs(outputs, step_wise=True)
    assert joined["rollout_metrics"]["environment/mean_em"] == 1.0
    assert joined["rollout_metrics"]["environment/failed_sessions"] == 0.0


def test_a_prompt_that_is_too_long_is_shortened_and_counted(reference: Reference) -> None:
    longest = max(len(json.dumps(prompt)) for prompt in reference.play(0).prompts)
    cfg = config(f"generator.max_input_length={longest - 100}")
    output = generate(generator(Engine(reference.answers), cfg), batch(prompts([0]), cfg=cfg))
    assert max(map(len, output["prompt_token_ids"])) <= longest - 100
    assert output["env_metrics"][-1]["prompts_shortened"] > 0


def test_a_wrong_row_or_setting_ends_the_run_and_is_no_failed_session(reference: Reference) -> None:
    engine = Engine(reference.answers)
    asked = batch(prompts([0, 1]))
    asked["env_extras"][1]["extra_info"]["item_hash"] = "changed"
    with pytest.raises(ConfigError, match="the row was made of"):
        generate(generator(engine), asked)
    del asked["env_extras"][1]["extra_info"]
    with pytest.raises(ConfigError, match="atommem data skyrl"):
        generate(generator(engine), asked)
    with pytest.raises(ConfigError, match=r"store='http://elsewhere:1'.*env_keywords\.store"):
        generate(generator(engine), batch(_naming(prompts([0]), "http://elsewhere:1")))
    for wrong, message in (
        ({"env_id": "Foo-v0"}, "atommem envs"),
        ({"index": 10**7}, "write the data again"),
        ({"index": -1}, "names no item"),
        ({"env_keywords": "[1]"}, "names no item"),
        ({"env_keywords": '{"max_batch": 1}'}, "max_batch=1, which is not a keyword argument"),
    ):
        rows = prompts([0, 1])
        rows[1]["env_extras"]["extra_info"].update(wrong)
        with pytest.raises(ConfigError, match=message):
            generate(generator(engine), batch(rows))
    with pytest.raises(ConfigError, match="step_wise_trajectories"):
        generator(engine, config("generator.step_wise_trajectories=false"))
    for wrong in ({"tries": 0}, {"capacity": 0}, {"overlong_prompt": "cut"}):
        with pytest.raises(ConfigError, match=rf"atommem\.{next(iter(wrong))}"):
            generator(engine, **wrong)


def _naming(rows: list[dict[str, Any]], store: str) -> list[dict[str, Any]]:
    info = rows[0]["env_extras"]["extra_info"]
    info["env_keywords"] = json.dumps({**json.loads(info["env_keywords"]), "store": store})
    return rows


# -- the page


def test_the_commands_of_the_page_write_what_skyrl_reads_and_evaluates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, train = conformance.commands("SkyRL")[1:]
    monkeypatch.chdir(tmp_path)
    assert atommem(shlex.split(write)[1:]) == 0
    words = shlex.split(train)
    assert words[:3] == ["python", "-m", "atommem_gym.bridges.skyrl"]
    # SkyRL's own checks of its options pass; what comes after them needs a GPU.
    cfg = bridge.configuration(words[3:])
    assert isinstance(cfg, bridge.AtomMemSkyRLConfig)
    (train_data,), (val_data,) = cfg.data.train_data, cfg.data.val_data
    limit = cfg.trainer.max_prompt_length
    assert len(PromptDataset(train_data, Tokenizer(), limit, num_workers=1)) == 8
    dataset = PromptDataset(val_data, Tokenizer(), limit, num_workers=1)
    assert len(dataset) == 4
    indices = [dataset[number][2]["extra_info"]["index"] for number in range(4)]
    plain = Reference(indices, split="validation")
    # Not the experiment itself, which asks for GPUs.
    experiment = object.__new__(bridge.AtomMemExp)
    made = experiment.get_generator(cfg, Tokenizer(), Engine(plain.answers))
    assert made.policy_model_name == cfg.trainer.policy.model.path
    made.policy_model_name = MODEL
    made.generator_cfg.max_input_length = 100_000  # a byte is a token here
    cfg.trainer.export_path, cfg.trainer.dump_eval_results = str(tmp_path / "export"), True
    loader = [dataset.collate_fn([dataset[number] for number in range(4)])]

    async def go() -> Any:
        try:
            return await evaluate_step_wise(loader, made, cfg, 7, Tokenizer())
        finally:
            await close_pools()

    metrics = asyncio.run(go())
    expected = [plain.play(index) for index in indices]
    plain.env.close()
    assert metrics["eval/all/avg_score"] == pytest.approx(sum(one.reward for one in expected) / 4)
    # What a person looks at afterwards: every step, with the row that names the item.
    (dump,) = (tmp_path / "export").rglob("Synthetic.jsonl")
    lines = [json.loads(line) for line in dump.read_text().splitlines()]
    for one in expected:
        mine = [line for line in lines if line["env_extras"]["extra_info"]["item"] == one.item]
        assert [line["output_response"] for line in mine] == one.actions
        assert [sum(line["score"]) for line in mine] == one.rewards


def test_main_refuses_a_wrong_option_before_ray_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"dynamic_sampling\.type='filter'"):
        bridge.configuration(
            ["generator.step_wise_trajectories=true", "trainer.algorithm.dynamic_sampling.type=filter"]
        )
    monkeypatch.setattr(sys, "argv", ["skyrl", "generator.step_wise_trajectories=false"])
    monkeypatch.setattr(bridge, "initialize_ray", lambda cfg: pytest.fail("Ray is started"))
    with pytest.raises(ConfigError, match="step_wise_trajectories"):
        runpy.run_module("atommem_gym.bridges.skyrl", run_name="__main__")


def test_unknown_metrics_are_left_out_of_the_means() -> None:
    means = bridge.AtomMemMetrics.aggregate_metrics([{}, {"failed": 0.0, "em": 1.0}, {"failed": 1.0, "error": "x"}])
    assert means == {"mean_em": 1.0, "failed_sessions": 1.0}
    assert not any(math.isnan(value) for value in means.values())
