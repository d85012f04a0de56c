"""``atommem compare``: who is paired with whom, by how much B is better, and what must not be compared (issue 5)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.evaluations import play, row, small_plan

from atommem_gym.cli import main
from atommem_gym.errors import ConfigError
from atommem_gym.evaluation.folder import EvaluationError, FailedEpisode, Run
from atommem_gym.evaluation.paired import PAIRED_METRICS, compare
from atommem_gym.evaluation.results import EpisodeResult, QuestionResult

Capture = pytest.CaptureFixture[str]


def a_run(results: Sequence[EpisodeResult], name: str = "a", **changes: Any) -> Run:
    labels = list(dict.fromkeys(result.agent for result in results)) or ["tidy"]
    plan = small_plan(
        **{
            "envs": ["HotpotQA", "MuSiQue"],
            "docs": [200, 400],
            "agents": [{"name": "tidy", "label": label} for label in labels],
            **changes,
        }
    )
    return Run(Path(name), plan, tuple(results), (), ())


def ems(values: Sequence[float], **changes: Any) -> list[EpisodeResult]:
    return [row(index=i, em=em, **changes) for i, em in enumerate(values)]


def test_differences_by_hand() -> None:
    found = compare(a_run(ems([0, 0, 1, 1, 0])), a_run(ems([1, 1, 1, 0, 1]), "b"))
    (only,) = found.rows
    assert (only.env, only.docs, only.agents, only.pairs, only.items) == ("HotpotQA", "200", ("tidy", "tidy"), 5, 5)
    assert (only.a, only.b, only.difference.mean) == pytest.approx((0.4, 0.8, 0.4))
    assert (only.wins, only.losses, only.ties) == (3, 1, 1)
    assert only.sign_p == only.permutation_p == pytest.approx(10 / 16)
    assert only.difference.low < 0.4 < only.difference.high
    assert (found.unpaired, found.warnings) == ((0, 0), ())


def test_turning_it_round_turns_the_sign() -> None:
    a, b = a_run(ems([0, 0, 1, 1, 0, 1, 0])), a_run(ems([1, 1, 1, 0, 1, 1, 1]), "b")
    there, back = compare(a, b).rows[0], compare(b, a).rows[0]
    assert back.difference.mean == -there.difference.mean
    assert (back.wins, back.losses, back.sign_p) == (there.losses, there.wins, there.sign_p)


def test_pairing_is_narrower_than_two_intervals_apart() -> None:
    hard = [float(i % 2) for i in range(40)]
    better = [1.0 if i in (0, 10) else em for i, em in enumerate(hard)]
    found = compare(a_run(ems(hard)), a_run(ems(better), "b")).rows[0]
    assert found.difference.mean == pytest.approx(0.05)
    assert found.difference.high - found.difference.low < 0.15


def test_pairs_are_matched_by_environment_documents_item_layout_and_questions() -> None:
    base = row(index=3)
    other_question = (QuestionResult("other", "bridge", 1.0, 1.0, "answered", None),)
    a = a_run(
        [
            base,
            row(index=4),
            row(index=3, docs=400),
            row(index=3, env="MuSiQue"),
            row(index=3, shuffle_seed=1),
            row(index=5, questions=other_question),
        ]
    )
    b = a_run([base, row(index=5), row(index=3, docs=400, em=0.0)], "b")
    found = compare(a, b)
    assert [(one.env, one.docs, one.pairs) for one in found.rows] == [
        ("HotpotQA", "200", 1),
        ("HotpotQA", "400", 1),
        ("all", "all", 2),
    ]
    assert found.pairs == 2
    assert found.unpaired == (4, 1)
    assert found.rows[2].items == 1, "an item is the same item at every document count"
    assert found.rows[2].difference.mean == -0.5


def test_seeds_of_a_side_are_averaged_before_they_are_paired() -> None:
    a = a_run(ems([1, 0]), seeds=0)
    b = a_run([row(index=i, seed=seed, em=float(seed == 0 and i == 0)) for i in range(2) for seed in range(4)], "b")
    found = compare(a, b)
    assert found.rows[0].pairs == 2
    assert found.rows[0].difference.mean == pytest.approx((0.25 - 1 + 0) / 2)
    assert any("seeds differ: [0] and [0, 1, 2, 3]" in warning for warning in found.warnings)


def test_whose_episodes_are_compared() -> None:
    both = a_run([*ems([0, 1], agent="tidy"), *ems([1, 1], agent="crud")])
    other = a_run([*ems([1, 1], agent="crud"), *ems([0, 1], agent="new")], "b")
    assert [one.agents for one in compare(both, other).rows] == [("crud", "crud")], "equal labels by default"
    assert compare(both, both, agents=("tidy", "crud")).rows[0].difference.mean == 0.5
    assert compare(a_run(ems([0, 0])), a_run(ems([1, 1], agent="new"), "b")).rows[0].agents == ("tidy", "new")
    with pytest.raises(ConfigError, match="the agent 'cruds' did not play in b; there are crud, new"):
        compare(both, other, agents=("tidy", "cruds"))
    with pytest.raises(EvaluationError, match="would be compared with itself; say with --agents A B"):
        compare(both, both)
    with pytest.raises(EvaluationError, match="was played by tidy, crud and c by new, newer"):
        compare(both, a_run([*ems([0], agent="new"), *ems([0], agent="newer")], "c"))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"env": "MuSiQue"}, "no environments in common (HotpotQA and MuSiQue)"),
        ({"docs": 400}, "no document counts in common"),
        ({"index": 9}, "no items in common"),
        ({"shuffle_seed": 9}, "no layouts in common"),
        ({"questions": ()}, "items of equal index have other questions"),
    ],
)
def test_without_a_single_pair_it_refuses_and_says_why(changes: dict[str, Any], reason: str) -> None:
    other = row(**{"index": 0, **changes})
    with pytest.raises(EvaluationError, match="no pairs") as raised:
        compare(a_run([row(index=0)]), a_run([other], "b"))
    assert reason in str(raised.value)


def test_metrics() -> None:
    costs = {"calls": 1, "prompt_tokens": 100, "completion_tokens": 5}
    a = a_run([row(index=i, f1=0.5, **costs) for i in range(3)])
    b = a_run([row(index=i, f1=0.75, **{**costs, "prompt_tokens": 40}, steps=7) for i in range(3)], "b")
    differences = {metric: compare(a, b, metric).rows[0].difference.mean for metric in PAIRED_METRICS}
    assert (differences["f1"], differences["tokens"], differences["steps"], differences["operations"]) == (
        0.25,
        -60,
        5,
        0,
    )
    with pytest.raises(ConfigError, match="metric='bleu' must be one of 'em'"):
        compare(a, b, "bleu")
    with pytest.raises(EvaluationError, match="tokens is not known on both sides"):
        compare(a, a_run(ems([1, 1, 1]), "b"), "tokens")


def test_differing_settings_are_warned_of() -> None:
    a = a_run(ems([1, 1]), settings={"store": "numpy", "embedder": "minilm"})
    b = replace(
        a_run(ems([1, 1]), "b", settings={"store": "numpy", "top_k": 3}),
        failures=(FailedEpisode("HotpotQA", 200, "tidy", 0, 5, 0, 0, "X", "", ""),),
        sessions=({"versions": "atommem-gym 9"},),
    )
    warnings = "\n".join(compare(a, b).warnings)
    for line in (
        "settings differ: embedder of HotpotQA: 'minilm' and 'default'",
        "settings differ: top_k of HotpotQA: 'default' and 3",
        "versions differ:",
        "1 episode of B (b) failed, outside all pairs",
    ):
        assert line in warnings
    assert "store" not in warnings


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    root = tmp_path_factory.mktemp("compare")
    plan = {"docs": [10, 20], "seeds": 0, "episodes": 5}
    play(root / "a", small_plan(agents=["silent", "oracle"], **plan))
    play(root / "b", small_plan(agents=["silent", "oracle"], **plan))
    return [str(root / "a"), str(root / "b")]


def test_the_command_prints_pairs_intervals_and_tests(folders: list[str], capsys: Capture) -> None:
    assert main(["compare", folders[0], folders[0], "--agents", "silent", "oracle"]) == 0
    out = capsys.readouterr().out
    assert "em: B (" in out
    assert "silent → oracle" in out
    line = next(line for line in out.splitlines() if line.split()[:2] == ["all", "all"])
    assert "10" in line.split()
    assert "10 pairs, matched by environment, documents, item, layout and questions" in " ".join(out.split())

    assert main(["compare", *folders, "--metric", "f1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {tuple(one["agents"]) for one in found["rows"]} == {("silent", "silent"), ("oracle", "oracle")}
    assert all(one["difference"]["mean"] == 0 and one["sign_p"] == 1 for one in found["rows"])


def test_the_command_refuses_readably(folders: list[str], capsys: Capture, tmp_path: Path) -> None:
    assert main(["compare", folders[0], str(tmp_path)]) == 2
    assert "holds no evaluation" in capsys.readouterr().err
    assert main(["compare", folders[0], folders[0]]) == 2
    assert "would be compared with itself" in capsys.readouterr().err
