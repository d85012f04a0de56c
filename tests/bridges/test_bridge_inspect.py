"""Inspect 0.3 plays what the plain environment says: ``make bridges BRIDGES=inspect``."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from support import conformance
from support.conformance import KEYWORDS, MODEL, Played, Reference, assert_same, serve
from support.conformance import reference as reference
from support.openai_server import OpenAIServer, Reply, Request, server  # noqa: F401  (a fixture)

conformance.require("inspect", "inspect_ai")

import inspect_ai  # noqa: E402
from inspect_ai.log import EvalLog, EvalSample, list_eval_logs, read_eval_log  # noqa: E402


@pytest.fixture(autouse=True)
def _the_server_is_the_model(server: OpenAIServer, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setenv("LOCAL_API_KEY", "none")
    monkeypatch.setenv("LOCAL_BASE_URL", server.url)


def evaluate(folder: Path, number: int, **more: Any) -> EvalLog:
    """Play the first items in this process, as ``inspect eval`` does; the log as it stands on disk."""
    more_model = {"model": more.pop("model"), "model_base_url": None} if "model" in more else {}
    inspect_ai.eval(
        "atommem_gym/synthetic",
        # Inspect keeps models, so that of another test's server would be asked but for the URL.
        **{"model": f"openai-api/local/{MODEL}", "model_base_url": os.environ["LOCAL_BASE_URL"], **more_model},
        task_args={**KEYWORDS, "samples": number, **more.pop("task_args", {})},
        log_dir=str(folder),
        display="none",
        **{"max_samples": 64, "max_connections": 64, "max_retries": 0, "fail_on_error": False, **more},
    )
    return last_log(folder)


def last_log(folder: Path) -> EvalLog:
    """What a later command or ``inspect view`` reads."""
    newest = max(list_eval_logs(str(folder)), key=lambda log: (log.mtime, log.name))
    return read_eval_log(newest, resolve_attachments=True)


def index_of(sample: EvalSample) -> int:
    index: int = sample.metadata["reference"]["index"]
    return index


def played(sample: EvalSample) -> Played:
    """An episode of a log: what the model was sent and answered."""
    calls = [event for event in sample.events if event.event == "model"]
    found = Played(item=str(sample.id))
    for call in calls:
        found.prompts.append([{"role": message.role, "content": message.text} for message in call.input])
        found.actions.append(call.output.completion)
    found.rewards = sample.metadata["atommem"]["rewards"]
    found.metrics = sample.metadata["atommem"]["metrics"]
    return found


def assert_sample(sample: EvalSample, expected: Played) -> None:
    assert sample.error is None
    assert_same(played(sample), expected)
    assert sample.scores is not None
    score = sample.scores["episode"]
    assert score.value == {
        "em": expected.metrics["em"],
        "f1": expected.metrics["f1"],
        "evidence_recall": expected.metrics["evidence_recall"],
        "reward": expected.reward,
    }
    assert score.answer == expected.metrics["answers"][0]["answer"]
    assert [message.text for message in sample.messages] == [
        text
        for prompt, action in zip(expected.prompts, expected.actions, strict=True)
        for text in (*(message["content"] for message in prompt), action)
    ]


def test_the_command_of_the_page_plays_what_the_plain_environment_says(
    server: OpenAIServer,  # noqa: F811
    reference: Reference,
    tmp_path: Path,
) -> None:
    serve(server, reference.answers)
    (line,) = [line for line in conformance.commands("Inspect") if " inspect eval " in line]
    done = conformance.run_command(line, server.url, tmp_path)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    log = last_log(tmp_path / "logs")
    assert (log.status, log.eval.task) == ("success", "synthetic")
    assert log.samples is not None
    assert [index_of(sample) for sample in log.samples] == [0, 1, 2, 3]
    for sample in log.samples:
        assert_sample(sample, reference.play(index_of(sample)))
    assert log.results is not None
    means = {one.name: one.metrics["mean"].value for one in log.results.scores}
    assert means["em"] == sum(reference.play(index).metrics["em"] for index in range(4)) / 4
    assert set(means) == {"em", "f1", "evidence_recall", "reward"}


def test_64_episodes_at_a_time_equal_the_plain_environment(
    server: OpenAIServer,  # noqa: F811
    reference: Reference,
    tmp_path: Path,
) -> None:
    serve(server, reference.answers, together=64)
    log = evaluate(tmp_path, 64)
    assert server.most_at_once == 64
    assert log.samples is not None
    assert sorted(index_of(sample) for sample in log.samples) == list(range(64))
    for sample in log.samples:
        assert_sample(sample, reference.play(index_of(sample)))


def test_the_provider_of_hosted_models_plays_alike(
    server: OpenAIServer,  # noqa: F811
    reference: Reference,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (named,) = re.findall(r"--model (openai/[\w.-]+)", conformance.PAGE.read_text(encoding="utf-8"))
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    serve(server, reference.answers)
    log = evaluate(tmp_path, 2, model=named, task_args={"store": "milvus"})
    assert log.samples is not None
    for sample in log.samples:
        assert_sample(sample, reference.play(index_of(sample)))
    assert {request.body["model"] for request in server.asked("/v1/chat/completions")} == {"gpt-4.1-mini"}


def test_a_server_killed_in_the_middle_costs_no_finished_episode_and_the_rest_is_retried(
    server: OpenAIServer,  # noqa: F811
    reference: Reference,
    tmp_path: Path,
) -> None:
    serve(server, reference.answers, killed_after=18)
    port = int(server.url.rsplit(":", 1)[1].split("/")[0])
    log = evaluate(tmp_path, 8, max_samples=2)
    assert log.samples is not None
    ok = [sample for sample in log.samples if sample.error is None]
    assert 0 < len(ok) < 8
    for sample in ok:
        assert_sample(sample, reference.play(index_of(sample)))
    for sample in log.samples:
        assert (sample.error is None) == bool(sample.scores)
    revived = OpenAIServer(port)
    serve(revived, reference.answers)
    try:
        inspect_ai.eval_retry(log, log_dir=str(tmp_path / "again"), display="none", max_retries=0)
    finally:
        revived.stop()
    log = last_log(tmp_path / "again")
    assert log.status == "success"
    assert log.samples is not None
    assert sorted(index_of(sample) for sample in log.samples) == list(range(8))
    for sample in log.samples:
        assert_sample(sample, reference.play(index_of(sample)))


def test_a_limit_of_inspect_leaves_the_sample_without_a_score(
    server: OpenAIServer,  # noqa: F811
    reference: Reference,
    tmp_path: Path,
) -> None:
    serve(server, reference.answers)
    log = evaluate(tmp_path, 2, token_limit=25)
    assert log.samples is not None
    for sample in log.samples:
        assert sample.limit is not None
        assert "atommem" not in sample.metadata
        assert sample.scores is not None
        assert sample.scores["episode"].value != sample.scores["episode"].value  # NaN: left out of means


def test_a_prompt_that_the_server_finds_too_long_is_shortened(server: OpenAIServer, tmp_path: Path) -> None:  # noqa: F811
    def answer(request: Request, number: int) -> Reply:
        if len(request.body["messages"][1]["content"]) > 2000:
            said = "This model's maximum context length is 500 tokens. However, your messages resulted in 700 tokens."
            return Reply({"error": {"message": said, "type": "invalid_request_error", "code": codes[number % 2]}}, 400)
        return Reply(conformance.completion("<create>a fact</create>"))

    codes = ("context_length_exceeded", None)  # one that Inspect understands, and one that it does not
    server.answer = answer
    log = evaluate(tmp_path, 1)
    assert log.samples is not None
    (sample,) = log.samples
    assert sample.error is None
    assert sample.metadata["atommem"]["totals"]["prompts_shortened"] > 0
    assert sample.metadata["atommem"]["metrics"]["operations"]["create"] > 0


def test_A9_a_reply_that_was_not_ended_properly_is_an_error_and_no_score(
    server: OpenAIServer,  # noqa: F811
    tmp_path: Path,
) -> None:
    server.answer = lambda request, number: Reply(conformance.completion("<create>half a", "content_filter"))
    log = evaluate(tmp_path, 1)
    assert log.samples is not None
    (sample,) = log.samples
    assert sample.error is not None
    assert "stop_reason='content_filter'" in sample.error.message
    assert not sample.scores


def test_every_environment_is_a_task_and_a_wrong_argument_is_named() -> None:
    from inspect_ai._util.registry import registry_lookup

    from atommem_gym.bridges.inspect import environment_task
    from atommem_gym.errors import ConfigError
    from atommem_gym.registration import TASKS

    for name in TASKS:
        assert registry_lookup("task", f"atommem_gym/{name.lower()}") is not None, name
    for keywords, named in (
        ({"num_dogs": 3}, "num_dogs"),
        ({"samples": 0}, "samples"),
        ({"embedder": "http://u:pw@h/v1#m"}, "embedder holds a password or key.*OPENAI_API_KEY"),
        ({"store": "http://u:pw@h:19530"}, "store holds a password or key.*MILVUS_TOKEN"),
    ):
        with pytest.raises(ConfigError, match=named):
            environment_task("Synthetic", **keywords)
    assert json.loads(json.dumps(environment_task("Synthetic", samples=2).dataset[1].metadata))
