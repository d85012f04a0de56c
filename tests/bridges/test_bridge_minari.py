"""``atommem export --format minari``: what the real Minari reads is what was played."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace
from support.conformance import commands, require, run_command
from support.example_traces import example_traces, hostile_trace

from atommem_gym.cli import main
from atommem_gym.envs import AtomMemEnv
from atommem_gym.traces.files import TraceWriter
from atommem_gym.traces.record import EpisodeTrace

require("minari", "minari")

import minari  # noqa: E402

DATASET = "atommem/traces-v0"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    return tmp_path / "datasets"


def exported(folder: Path, *traces: EpisodeTrace) -> Any:
    """The traces as Minari loads them, by way of the command."""
    path = folder.with_name("traces.jsonl")
    path.unlink(missing_ok=True)
    with TraceWriter(path) as writer:
        for trace in traces:
            writer.write(trace)
    assert main(["export", str(path), "-o", str(folder), "--format", "minari"]) == 0
    return minari.load_dataset(DATASET)


def test_the_commands_of_the_page_make_and_show_a_dataset(tmp_path: Path) -> None:
    with TraceWriter(tmp_path / "traces.jsonl") as writer:
        writer.write(example_traces(1)[0])
    for line, said in zip(commands("Minari")[1:], ("1 episodes", "SyntheticEnv"), strict=True):
        done = run_command(line, "", tmp_path)
        assert done.returncode == 0, done.stderr
        assert said in done.stdout


def test_every_episode_is_there_as_it_was_played(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    traces = example_traces(2)
    dataset = exported(folder, *traces)
    assert f"{sum(len(trace.steps) for trace in traces)} steps of {len(traces)} episodes" in capsys.readouterr().out
    assert dataset.total_episodes == len(traces)
    assert list(minari.list_local_datasets()) == [DATASET]
    for trace, episode in zip(traces, dataset.iterate_episodes(), strict=True):
        seen = [*(step.observation for step in trace.steps), trace.final_observation]
        assert episode.actions == [step.action for step in trace.steps]
        assert episode.rewards.tolist() == [step.reward for step in trace.steps]
        assert episode.terminations.tolist() == [step.terminated for step in trace.steps]
        assert episode.truncations.tolist() == [step.truncated for step in trace.steps]
        for name in ("question", "chunk", "scratchpad", "query", "feedback"):
            assert episode.observations[name] == [one[name] for one in seen]
        assert list(map(json.loads, episode.observations["memories"])) == [one["memories"] for one in seen]
        for name in ("phase", "progress", "reads_left", "steps_left"):
            assert episode.observations[name].tolist() == [one[name] for one in seen]
        assert all(map(dataset.action_space.contains, episode.actions))
        for number in range(len(seen)):
            one = {name: values[number] for name, values in episode.observations.items()}
            assert dataset.observation_space.contains(one), one
    (metadata,) = dataset.storage.get_episode_metadata([0])
    assert metadata["options"] == {"index": traces[0].index, "shuffle_seed": traces[0].shuffle_seed}


def test_the_environment_is_recovered_and_plays_the_item_again(folder: Path) -> None:
    trace = example_traces(1)[-1]
    dataset = exported(folder, trace)
    env = dataset.recover_environment()
    assert isinstance(env.unwrapped, AtomMemEnv)
    (metadata,) = dataset.storage.get_episode_metadata([0])
    options = {name: int(value) for name, value in metadata["options"].items()}
    observation, _ = env.reset(options=options)
    rewards = []
    for number, action in enumerate(next(dataset.iterate_episodes()).actions):
        assert observation["chunk"] == trace.steps[number].observation["chunk"]
        observation, reward, *_ = env.step(action)
        rewards.append(reward)
    assert rewards == [step.reward for step in trace.steps]
    env.close()


def test_episodes_of_several_environments_name_none(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = example_traces(1)[0]
    other = replace(trace, env=replace(trace.env, keywords={**trace.env.keywords, "top_k": 3}))
    dataset = exported(folder, trace, other)
    assert dataset.env_spec is None
    assert "names no environment" in capsys.readouterr().out
    shaped = replace(trace, env=replace(trace.env, shaping={"MemoryCost": {"per_operation": 0.1}}))
    assert exported(folder, shaped).env_spec is None
    # An earlier dataset was replaced.
    assert minari.load_dataset(DATASET).total_episodes == 1


@pytest.mark.parametrize(
    ("keywords", "named", "said"),
    [
        ({"reward": "evil_rewards:strict"}, "--import evil_rewards", ["--import", "evil_rewards"]),
        ({"reader": "evil_rewards:strict"}, "--import evil_rewards", ["--import", "evil_rewards"]),
        ({"dialect": "evil_rewards:strict"}, "--import evil_rewards", ["--import", "evil_rewards"]),
        ({"embedder": "http://127.0.0.1:9/v1#bge"}, "--trust http://127.0.0.1:9/v1#bge", None),
        ({"embedder": "/models/mine"}, "--trust /models/mine", ["--trust", "/models/mine"]),
        ({"store": "milvus:///somebody.db"}, "--trust milvus:///somebody.db", ["--trust", "milvus:///somebody.db"]),
        ({"template": "/etc/passwd"}, "--trust /etc/passwd", ["--trust", "/etc/passwd"]),
        ({"reader": "http://127.0.0.1:9/v1"}, "--trust http://127.0.0.1:9/v1", None),
        ({"source": "/somebody/records"}, "--trust /somebody/records", ["--trust", "/somebody/records"]),
        ({"source": "hub"}, "--trust hub", ["--trust", "hub"]),
        ({"embedder_options": {"api_key_env": "AWS_KEY"}}, "--trust AWS_KEY", ["--trust", "AWS_KEY"]),
    ],
)
def test_a_dataset_names_no_environment_that_only_the_records_name(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    keywords: dict[str, Any],
    named: str,
    said: list[str] | None,
) -> None:
    (folder.with_name("evil_rewards.py")).write_text("def strict(*a, **k):\n    return 1.0\n")
    monkeypatch.syspath_prepend(str(folder.parent))
    trace = example_traces(1)[0]
    trace = replace(trace, env=replace(trace.env, keywords={**trace.env.keywords, **keywords}))
    assert exported(folder, trace).env_spec is None
    assert "evil_rewards" not in sys.modules
    shown = " ".join(capsys.readouterr().out.split())
    ((name, value),) = keywords.items()
    value = value["api_key_env"] if isinstance(value, dict) else value
    assert name in shown
    assert repr(value) in shown
    assert named in shown
    # Said again, it is the user's word.
    path = folder.with_name("traces.jsonl")
    assert main([*(said or named.split()), "export", str(path), "-o", str(folder), "--format", "minari"]) == 0
    assert "names no environment" not in capsys.readouterr().out
    spec = minari.load_dataset(DATASET).env_spec
    assert {one: spec.kwargs[one] for one in keywords} == keywords
    sys.modules.pop("evil_rewards", None)


def test_a_recorded_environment_that_is_no_task_is_not_named(folder: Path) -> None:
    trace = example_traces(1)[0]
    other = replace(trace, env=replace(trace.env, id="CartPole-v1", keywords={"reward": "x"}))
    assert exported(folder, other).env_spec is None


def test_what_else_lies_in_the_namespace_is_left_as_it_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "atommem").mkdir(parents=True)
    (folder / "atommem" / "namespace_metadata.json").write_text('{"description": "mine"}')
    trace = example_traces(1)[0]
    assert exported(folder, trace, trace).total_episodes == 2
    assert (folder / "atommem" / "namespace_metadata.json").read_text() == '{"description": "mine"}'
    # An export that cannot put its dataset in place leaves the one that was there.
    replace_path = Path.replace

    def fails(path: Path, target: Path) -> Path:
        if path.name.endswith(".partial"):
            raise OSError(5, "no")
        return replace_path(path, target)

    monkeypatch.setattr(Path, "replace", fails)
    assert main(["export", str(folder.with_name("traces.jsonl")), "-o", str(folder), "--format", "minari"]) == 2
    assert "cannot be written" in capsys.readouterr().err
    assert minari.load_dataset(DATASET).total_episodes == 2
    assert sorted(one.name for one in (folder / "atommem").iterdir()) == ["namespace_metadata.json", "traces-v0"]


def test_hostile_texts_are_kept_but_for_what_hdf5_cannot_hold(folder: Path) -> None:
    trace = hostile_trace()
    steps = tuple(replace(step, action=f"{step.action}\0\ud800é🐝") for step in trace.steps)
    (episode,) = exported(folder, replace(trace, steps=steps)).iterate_episodes()
    assert episode.actions == [re.sub("[\0\ud800-\udfff]", "\ufffd", step.action) for step in steps]
    assert episode.actions[0].endswith("\ufffd\ufffdé🐝")
    for said, step in zip(episode.observations["chunk"], steps, strict=False):
        assert len(said) == len(step.observation["chunk"])


def test_options_that_select_are_refused_and_no_episode_is_an_error(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exported(folder, example_traces(1)[0])
    path = str(tmp_path / "traces.jsonl")
    for option in (["--threshold", "0.5"], ["--dev", "0"], ["--seed", "1"], ["--drop-rejected"], ["--render"]):
        assert main(["export", path, "-o", str(folder), "--format", "minari", *option]) == 2
        assert "takes all episodes as they were played" in capsys.readouterr().err
    (tmp_path / "none.jsonl").touch()
    assert main(["export", str(tmp_path / "none.jsonl"), "-o", str(folder), "--format", "minari"]) == 2
    assert "there is no episode in" in capsys.readouterr().err
    # What was there is as it was, and nothing lies beside it.
    assert minari.load_dataset(DATASET).total_episodes == 1
    assert sorted(one.name for one in (folder / "atommem").iterdir()) == ["namespace_metadata.json", "traces-v0"]
    assert np.isfinite(next(minari.load_dataset(DATASET).iterate_episodes()).rewards).all()
