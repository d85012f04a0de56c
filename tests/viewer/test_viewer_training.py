"""A training on a page: charts and sessions from the logs of the learners, also while they are written (issue 21)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from support.browser import Sight, chromium  # noqa: F401
from support.example_traces import HOSTILE, example_traces

from atommem_gym.cli import FAILED, main
from atommem_gym.errors import AtomMemError
from atommem_gym.traces import TraceWriter
from atommem_gym.viewer.training import training_fronts

STEPS, GROUPS, MEMBERS = 3, 2, 2


@pytest.fixture(scope="module", autouse=True)
def played() -> Any:
    """At once: while Playwright runs, nothing can be played."""
    return example_traces(1)


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """As veRL's agent loop logs sessions, and its logger figures."""
    folder = tmp_path / "verl"
    folder.mkdir()
    sessions = [
        session(step, group, member, em=float(group == 0 or member))
        for step in range(1, STEPS + 1)
        for group in range(GROUPS)
        for member in range(MEMBERS)
    ]
    write(folder / "sessions.jsonl", [{**sessions[0], "part": "test", "reward": 9.0}, *sessions])
    figures = {"perf/total_num_tokens": 1000, "prompt_length/mean": 90, "response_length/mean": 10}
    figures |= {"timing_s/gen": 2.0, "timing_s/update_actor": 4.0, "critic/score/mean": 0.5}
    write(folder / "metrics.jsonl", [{"step": step, "data": figures} for step in range(1, STEPS + 1)])
    return folder


def session(step: int, group: int, member: int, em: float, **more: Any) -> dict[str, Any]:
    told = {"run": "a", "global_step": step, "uid": f"g{step}-{group}", "session": member, "part": "train"}
    told |= {"item": f"item/{group}", "shuffle_seed": 0, "reward": em, "em": em, "steps": 5.0, "rejected": 1.0}
    return {**told, "op_create": 2.0 * step, "op_read": 1.0, "op_update": 0.0, "response_tokens": 40.0, **more}


def write(path: Path, lines: list[dict[str, Any]]) -> None:
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")


def charts(folder: Path) -> dict[str, dict[str, list[list[Any]]]]:
    found = training_fronts(folder)["training"]["charts"]
    return {chart["title"]: {one["name"]: one["points"] for one in chart["series"]} for chart in found}


def test_charts_are_means_of_the_training_sessions_with_their_number(logs: Path) -> None:
    drawn = charts(logs)
    assert drawn["reward"]["reward"] == [[step, 0.75, GROUPS * MEMBERS] for step in (1, 2, 3)]
    assert drawn["exact match"]["exact match"] == drawn["reward"]["reward"]
    assert drawn["groups without variance"]["groups without variance"] == [[step, 0.5, GROUPS] for step in (1, 2, 3)]
    # What is never done has no line.
    assert drawn["operations"] == {
        "create": [[step, 2.0 * step, 4] for step in (1, 2, 3)],
        "read": [[step, 1.0, 4] for step in (1, 2, 3)],
    }
    assert drawn["tokens a second"]["sampled"][0][:2] == [1, 1000 * 10 / 100 / 2.0]
    assert drawn["tokens a second"]["trained"][0][:2] == [1, 1000 / 4.0]


def test_either_log_is_enough(logs: Path) -> None:
    (logs / "metrics.jsonl").rename(logs / "kept")
    assert "tokens a second" not in charts(logs)
    (logs / "kept").rename(logs / "metrics.jsonl")
    (logs / "sessions.jsonl").unlink()
    assert charts(logs)["reward"]["reward"] == [[step, 0.5, None] for step in (1, 2, 3)]
    figures = {"iteration": 1, "reward": 0.25, "exact_match": None, "groups_without_variance": 1.0}
    write(logs / "metrics.jsonl", [{**figures, "sampled_tokens_per_second": 7.0}])
    drawn = charts(logs)
    assert drawn["reward"]["reward"] == [[1, 0.25, None]]
    assert "exact match" not in drawn
    assert drawn["tokens a second"] == {"sampled": [[1, 7.0, None]]}


def test_a_run_that_grows_and_a_cut_last_line_are_shown_as_far_as_they_go(logs: Path) -> None:
    for name in ("sessions.jsonl", "metrics.jsonl"):
        path = logs / name
        whole = path.read_text()
        path.write_text(whole[:-20])
        assert charts(logs)["reward"]["reward"][-1][0] == STEPS
        # A step that was played again after a resume counts once, as it came out last.
        path.write_text(whole)
    with (logs / "sessions.jsonl").open("a") as file:
        file.write(json.dumps(session(3, 0, 0, em=0.0, run="b")) + "\n" + '{"run": "b", "glo')
    assert charts(logs)["reward"]["reward"][-1] == [3, 0.0, 1]


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        ("sessions.jsonl", '{"part": "train"}', "is not a session of a training"),
        (
            "sessions.jsonl",
            '{"part": "train", "global_step": "x", "uid": 1, "reward": 1}',
            "whole number as global_step",
        ),
        ("sessions.jsonl", '{"part": "train", "global_step": 1, "uid": 1, "reward": NaN}', "or no reward"),
        (
            "sessions.jsonl",
            '{"part": "train", "global_step": 1, "uid": 1, "reward": 1' + 400 * "0" + "}",
            "or no reward",
        ),
        ("sessions.jsonl", '{"part": "train", "global_step": 9007199254740993, "uid": 1, "reward": 1}', r"2\*\*53"),
        ("sessions.jsonl", '{"part": "train", "global_step": -1, "uid": 1, "reward": 1}', "0 to 2"),
        ("sessions.jsonl", 100_000 * "[" + 100_000 * "]", "cannot be read"),
        ("sessions.jsonl", "nonsense", "cannot be read"),
        ("metrics.jsonl", '{"step": 9007199254740993, "data": {}}', "has no figures of a training step"),
        ("metrics.jsonl", "[1]", "line 1 of"),
        ("metrics.jsonl", '{"step": true, "data": {}}', "has no figures of a training step"),
        ("metrics.jsonl", '{"step": 1, "data": 3}', "has no figures of a training step"),
        ("metrics.jsonl", "nonsense", "cannot be read as figures"),
    ],
)
def test_a_damaged_log_is_named(logs: Path, name: str, line: str, message: str) -> None:
    path = logs / name
    path.write_text(f"{line}\n{path.read_text()}")
    with pytest.raises(AtomMemError, match=message):
        training_fronts(logs)


def test_numbers_that_no_sum_holds_are_none(logs: Path) -> None:
    more = {"op_create": 10**400, "env_s": "x", "session_s": 10**400, "response_tokens": "x"}
    sessions = [session(1, 0, member, em=1.0, **more) | {"reward": 1e300} for member in range(3)]
    write(logs / "sessions.jsonl", [*sessions, sessions[0] | {"em": 10**400}])
    write(logs / "metrics.jsonl", [{"step": 1, "data": {"timing_s/gen": 10**400, "critic/score/mean": 10**400}}])
    fronts = training_fronts(logs)
    assert charts(logs)["reward"]["reward"][0][1] == pytest.approx(1e300)
    assert charts(logs)["exact match"]["exact match"][0][1] == 1.0
    last = fronts["sessions-1"][0]["sessions"][-1]
    assert (last["em"], last["response_tokens"], last["operations"]) == (None, None, {"read": 1.0, "update": 0.0})


def test_a_folder_without_a_training_is_an_error_with_a_remedy(
    tmp_path: Path, logs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nothing = tmp_path / "nothing"
    nothing.mkdir()
    for arguments, message in (
        (
            ["--training", str(nothing)],
            "there is neither metrics.jsonl nor sessions.jsonl; grpo.py writes both with --log",
        ),
        (["--training", str(tmp_path / "gone")], "is not a folder"),
        ([str(logs), "--training", str(logs)], "is given twice"),
    ):
        assert main(["view", *arguments, "--no-open"]) == FAILED
        assert message in " ".join(capsys.readouterr().err.split())


@pytest.fixture
def opened(chromium: Any) -> Iterator[list[Sight]]:  # noqa: F811
    seen: list[Sight] = []
    yield seen
    for sight in seen:
        sight.close()
        assert sight.complaints == []


def test_the_page_draws_the_training_and_opens_the_sessions_of_a_step(
    logs: Path,
    chromium: Any,  # noqa: F811
    opened: list[Sight],
    played: Any,
) -> None:
    with TraceWriter(logs / "traces.jsonl") as writer:
        for step, member in ((2, 0), (2, 1)):
            agent = replace(played[4].agent, settings={"iteration": step, "group": 1, "session": member})
            writer.write(replace(played[4], agent=agent, item="item/1"))
    assert main(["view", "--training", str(logs), "--no-open"]) == 0
    sight = Sight(chromium, (logs / "view.html").as_uri(), "#front .chart")
    opened.append(sight)
    titles = sight.texts(".chart figcaption b")
    assert titles == ["reward", "exact match", "operations", "groups without variance", "tokens a second"]
    assert "n 4 sessions a step" in sight.text(".chart figcaption")
    assert sight.page.locator(".chart").nth(0).locator("svg a").count() == STEPS
    assert sight.text(".training-step h3").strip("← →") == "Sessions of step 3"
    sight.page.locator(".chart").nth(2).locator(".legend").wait_for()
    sight.page.locator(".chart svg a").nth(1).dispatch_event("click")
    sight.wait("document.querySelector('.training-step h3').innerText.includes('step 2')")
    shown = sight.text(".training-step")
    assert shown.count("no variance") == 1
    assert "4 create, 1 read" in shown
    sight.page.locator(".training-step a", has_text="session 1").click()
    sight.page.wait_for_selector("#step .panels")
    assert sight.page.evaluate("location.hash") == "#1"
    sight.page.go_back()
    sight.wait("document.querySelector('.training-step h3')?.innerText.includes('step 2')")


def test_nothing_of_a_log_is_ever_html_and_an_empty_training_says_so(
    tmp_path: Path,
    chromium: Any,  # noqa: F811
    opened: list[Sight],
) -> None:
    folder = tmp_path / "<img src=x onerror=alert(1)>"
    folder.mkdir()
    hostile = session(1, 0, 0, em=1.0, item=HOSTILE[0]) | {"uid": HOSTILE[1], "response_tokens": 1e300, "steps": None}
    write(folder / "sessions.jsonl", [hostile, {**hostile, "session": None, "op_create": HOSTILE[0]}])
    assert main(["view", "--training", str(folder), "--no-open", "-o", str(tmp_path / "a.html")]) == 0
    opened.append(Sight(chromium, (tmp_path / "a.html").as_uri(), "#front .chart"))
    assert HOSTILE[0] in opened[-1].text(".training-step")
    assert opened[-1].page.locator("main img, main script").count() == 0
    (folder / "sessions.jsonl").write_text("")
    assert main(["view", "--training", str(folder), "--no-open", "-o", str(tmp_path / "b.html")]) == 0
    opened.append(Sight(chromium, (tmp_path / "b.html").as_uri(), "#front h2"))
    assert "No step has been finished" in opened[-1].text("#front")


@pytest.mark.parametrize(
    ("steps", "rewards"),
    [((2**53 - 1, 2**53), (0.0, 1.0)), ((1, 2), (-4.02, 4.02)), ((1, 2), (-1e300, 1e300)), ((1, 2), (0.0, 5e-324))],
)
def test_axes_end_at_the_ends_of_numbers(
    steps: tuple[int, int],
    rewards: tuple[float, float],
    tmp_path: Path,
    chromium: Any,  # noqa: F811
    opened: list[Sight],
) -> None:
    lines = [session(step, 0, 0, em=1.0) | {"reward": reward} for step, reward in zip(steps, rewards, strict=True)]
    write(tmp_path / "sessions.jsonl", lines)
    assert main(["view", "--training", str(tmp_path), "--no-open", "-o", str(tmp_path / "a.html")]) == 0
    opened.append(Sight(chromium, (tmp_path / "a.html").as_uri(), "#front .chart"))
    drawn = opened[-1].page.locator(".chart path").first.get_attribute("d")
    assert "NaN" not in drawn
    assert "Infinity" not in drawn
