"""Several runs on one page in a real browser: what stands in front, filters, and two episodes side by side (6.5)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from support.browser import Sight, chromium  # noqa: F401
from support.example_traces import HOSTILE, ITEMS_OF_RUNS, example_traces, hostile_trace, play_runs

from atommem_gym.cli import FAILED, main
from atommem_gym.errors import AtomMemError
from atommem_gym.traces import EpisodeTrace, TraceWriter, read_traces
from atommem_gym.traces.codec import to_json
from atommem_gym.traces.record import BranchTrace
from atommem_gym.viewer.page import PageRun, write_runs
from atommem_gym.viewer.summary import detail

Look = Callable[..., Sight]


# At once: while Playwright runs, nothing can be played.
@pytest.fixture(scope="module", autouse=True)
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return play_runs(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def url(runs: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> str:
    page = tmp_path_factory.mktemp("page") / "page.html"
    assert main(["view", *map(str, runs), "-o", str(page), "--no-open"]) == 0
    return page.as_uri()


@pytest.fixture(scope="module")
def traces(runs: tuple[Path, Path]) -> list[EpisodeTrace]:
    """Of both runs, in the order of the page."""
    return [trace for run in runs for trace in read_traces(run / "traces.jsonl")]


@pytest.fixture
def look(chromium: Any) -> Iterator[Look]:  # noqa: F811
    seen: list[Sight] = []

    def open_page(url: str, ready: str = "#front h2", **options: Any) -> Sight:
        seen.append(Sight(chromium, url, ready, **{"viewport": {"width": 1500, "height": 950}, **options}))
        return seen[-1]

    yield open_page
    for sight in seen:
        sight.close()
        assert sight.complaints == []
        assert all(request.startswith(("file://", "blob:")) for request in sight.requests)


def twins(traces: list[EpisodeTrace], agents: tuple[str, str] = ("tidy", "tidy")) -> tuple[int, int]:
    """The first episode of the first run, and the one over its item in the second run."""
    a = next(i for i, trace in enumerate(traces) if trace.agent.name == agents[0])
    for b in range(len(traces) // 2, len(traces)):
        same = all(getattr(traces[a], name) == getattr(traces[b], name) for name in ("item", "index", "shuffle_seed"))
        docs = traces[a].env.keywords["num_docs"] == traces[b].env.keywords["num_docs"]
        if same and docs and traces[b].agent.name == agents[1]:
            return a, b
    raise AssertionError("the runs have no item in common")


def first_difference(a: EpisodeTrace, b: EpisodeTrace) -> int | None:
    for number, (one, other) in enumerate(zip(a.steps, b.steps, strict=False)):
        seen = [{name: step.observation[name] for name in ("chunk", "question", "scratchpad")} for step in (one, other)]
        found = [[(entry["id"], entry["text"]) for entry in step.observation["memories"]] for step in (one, other)]
        if seen[0] != seen[1] or found[0] != found[1] or (one.action, one.memory) != (other.action, other.memory):
            return number
    return None if len(a.steps) == len(b.steps) else min(len(a.steps), len(b.steps))


def test_finding_6_5_plan_tables_and_plots_of_each_run_stand_in_front(look: Look, url: str) -> None:
    sight = look(url)
    assert sight.texts("#fronts a")[-1].lower() == "runs"
    sight.page.evaluate("location.hash = '#runs'")
    sight.page.wait_for_selector("#front .run")
    assert sight.texts("#front .run > h3") == ["base", "small"]
    overview = sight.text("#front table")
    assert "EM, base" in overview
    assert f"(n {ITEMS_OF_RUNS})" in overview
    sections = sight.page.locator("#front .run")
    for number in (0, 1):
        section = sections.nth(number)
        assert "evidence recall" in section.inner_text()
        assert section.locator("table").count() >= 3
        section.locator("summary", has_text="Plan").click()
        assert "AtomMem-Synthetic-v0" in section.locator(".raw").inner_text()
        for image in section.locator("img").all():
            image.scroll_into_view_if_needed()
    sight.wait("[...document.querySelectorAll('#front img')].length >= 6")
    sight.wait("[...document.querySelectorAll('#front img')].every(image => image.naturalWidth > 100)")


def test_finding_6_5_run_documents_and_cause_are_filters(look: Look, url: str, traces: list[EpisodeTrace]) -> None:
    sight = look(url)
    sight.page.select_option("#filter-run", "small")
    assert sight.text("#count").startswith(f"{len(traces) // 2} of {len(traces)} episodes")
    sight.page.select_option("#filter-docs", "20")
    assert sight.text("#count").startswith(f"{len(traces) // 4} of")
    assert all("small" in text for text in sight.texts("#list .about"))
    cause = next(cause for trace in traces[len(traces) // 2 :] for cause in trace.causes if cause)
    sight.page.select_option("#filter-docs", "")
    sight.page.select_option("#filter-cause", cause)
    wanted = sum(cause in trace.causes for trace in traces[len(traces) // 2 :])
    assert sight.text("#count").startswith(f"{wanted} of")
    # All were played by one seed and without a model: a choice of one is none.
    assert sight.page.locator("#filter-seed, #filter-model").count() == 0


def test_finding_6_5_model_and_seed_are_filters(look: Look, tmp_path: Path) -> None:
    base = example_traces(1)[4]
    with TraceWriter(tmp_path / "traces.jsonl") as writer:
        for seed, model in enumerate(("small-1b", "large-8b", "large-8b")):
            writer.write(replace(base, seed=seed, agent=replace(base.agent, settings={"model": model})))
    assert main(["view", str(tmp_path / "traces.jsonl"), "--no-open"]) == 0
    sight = look((tmp_path / "traces.html").as_uri(), "#step .panels")
    sight.page.select_option("#filter-model", "large-8b")
    assert sight.text("#count").startswith("2 of 3")
    sight.page.select_option("#filter-seed", "2")
    assert sight.text("#count").startswith("1 of 3")


def test_finding_6_5_one_item_side_by_side_with_the_first_difference_marked(
    look: Look, url: str, traces: list[EpisodeTrace]
) -> None:
    a, b = twins(traces)
    first = first_difference(traces[a], traces[b])
    assert first is not None
    sight = look(f"{url}#{a}", "#step .panels")
    link = sight.page.locator(f'.twins a.beside[href="#{a}~{b}"]')
    assert "side by side" in link.get_attribute("title")
    link.click()
    sight.page.wait_for_selector(".differences")
    assert sight.text("#first-difference") == f"step {first + 1}"
    assert [text.split("alone")[0].strip() for text in sight.texts("#episode .side h2")] == [
        "A base · tidy · seed 0",
        "B small · tidy · seed 0",
    ]
    assert sight.page.locator("#timeline a.first").count() == 2
    for lane in (0, 1):
        kinds = sight.page.eval_on_selector_all(
            f"#timeline .side-{lane} a", "links => links.map(link => link.className.includes('differs'))"
        )
        assert kinds.index(True) == first
    sight.press("End", "Home", *["d"] * (first > 0))
    sight.wait(f"location.hash === '#{a}~{b}/{first}'")
    shown = sight.text(".differences")
    assert "memory after it" in shown or "the action" in shown
    # The next episode has a partner in the other run, too; back leads here again.
    sight.press("j")
    sight.wait(f"/^#{a + 1}~[0-9]+$/.test(location.hash)")
    sight.page.go_back()
    sight.wait(f"location.hash.startsWith('#{a}~{b}')")
    sight.page.wait_for_selector(".differences")


def test_better_and_worse_items_of_a_comparison_lead_to_both_episodes(
    look: Look, runs: tuple[Path, Path], traces: list[EpisodeTrace], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    assert main(["compare", *map(str, runs), "--json", "--html", str(page)]) == 0
    told = json.loads(capsys.readouterr().out)
    rows = [row for row in told["rows"] if row["env"] != "all"]
    sight = look(page.as_uri())
    assert "Exact match: B (small) minus A (base)" in sight.text("#front h2")
    assert "settings differ: max_entries" in sight.text("#front .notice")
    sections = sight.page.locator("#front .items")
    for section, name in ((sections.nth(0), "wins"), (sections.nth(1), "losses")):
        assert section.locator("li").count() == sum(row[name] for row in rows)
    assert sum(row["losses"] for row in rows) > 0
    sections.nth(1).locator("a").first.click()
    sight.page.wait_for_selector(".differences")
    a, b = (int(number) for number in sight.page.evaluate("location.hash").split("/")[0].strip("#").split("~"))
    assert a < len(traces) // 2 <= b
    assert (traces[a].item, traces[a].agent.name) == (traces[b].item, traces[b].agent.name)
    assert traces[a].metrics["em"] > traces[b].metrics["em"]


def test_two_agents_of_one_run_are_compared_on_its_page(
    look: Look, runs: tuple[Path, Path], traces: list[EpisodeTrace], tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    arguments = ["compare", str(runs[0]), str(runs[0]), "--agents", "keep_all", "tidy", "--metric", "operations"]
    assert main([*arguments, "--html", str(page)]) == 0
    sight = look(page.as_uri())
    assert sight.text("#front h2") == "operations: B (base) minus A (base)"
    sight.page.locator("#front .items a").first.click()
    sight.page.wait_for_selector(".differences")
    sides = sight.texts("#episode .side h2")
    assert ["keep_all" in sides[0], "tidy" in sides[1]] == [True, True]


def test_runs_that_cannot_be_compared_say_why(look: Look, runs: tuple[Path, Path], tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(runs[1], other)
    (other / "results.jsonl").write_text("")
    page = tmp_path / "page.html"
    assert main(["view", str(runs[0]), str(other), "-o", str(page), "--no-open"]) == 0
    assert "has no finished episodes" in look(page.as_uri()).text("#front .notice")


def test_two_equal_episodes_do_not_differ_and_one_that_ended_sooner_does(look: Look, tmp_path: Path) -> None:
    trace = example_traces(1)[4]
    with TraceWriter(tmp_path / "traces.jsonl") as writer:
        writer.write(trace)
        writer.write(replace(trace, seed=1))
        writer.write(replace(trace, seed=2, steps=trace.steps[:-1]))
        writer.write(replace(trace, item="another"))
    assert main(["view", str(tmp_path / "traces.jsonl"), "--no-open"]) == 0
    url = (tmp_path / "traces.html").as_uri()
    sight = look(f"{url}#0~1", ".differences")
    assert "Nothing differs" in sight.text("#episode .first")
    assert sight.page.locator("#timeline a.differs").count() == 0
    sight.page.evaluate("location.hash = '#0~2'")
    sight.wait("document.querySelector('#first-difference') !== null")
    assert sight.text("#first-difference") == f"step {len(trace.steps)}"
    sight.press("End")
    sight.wait("document.querySelector('#step').innerText.includes('B has no step')")
    assert "over different items" not in sight.text("#episode")
    sight.page.evaluate("location.hash = '#0~3'")
    sight.wait("document.querySelector('#episode').innerText.includes('over different items')")
    for wrong in ("#0~99", "#0~0", "#0~-1", "#constructor", "#__proto__/1"):
        sight.page.evaluate("hash => { location.hash = hash }", wrong)
        sight.page.wait_for_selector("#step .panels")


def test_nothing_of_a_run_is_ever_html(look: Look, tmp_path: Path) -> None:
    run = tmp_path / "<img src=x onerror=alert(1)>"
    run.mkdir()
    (run / "plan.yaml").write_text(f"envs: [Synthetic]\nagents: [tidy]\n# {HOSTILE[1]}\n")
    report = [f"# {HOSTILE[0]}", HOSTILE[1], "[link](javascript:alert(2))", f"![{HOSTILE[0]}](page.png)"]
    report += [f"| {HOSTILE[0]} | b |", "|---|--:|", f"| **{HOSTILE[1]}** | `{HOSTILE[0]}` |", f"- {HOSTILE[3]}"]
    (run / "report.md").write_text("\n\n".join(report[:4]) + "\n\n" + "\n".join(report[4:]))
    (run / "page.png").write_text("<script>alert(3)</script>")
    (run / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n<svg onload=alert(4)>")
    with TraceWriter(run / "traces.jsonl") as writer:
        for seed in (0, 1):
            hostile = hostile_trace()
            writer.write(replace(hostile, seed=seed, agent=replace(hostile.agent, settings={"model": HOSTILE[0]})))
    page = tmp_path / "page.html"
    assert main(["view", str(run), "-o", str(page), "--no-open"]) == 0
    sight = look(page.as_uri())
    text = sight.text("#front")
    assert "page.png is not shown: it is not a PNG file" in text
    assert HOSTILE[0] in text
    assert "[link](javascript:alert(2))" in text
    assert sight.page.locator("#front a[href*=javascript], #front script, #front svg").count() == 0
    assert sight.page.locator("#front img").count() == 1
    sight.page.evaluate("location.hash = '#0~1'")
    sight.page.wait_for_selector(".differences")
    for key in ("End", "Home", "d"):
        sight.press(key)
    assert sight.page.locator("main img, main script").count() == 0


def test_a_run_without_traces_report_or_episodes_says_so(look: Look, runs: tuple[Path, Path], tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    shutil.copy(runs[0] / "plan.yaml", empty)
    page = tmp_path / "page.html"
    assert main(["view", str(empty), "-o", str(page), "--no-open"]) == 0
    sight = look(page.as_uri())
    assert "No episode can be shown: there are no traces" in sight.text("#front")
    assert "--report-only" in sight.text("#front")
    assert sight.text("#count") == "0 episodes"
    sight.press("j", "ArrowRight", "End", "e", "n", "d")
    assert "no recorded episode" in sight.text("#front")


def test_the_page_fits_a_narrow_screen(look: Look, url: str, traces: list[EpisodeTrace]) -> None:
    a, b = twins(traces)
    for place, ready in ((f"#{a}~{b}", ".differences"), ("#runs", "#front .run")):
        sight = look(url + place, ready, viewport={"width": 400, "height": 800})
        assert sight.page.evaluate("document.documentElement.scrollWidth") <= 400


def test_what_is_no_run_is_an_error_with_a_remedy(
    runs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nothing = tmp_path / "nothing"
    nothing.mkdir()
    training = tmp_path / "grpo"
    training.mkdir()
    (training / "metrics.jsonl").write_text("")
    page = ["-o", str(tmp_path / "page.html"), "--no-open"]
    for arguments, message in (
        ([str(nothing)], "is a folder without plan.yaml, so it holds no evaluation; name a folder that `atommem eval"),
        ([str(runs[0].parent)], f"name the runs in it: atommem view {runs[0]} {runs[1]}"),
        ([str(training)], f"a training is shown by atommem view --training {training}"),
        ([str(runs[0]), f"{runs[0]}/../base"], "is given twice"),
        ([str(tmp_path / "gone")], "there is no file or folder"),
        ([str(runs[0]), "-o", str(runs[0] / "traces.jsonl")], "might be a file of it; name it .html"),
        ([str(runs[1]), "-o", str(runs[0] / "results.jsonl")], "lies in the folder of a run and might be a file of it"),
        ([str(runs[0]), "--limit-mib", "0"], "--limit-mib"),
        ([str(runs[0]), "--port", "0"], "--port is for a served page; add --serve"),
        ([str(runs[0]), "--serve"], "--serve writes no page"),
    ):
        assert main(["view", *page, *arguments]) == FAILED
        assert message in " ".join(capsys.readouterr().err.split()), arguments
    assert not (tmp_path / "page.html").exists()


def test_a_file_that_is_no_page_is_not_written_over_unless_it_was_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with TraceWriter(tmp_path / "traces.jsonl") as writer:
        writer.write(example_traces(1)[0])
    page = tmp_path / "traces.html"
    page.write_text("<p>my notes")
    assert main(["view", str(tmp_path / "traces.jsonl"), "--no-open"]) == FAILED
    assert f"{page} is there and is not a page of the viewer; name another place with -o" in " ".join(
        capsys.readouterr().err.split()
    )
    assert page.read_text() == "<p>my notes"
    page.unlink()
    for _ in range(2):
        assert main(["view", str(tmp_path / "traces.jsonl"), "--no-open"]) == 0, "an earlier page is written anew"


def test_a_page_above_the_limit_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with TraceWriter(tmp_path / "traces.jsonl") as writer:
        for trace in example_traces(1):
            writer.write(trace)
    page = tmp_path / "page.html"
    run = PageRun("a", tmp_path / "traces.jsonl")
    size = write_runs([run], page, title="whole", most_bytes=1 << 22)
    page.unlink()
    with pytest.raises(AtomMemError, match=r"more than 0\.\d+ MiB .* --serve, .* --limit-mib"):
        write_runs([run], page, title="cut", most_bytes=size.page_bytes * 3 // 4)
    assert [path.name for path in tmp_path.iterdir()] == ["traces.jsonl"]


def test_branches_of_an_episode_lead_to_each_other_where_they_part(look: Look, tmp_path: Path) -> None:
    trace = example_traces(1)[4]
    part = 2
    first = replace(trace.steps[part], action="<create>another way</create>")
    branch = BranchTrace("parent", part)
    told = [
        replace(trace, id="parent"),
        replace(trace, seed=1, branch=branch, steps=(*trace.steps[:part], first, *trace.steps[part + 1 :])),
        replace(trace, seed=2, branch=branch),
        replace(trace, seed=3, branch=BranchTrace(HOSTILE[0], 1)),
    ]
    with TraceWriter(tmp_path / "traces.jsonl") as writer:
        for one in told:
            writer.write(one)
    assert main(["view", str(tmp_path / "traces.jsonl"), "--no-open"]) == 0
    sight = look((tmp_path / "traces.html").as_uri(), "#step .panels")
    assert sight.page.locator(".branches a.beside").count() == 2
    sight.page.locator(".branches a.beside").first.click()
    sight.page.wait_for_selector(".differences")
    assert sight.page.evaluate("location.hash") == f"#0~1/{part}"
    assert sight.text("#first-difference") == f"step {part + 1}"
    sight.page.evaluate("location.hash = '#1'")
    sight.wait("document.querySelectorAll('.branches').length === 2")
    assert "Parted after 2 steps from" in sight.text(".branches")
    assert sight.page.locator(".branches").nth(1).locator("a.beside").get_attribute("href") == f"#1~2/{part}"
    sight.page.evaluate("location.hash = '#3'")
    sight.wait("document.querySelector('.branches')?.innerText.includes('not on this page')")
    assert HOSTILE[0] in sight.text(".branches")


@pytest.mark.parametrize(
    "told",
    [
        None,
        3,
        "x",
        {"operations": 7},
        {"operations": "x"},
        {"operations": [3, {"step": "0"}, {"step": 0, "credit": 1}]},
        {"operations": [{"step": 0, "position": 0, "credit": 10**400}, {"step": 0, "position": 0, "credit": True}]},
    ],
)
def test_an_info_that_holds_no_credit_is_none(told: Any) -> None:
    trace = example_traces(1)[4]
    last = replace(trace.steps[-1], info={**trace.steps[-1].info, "credit": told})
    shown = detail(to_json(replace(trace, steps=(*trace.steps[:-1], last))), lambda text: text)
    assert not any("credit" in operation for step in shown["steps"] for operation in step["operations"])


def test_what_an_operation_earned_stands_beside_it(look: Look, tmp_path: Path) -> None:
    trace = example_traces(1)[4]
    step = next(number for number, one in enumerate(trace.steps) if len(one.operations) > 1)
    earned = [
        {"step": step, "position": trace.steps[step].operations[0].position, "operation": "create", "credit": 0.75},
        {"step": step, "position": trace.steps[step].operations[1].position, "operation": "create", "credit": 0.0},
    ]
    last = replace(trace.steps[-1], info={**trace.steps[-1].info, "credit": {"operations": earned, "by_step": []}})
    with TraceWriter(tmp_path / "traces.jsonl") as writer:
        writer.write(replace(trace, steps=(*trace.steps[:-1], last)))
    assert main(["view", str(tmp_path / "traces.jsonl"), "--no-open"]) == 0
    sight = look(f"{(tmp_path / 'traces.html').as_uri()}#0/{step}", "#step .panels")
    assert [text.strip() for text in sight.texts(".done .credit")] == ["credit .75", "credit 0"]
    assert sight.page.locator(".done .credit.earned").count() == 1
