"""Plans: from plain values and YAML and back, and every mistake named before anything runs (issue 5)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.evaluations import SMALL, small_plan

from atommem_gym.errors import ConfigError
from atommem_gym.evaluation.groups import make_cells, plan_models
from atommem_gym.evaluation.plan import Cell, Plan, dump_plan, read_plan, write_plan

FULL = """
envs:
  - Synthetic
  - {id: hotpotqa, label: Hotpot dev, settings: {source: hotpot.jsonl, split: validation}}
docs: [20, 40]
agents:
  - keep_all
  - {name: crud, label: warm, options: {temperature: 0.7}}
  - {name: crud, label: other model, model: {name: tiny, url: "http://localhost:1/v1"}}
seeds: [0, 1, 2]
episodes: 7
settings: {store: numpy, operations: [create, read]}
model: {url: "http://localhost:8000/v1", name: big, options: {patience: 5}}
concurrency: 9
"""


def test_yaml_and_back(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(FULL)
    plan = read_plan(tmp_path / "plan.yaml")
    assert [env.label for env in plan.envs] == ["Synthetic", "Hotpot dev"]
    assert plan.envs[1].id == "AtomMem-HotpotQA-v0"
    assert plan.episodes_in_all == 2 * 2 * 3 * 3 * 7
    assert plan.cells[:3] == (
        Cell("Synthetic", 20, "keep_all"),
        Cell("Synthetic", 20, "warm"),
        Cell("Synthetic", 20, "other model"),
    )
    write_plan(plan, tmp_path / "again.yaml")
    assert read_plan(tmp_path / "again.yaml") == plan
    assert Plan.from_values(plan.to_values()) == plan


def test_an_environment_gets_the_plans_settings_under_its_own_under_what_the_agent_needs() -> None:
    plan = small_plan(
        envs=[{"id": "Synthetic", "settings": {"chunk_tokens": 50}}],
        agents=["keep_all", {"name": "add_only", "model": "http://localhost:1/v1"}],
        settings={"store": "numpy", "chunk_tokens": 90},
        docs=20,
    )
    made = {cell.agent: dict(one.keywords) for cell, one in make_cells(plan).items()}
    both = {"store": "numpy", "chunk_tokens": 50, "num_docs": 20}
    assert made == {"keep_all": both, "add_only": {**both, "operations": ["create", "read"]}}


def test_every_agent_with_a_language_model_has_one() -> None:
    plan = small_plan(
        agents=["keep_all", "crud", {"name": "crud", "label": "b", "model": "folder/b"}], model="http://localhost:1/v1"
    )
    models = plan_models(plan)
    assert {label: (model.url, model.name) for label, model in models.items()} == {
        "crud": ("http://localhost:1/v1", ""),
        "b": ("", "folder/b"),
    }
    with pytest.raises(ConfigError, match="'crud' needs a language model; give --model"):
        plan_models(small_plan(agents=["crud"]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"envs": []}, "envs is empty"),
        ({"envs": ["Hotpot"]}, "did you mean 'AtomMem-HotpotQA-v0'"),
        ({"envs": ["Synthetic", "synthetic"]}, "envs hold 'Synthetic' twice; give each a label"),
        ({"envs": [{"label": "x"}]}, "id in envs=None must be a non-empty text"),
        ({"envs": [3]}, "envs hold 3; write a name, or a mapping with 'id'"),
        ({"agents": None}, "agents is empty"),
        ({"agents": ["tidy", "tidy"]}, "agents hold 'tidy' twice"),
        ({"agents": [{"name": "tidy", "opts": {}}]}, "unknown field 'opts'; did you mean 'options'"),
        ({"docs": [0]}, "docs=0 must be an integer of at least 1"),
        ({"docs": [20, 20]}, "docs hold 20 twice"),
        ({"docs": True}, "docs=True must be an integer"),
        ({"seeds": [-1]}, "seeds=-1 must be"),
        ({"episodes": "many"}, "episodes='many' must be an integer"),
        ({"episode": 3}, "unknown field 'episode'; did you mean 'episodes'"),
        ({"concurrency": 0}, "concurrency=0 must be"),
        ({"traces": True}, "traces=True must be one of 'jsonl'"),
        ({"settings": {"num_docs": 5}}, "settings hold num_docs=5; write it as docs"),
        ({"settings": {"chunk_token": 5}}, "did you mean 'chunk_tokens'"),
        ({"settings": ["store"]}, "must be a mapping"),
        ({"model": {"options": {}}}, "neither a url nor a name"),
        ({"model": {"name": 3}}, "the model's name=3 must be a text"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Plan.from_values({**SMALL, **changes})
    assert message in str(raised.value)


def test_an_unknown_agent_and_a_contradiction_are_found_before_anything_is_played() -> None:
    with pytest.raises(ConfigError, match="did you mean 'keep_all'"):
        make_cells(small_plan(agents=["keepall"]))
    # Each alone is fine; together they contradict each other.
    plan = small_plan(agents=[{"name": "long_context", "model": "m"}], settings={"operations": ["create", "read"]})
    with pytest.raises(ConfigError, match="the agent 'long_context' in Synthetic: operations="):
        make_cells(plan)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("envs: [", "is not YAML"),
        ("- a", "holds a list; write a mapping"),
        ("", "holds nothing; write"),
        ("episodes: 2023-13-45", "is not YAML: month must be in"),
        (f"episodes: {'9' * 5_000}", "is not YAML: Exceeds the limit"),
        ("episodes: !!timestamp x", "is not YAML"),
        ("episodes: !!bool x", "is not YAML"),
        ("envs: " + "[" * 3_000, "is not YAML"),
        ("episodes: 1\nepisodes: 2", "the key episodes stands twice"),
        ("settings: &all {all: *all}", "holds itself"),
        (
            "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
            + "".join(f"{n}: &{n} [{', '.join([f'*{m}'] * 9)}]\n" for m, n in zip("abcdefgh", "bcdefghi", strict=True)),
            "holds itself, or more than 100,000 values",
        ),
    ],
    ids=range(11),
)
def test_a_file_that_is_no_plan(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        read_plan(tmp_path / "plan.yaml")
    assert len(str(caught.value)) < 1_000
    with pytest.raises(ConfigError, match="cannot be read"):
        read_plan(tmp_path / "none.yaml")


def test_yaml_may_name_values_and_merge_them(tmp_path: Path) -> None:
    text = "settings: &a {top_k: 3}\nenvs: [{id: Synthetic, settings: {<<: *a, top_k: 4}}]\nagents: [tidy]\n"
    (tmp_path / "plan.yaml").write_text(text)
    assert read_plan(tmp_path / "plan.yaml").envs[0].settings == {"top_k": 4}


def test_yaml_that_would_run_code_is_refused(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text("envs: !!python/object/apply:os.getcwd []")
    with pytest.raises(ConfigError, match="is not YAML"):
        read_plan(tmp_path / "plan.yaml")


def test_differences_name_what_changes_results_and_nothing_else() -> None:
    plan = small_plan(model={"url": "http://localhost:1/v1", "name": "m"})
    moved = small_plan(
        model={"url": "http://elsewhere:2/v1", "name": "m"}, concurrency=3, traces="none", give_up_after=1
    )
    assert plan.differences(moved) == []
    patient = small_plan(model={"name": "m", "options": {"patience": 5, "timeout": 3, "concurrency": 2}})
    assert plan.differences(patient) == []
    thinking = small_plan(model={"name": "m", "options": {"patience": 5, "opens_think": True}})
    assert plan.differences(thinking) == ["model.options: not given; now {'opens_think': True}"]
    other = small_plan(model={"name": "n"}, episodes=4, settings={"store": "milvus"})
    assert plan.differences(other) == [
        "episodes: 3; now 4",
        "settings.store: 'numpy'; now 'milvus'",
        "model.name: 'm'; now 'n'",
    ]
    assert plan.differences(small_plan()) == ["model: {'name': 'm'}; now not given"]


def test_more_episodes_in_flight_only_where_they_are_of_use() -> None:
    assert small_plan().in_flight == 4
    assert small_plan(settings={"embedder": "minilm"}).in_flight == 32
    assert small_plan(agents=["tidy", "crud"], model="m").in_flight == 32
    assert small_plan(concurrency=7).in_flight == 7


def test_the_yaml_is_for_people() -> None:
    assert dump_plan(small_plan(agents=["tidy"], docs=20)).splitlines()[:7] == [
        "envs:",
        "- id: AtomMem-Synthetic-v0",
        "  label: Synthetic",
        "agents:",
        "- name: tidy",
        "  label: tidy",
        "docs:",
    ]
