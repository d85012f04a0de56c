"""What operations were worth, on the viewer's page: to which episodes a file belongs, and how the page shows it."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from support.browser import Sight, chromium  # noqa: F401
from support.example_traces import HOSTILE, example_traces

from atommem_gym.cli import FAILED, main
from atommem_gym.traces import EpisodeTrace, write_traces
from atommem_gym.traces.counterfactual import Counterfactual, Ending
from atommem_gym.traces.counterfactual_file import counterfactual_json
from atommem_gym.viewer.counterfactual import with_counterfactuals
from atommem_gym.viewer.library import Library
from atommem_gym.viewer.page import PageRun

TIDY = 4
"""The place of an episode of `tidy` among the examples."""


def valued(trace: EpisodeTrace, number: int = TIDY, continuation: str = HOSTILE[0]) -> dict[str, Any]:
    """A file with made-up values: the first operation of each step, and a changed second one."""

    def ending(reward: float | None, answer: str) -> Ending:
        answers = () if reward is None else tuple((one.id, answer, reward) for one in trace.questions)
        return Ending(reward, len(trace.steps), answers, "" if reward is not None else HOSTILE[1])

    others = [trace.reward - 0.5, trace.reward + 0.25, None]
    found = []
    for step, held in enumerate(trace.steps, 1):
        for one in held.operations[:2]:
            said = one.query if one.text is None else one.text
            change = {"text": HOSTILE[0]} if one.position == 2 else None
            told = (step, one.position, one.kind, said, one.id, one.entry_id, one.outcome, change)
            other = others[step - 1] if step <= len(others) else trace.reward
            found.append(Counterfactual(*told, ending(trace.reward, HOSTILE[2]), ending(other, HOSTILE[3])))
    return counterfactual_json(trace, number, continuation, found)


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    write_traces(tmp_path / "traces.jsonl", example_traces(1))
    (tmp_path / "worth.json").write_text(json.dumps(valued(example_traces(1)[TIDY])))
    return tmp_path / "traces.jsonl"


@pytest.fixture
def sight(chromium: Any, traces: Path) -> Iterator[Sight]:  # noqa: F811
    assert main(["view", str(traces), "--counterfactual", str(traces.with_name("worth.json")), "--no-open"]) == 0
    seen = Sight(chromium, traces.with_suffix(".html").as_uri(), viewport={"width": 1500, "height": 950})
    yield seen
    seen.close()
    assert seen.complaints == []


def test_values_stand_beside_operations_and_where_branches_part(sight: Sight) -> None:
    trace = example_traces(1)[TIDY]
    # Who put values to an episode wants to see that one.
    assert sight.text("#count").startswith("6 episodes")
    sight.wait("document.querySelector('.facts').innerText.includes('tidy')")
    sight.page.select_option("#filter-worth", "with counterfactuals")
    assert sight.text("#count").startswith("1 of 6")
    # Above: every operation of the file, and how many tell.
    operations = sum(len(step.operations[:2]) for step in trace.steps)
    assert sight.page.locator(".worths tbody tr").count() == operations
    summary = sight.text(".worths summary")
    assert f"worth.json, {HOSTILE[0]} goes on" in summary
    # Beside: the value, and both endings with their answers as text.
    assert sight.text(".done .worth summary").startswith("worth +.5")
    sight.page.locator(".done .worth summary").first.click()
    endings = sight.texts(".done .worth >> nth=0 >> dd")
    assert len(endings) == 2
    assert all(text in endings[0] for text in (f"reward {trace.reward:g} after", HOSTILE[2], f"({trace.reward:g})"))
    assert HOSTILE[3] in endings[1]
    assert "from worth.json" in sight.text(".done .worth")
    # Where branches part: a sign in the cell of the step, and keys.
    signs = sight.page.locator("#timeline ol li:has(i.worth)")
    assert signs.count() == 2
    assert sight.texts("#timeline ol i.worth") == ["▲", "▼"]
    assert "an operation was worth −.25" in (sight.page.locator("#timeline a").nth(1).get_attribute("title") or "")
    sight.press("w")
    sight.wait(f"location.hash === '#{TIDY}/1'")
    assert "worth −.25" in sight.text(".done .worth summary")
    sight.press("w", "ArrowRight")
    sight.wait(f"location.hash === '#{TIDY}/2'")
    assert "worth ?" in sight.text(".done .worth summary")
    sight.page.locator(".done .worth summary").first.click()
    assert f"reward unknown: {HOSTILE[1]}" in sight.text(".done .worth")
    sight.press("W", "W")
    sight.wait(f"location.hash === '#{TIDY}/0'")
    changed = sight.page.locator(".done .worth").nth(1)
    assert "more than changed" in changed.locator("summary").inner_text()
    changed.locator("summary").click()
    assert HOSTILE[0] in changed.locator("q").inner_text()
    assert sight.page.locator("main img, main script").count() == 0
    for width in (1500, 400):
        sight.page.set_viewport_size({"width": width, "height": 900})
        assert sight.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_file_belongs_to_each_run_that_holds_its_episode_and_to_no_other_episode(traces: Path) -> None:
    write_traces(traces.with_name("others.jsonl"), example_traces(1)[::-1])
    write_traces(traces.with_name("few.jsonl"), example_traces(1)[:1])
    runs = [PageRun(name, traces.with_name(f"{name}.jsonl")) for name in ("traces", "others", "few")]
    runs.append(PageRun("none"))
    worth = traces.with_name("worth.json")
    found = with_counterfactuals(runs, [worth])
    assert [dict(run.counterfactuals).keys() for run in found] == [{TIDY}, set(), set(), set()]
    # The same record may be in two runs.
    again = with_counterfactuals([runs[0], PageRun("again", traces)], [worth])
    assert [dict(run.counterfactuals).keys() for run in again] == [{TIDY}, {TIDY}]
    with closing(Library(found, "served")) as library:
        block = library.block(f"episode-{TIDY}")
        assert block is not None
        (shown,) = json.loads(zlib.decompress(block))["counterfactuals"]
        assert shown["name"] == "worth.json"
        assert [row["valued"] for row in library.rows] == [number == TIDY for number in range(len(library.rows))]


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        (
            ["others.jsonl"],
            "it is about episode 4, item {item} of tidy, and episode 4 of others.jsonl is item",
        ),
        (["few.jsonl"], "few.jsonl holds no episode 4"),
        (["changed.jsonl"], "belongs to no episode of this page"),
    ],
)
def test_a_file_that_belongs_to_no_episode_is_refused(
    shown: list[str], words: str, traces: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    every = list(example_traces(1))
    write_traces(traces.with_name("others.jsonl"), every[::-1])
    write_traces(traces.with_name("few.jsonl"), every[:1])
    first = every[TIDY].steps[0]
    steps = (replace(first, action=f"{first.action} "), *every[TIDY].steps[1:])
    write_traces(traces.with_name("changed.jsonl"), [*every[:TIDY], replace(every[TIDY], steps=steps)])
    arguments = [str(traces.with_name(name)) for name in shown]
    status = main(["view", *arguments, "--counterfactual", str(traces.with_name("worth.json")), "--no-open"])
    message = " ".join(capsys.readouterr().err.split())
    assert status == FAILED
    assert words.format(item=every[TIDY].item) in message
    assert "name the traces that" in message
    assert not list(traces.parent.glob("*.html"))


def test_a_file_given_twice_or_as_the_page_is_refused(traces: Path, capsys: pytest.CaptureFixture[str]) -> None:
    worth = str(traces.with_name("worth.json"))
    twice = ["--counterfactual", worth, "--counterfactual", worth]
    for arguments, words in (
        (twice, "is given twice; name each file once"),
        ([*twice[:2], "-o", worth], "is one of the files to be shown"),
        (["--counterfactual", str(traces)], "is not JSON"),
    ):
        assert main(["view", str(traces), "--no-open", *arguments]) == FAILED
        assert words in " ".join(capsys.readouterr().err.split())
