"""verifiers 0.4 plays what the plain environment says, through ``vf-eval``: ``make bridges BRIDGES=verifiers``."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import Any

import pytest
from support import conformance
from support.conformance import ENV_ID, KEYWORDS, MODEL, Played, Reference, assert_same, serve
from support.conformance import reference as reference
from support.openai_server import OpenAIServer, Reply, Request, server  # noqa: F401  (a fixture)

conformance.require("verifiers", "verifiers")

from verifiers.v1.cli.eval.runner import run_eval  # noqa: E402
from verifiers.v1.configs.cli.eval import EvalConfig  # noqa: E402
from verifiers.v1.trace import WireTrace  # noqa: E402
from verifiers.v1.utils.trace_store import read_episodes  # noqa: E402


def evaluate(
    server: OpenAIServer,  # noqa: F811
    folder: Path,
    number: int,
    *,
    keywords: Any = None,
    resume: bool = False,
    agent: Any = None,
    tries: int = 1,
    **more: Any,
) -> dict[int, Any]:
    """Play the first items in this process, as ``vf-eval`` does; the traces by item."""
    config = EvalConfig.model_validate(
        {
            "env": {
                "taskset": {"id": "atommem-env", "env": ENV_ID, "keywords": {**KEYWORDS, **(keywords or {})}},
                "agent": {"harness": {"id": "atommem-env", "tries": tries}, **(agent or {})},
            },
            "model": MODEL,
            "client": {"base_url": server.url},
            "select": {"limit": number},
            "run": {"name": "run"},
            "push": False,
            "rich": None,
            "output_dir": str(folder),
            "resume": resume,
            **more,
        }
    )
    asyncio.run(run_eval(config))
    return {trace.task.data.idx: trace for trace in saved(folder / "run")}


def saved(folder: Path) -> list[Any]:
    """The traces on disk: what a later command, a trainer or a person would read."""
    return [trace for episode in read_episodes(folder, WireTrace) for trace in episode.traces]


def played(trace: Any) -> Played:
    """An episode of a trace: a branch a step."""
    found = Played(item=trace.task.data.id)
    for branch in trace.branches:
        *prompt, reply = branch.messages
        found.prompts.append([{"role": message.role, "content": message.content} for message in prompt])
        found.actions.append(reply.content)
    found.rewards = trace.info["atommem"]["rewards"]
    found.metrics = trace.info["atommem"].get("metrics", {})
    return found


def assert_trace(trace: Any, expected: Played) -> None:
    assert trace.ok, trace.errors
    assert_same(played(trace), expected)
    # One reward, and every step is a branch of its own, hence one training sample.
    assert trace.reward == expected.reward
    assert [score.value for score in trace.rewards.values()] == [expected.reward]
    assert trace.num_branches == trace.num_turns == len(expected.actions)
    assert trace.metrics["em"] == expected.metrics["em"]
    assert trace.metrics["f1"] == expected.metrics["f1"]
    assert trace.metrics["evidence_recall"] == expected.metrics["evidence_recall"]
    assert trace.stop_condition == "agent_completed"


def test_the_command_of_the_page_plays_what_the_plain_environment_says(
    server: OpenAIServer,  # noqa: F811
    reference: Reference,
    tmp_path: Path,
) -> None:
    serve(server, reference.answers)
    (line,) = [line for line in conformance.commands("verifiers") if line.startswith("vf-eval")]
    done = conformance.run_command(line, server.url, tmp_path)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (run,) = (tmp_path / "outputs").iterdir()
    traces = {trace.task.data.idx: trace for trace in saved(run)}
    assert sorted(traces) == [0, 1, 2, 3]
    for index, trace in traces.items():
        assert_trace(trace, reference.play(index))


@pytest.mark.parametrize("store", ["numpy", "milvus"])
def test_64_episodes_at_a_time_equal_the_plain_environment(
    server: OpenAIServer,  # noqa: F811
    reference: Reference,
    tmp_path: Path,
    store: str,
) -> None:
    serve(server, reference.answers, together=64)
    traces = evaluate(server, tmp_path, 64, keywords={"store": store})
    assert server.most_at_once == 64
    rewards = set()
    for index in range(64):
        expected = reference.play(index)
        assert_trace(traces[index], expected)
        rewards.add(expected.reward)
    assert rewards == {0.0, 1.0}


def test_members_of_a_group_meet_the_same_episode(
    server: OpenAIServer,  # noqa: F811
    reference: Reference,
    tmp_path: Path,
) -> None:
    serve(server, reference.answers)
    evaluate(server, tmp_path, 2, num_rollouts=3)
    traces = saved(tmp_path / "run")
    assert len(traces) == 6
    for trace in traces:
        assert_trace(trace, reference.play(trace.task.data.idx))


def test_a_server_killed_in_the_middle_costs_no_finished_episode_and_the_rest_is_played_after_resume(
    server: OpenAIServer,  # noqa: F811
    reference: Reference,
    tmp_path: Path,
) -> None:
    serve(server, reference.answers, killed_after=18)
    port = int(server.url.rsplit(":", 1)[1].split("/")[0])
    traces = evaluate(server, tmp_path, 8, max_concurrent=2)
    ok = [index for index, trace in traces.items() if trace.ok]
    assert 0 < len(ok) < 8
    for index, trace in traces.items():
        if trace.ok:
            assert_trace(trace, reference.play(index))
        else:
            assert trace.last_error.type == "ProviderError"
            assert all(score is None for score in trace.rewards.values())
            assert "metrics" not in trace.info["atommem"]
    revived = OpenAIServer(port)
    serve(revived, reference.answers)
    try:
        traces = evaluate(revived, tmp_path, 8, max_concurrent=2, resume=True)
    finally:
        revived.stop()
    assert sorted(traces) == list(range(8))
    for index, trace in traces.items():
        assert_trace(trace, reference.play(index))


def test_a_refusal_by_max_turns_ends_the_episode_with_what_it_has_earned(
    server: OpenAIServer,  # noqa: F811
    reference: Reference,
    tmp_path: Path,
) -> None:
    serve(server, reference.answers)
    traces = evaluate(server, tmp_path, 3, agent={"max_turns": 2})
    for index, trace in traces.items():
        expected = reference.play(index)
        assert trace.ok
        assert (trace.stop_condition, trace.is_truncated, trace.num_turns) == ("max_turns", True, 2)
        assert played(trace).prompts == expected.prompts[:2]
        assert trace.reward == math.fsum(expected.rewards[:2]) == 0.0
        assert trace.metrics == {"steps": 2.0, "truncated": 1.0}
        assert trace.info["atommem"]["finished"] is False


def test_a_prompt_that_the_server_finds_too_long_is_shortened(
    server: OpenAIServer,  # noqa: F811
    reference: Reference,
    tmp_path: Path,
) -> None:
    def answer(request: Request, number: int) -> Reply:
        if len(request.body["messages"][1]["content"]) > 2000:
            said = "This model's maximum context length is 500 tokens. However, your messages resulted in 700 tokens."
            return Reply({"error": {"message": said, "type": "invalid_request_error", "code": 400}}, 400)
        return Reply(conformance.completion("<create>a fact</create>"))

    server.answer = answer
    trace = evaluate(server, tmp_path, 1)[0]
    assert trace.ok
    assert trace.metrics["prompts_shortened"] > 0
    assert all(len(branch.messages[1].content) <= 2000 for branch in trace.branches)


@pytest.mark.parametrize("reason", ["content_filter", "error"])
def test_A9_a_reply_that_was_not_ended_properly_is_an_error_and_no_reward(
    server: OpenAIServer,  # noqa: F811
    tmp_path: Path,
    reason: str,
) -> None:
    server.answer = lambda request, number: Reply(conformance.completion("<create>half a", reason))
    trace = evaluate(server, tmp_path, 1)[0]
    assert not trace.ok
    assert trace.errors
    assert all(score is None for score in trace.rewards.values())


def test_an_environment_that_is_not_there_is_named(tmp_path: Path) -> None:
    from atommem_env import AtomMemTaskset

    from atommem_gym.bridges.verifiers import AtomMemConfig
    from atommem_gym.errors import ConfigError

    for env, keywords, named in (
        ("HotpotQ", {}, "HotpotQA"),
        (ENV_ID, {"num_dogs": 3}, "num_dogs"),
        (ENV_ID, {"embedder": "http://u:pw@h/v1#m"}, "embedder holds a password or key.*OPENAI_API_KEY"),
    ):
        with pytest.raises(ConfigError, match=named):
            next(iter(AtomMemTaskset(AtomMemConfig(id="atommem-env", env=env, keywords=keywords))))
