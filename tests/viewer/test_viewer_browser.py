"""The viewer's page in a real browser: what is seen, clicked and typed, and what hostile texts do not do (issue 5)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from support.browser import Sight, chromium  # noqa: F401
from support.example_traces import HOSTILE, example_traces, hostile_trace, long_trace

from atommem_gym.traces import EpisodeTrace
from atommem_gym.traces.record import ReaderTrace, RetrievedTrace
from atommem_gym.viewer import write_page

Look = Callable[..., Sight]
CURRENT = "#timeline a[aria-current=step]"


@pytest.fixture(scope="module")
def traces() -> list[EpisodeTrace]:
    return list(example_traces(3))


@pytest.fixture(scope="module")
def url(traces: list[EpisodeTrace], tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("viewer") / "page.html"
    write_page(traces, path, title="three items")
    return path.as_uri()


@pytest.fixture
def look(chromium: Any) -> Iterator[Look]:  # noqa: F811
    seen: list[Sight] = []

    def open_page(url: str, **options: Any) -> Sight:
        seen.append(Sight(chromium, url, **{"viewport": {"width": 1500, "height": 950}, **options}))
        return seen[-1]

    yield open_page
    for sight in seen:
        sight.close()
        assert sight.complaints == []
        assert all(request.startswith("file://") for request in sight.requests)
        assert len({request.split("#")[0] for request in sight.requests}) == 1


def at(address: str) -> str:
    return f"location.hash === '#{address}'"


def test_the_first_episode_is_open_and_shows_what_happened(look: Look, url: str, traces: list[EpisodeTrace]) -> None:
    sight = look(url)
    trace = traces[0]
    assert sight.text("#title") == "three items"
    assert sight.text("#count").startswith(f"{len(traces)} episodes · mean EM ")
    assert sight.texts(".asked-question h2") == [
        f"{i}. {question.question}" for i, question in enumerate(trace.questions, 1)
    ]
    assert len(sight.texts("#timeline ol a")) == len(trace.steps)
    assert sight.text(CURRENT).startswith("1")
    assert trace.agent.name in sight.text("#episode .facts")
    # What the page shows as white space need not be what the text has.
    shown, chunk = sight.text(".chunk"), trace.steps[0].observation["chunk"]
    assert shown.split() == chunk.split()


def test_memory_at_every_step_is_the_record_s(look: Look, url: str, traces: list[EpisodeTrace]) -> None:
    number = next(i for i, trace in enumerate(traces) if trace.agent.name == "tidy")
    trace = traces[number]
    sight = look(f"{url}#{number}")
    live = {entry.id: entry.text for entry in trace.initial_memory.entries}
    for i, step in enumerate(trace.steps):
        sight.wait(f"document.querySelector('{CURRENT}')?.textContent.startsWith('{i + 1}')")
        for entry in step.memory.created:
            live[entry.id] = entry.text
        for update in step.memory.updated:
            live[update.id] = update.after
        for entry in step.memory.deleted:
            del live[entry.id]
        entries = sight.page.eval_on_selector_all(
            ".memory .entries li",
            "items => items.map(li => [li.className, Number(li.querySelector('.id').textContent.match(/[0-9]+/))])",
        )
        assert sorted(i for kind, i in entries if kind != "deleted") == sorted(live)
        for kind, changes in (("created", step.memory.created), ("updated", step.memory.updated)):
            assert sorted(i for one, i in entries if one == kind) == [entry.id for entry in changes]
        assert [i for kind, i in entries if kind == "deleted"] == [entry.id for entry in step.memory.deleted]
        read = {entry["id"] for entry in step.observation["memories"]} & live.keys()
        assert {i for kind, i in entries if kind == "read"} <= read
        sight.press("ArrowRight")
    assert any(step.memory.deleted for step in trace.steps)


def test_keys_lead_through_steps_and_episodes(look: Look, url: str, traces: list[EpisodeTrace]) -> None:
    sight = look(url)
    sight.press("ArrowRight", "ArrowRight")
    sight.wait(at("0/2"))
    sight.press("ArrowLeft")
    sight.wait(at("0/1"))
    sight.press("End")
    sight.wait(at(f"0/{len(traces[0].steps) - 1}"))
    sight.press("ArrowRight", "Home")
    sight.wait(at("0/0"))
    sight.press("j", "j")
    sight.wait(at("2"))
    sight.press("k")
    sight.wait(at("1"))
    assert sight.page.locator('#list a[aria-current="true"]').get_attribute("data-number") == "1"
    # Steps do not fill the history: "back" leads to the episode before.
    sight.page.go_back()
    sight.wait(at("2"))
    sight.press("?")
    assert "next, previous step" in sight.text("#help")
    sight.press("j", "Escape")
    sight.wait("!document.getElementById('help').open")
    sight.wait(at("2"))


def test_e_and_n_lead_to_evidence_and_changes(look: Look, url: str, traces: list[EpisodeTrace]) -> None:
    number = next(i for i, trace in enumerate(traces) if trace.agent.name == "oracle")
    evidence = [piece.text for question in traces[number].questions for piece in question.evidence]
    steps = traces[number].steps
    holding = [i for i, step in enumerate(steps) if any(text in step.observation["chunk"] for text in evidence)]
    changing = [i for i, step in enumerate(steps) if step.memory.created or step.memory.scratchpad]
    sight = look(f"{url}#{number}/{len(steps) - 1}")
    sight.press("E")
    sight.wait(at(f"{number}/{holding[-1]}"))
    marks = " ".join(sight.texts(".chunk mark.exact"))
    assert any(" ".join(text.split()) in " ".join(marks.split()) for text in evidence)
    assert sight.page.locator("#timeline a.gold").count() >= len(holding)
    sight.press("Home")
    for step in [i for i in changing if i > 0][:3]:
        sight.press("n")
        sight.wait(at(f"{number}/{step}"))


def test_deep_links_open_their_step(look: Look, url: str) -> None:
    sight = look(f"{url}#4/3")
    assert sight.text(CURRENT).startswith("4")
    assert sight.page.locator('#list a[aria-current="true"]').get_attribute("data-number") == "4"
    for wrong in ("#999/1", "#4/999", "#nonsense", "#4/-1", "#<img src=x>"):
        sight.page.evaluate("hash => { location.hash = hash }", wrong)
        sight.page.wait_for_selector(CURRENT)


def test_filters_search_and_order(look: Look, url: str, traces: list[EpisodeTrace]) -> None:
    sight = look(url)
    sight.page.select_option("#filter-agent", "tidy")
    assert sight.text("#count").startswith(f"3 of {len(traces)} episodes")
    sight.page.select_option("#filter-agent", "")
    wrong = [trace for trace in traces if trace.metrics["em"] == 0]
    sight.page.select_option("#filter-em", "wrong")
    assert sight.text("#count").startswith(f"{len(wrong)} of")
    sight.page.select_option("#filter-em", "")
    cause = next(cause for trace in traces for cause in trace.causes if cause)
    sight.page.select_option("#filter-cause", cause)
    assert sight.text("#count").startswith(f"{sum(cause in trace.causes for trace in traces)} of")
    sight.page.select_option("#filter-cause", "")
    sight.page.select_option("#filter-order", "worst first")
    results = [float(text.replace("–", "0")) for text in sight.texts("#list .result")]
    assert results == sorted(results)
    sight.press("Tab", "Escape")
    # The link that skips to the episode lies over the title while it has the focus.
    sight.page.locator("#count").click()
    sight.press("/")
    words = traces[6].questions[0].question.split()
    sight.page.keyboard.type(f"ORACLE {words[-1]}")
    found = [
        trace
        for trace in traces
        if trace.agent.name == "oracle" and any(words[-1] in question.question for question in trace.questions)
    ]
    assert sight.text("#count").split()[0] == str(len(found))
    sight.press("Escape", "j")
    sight.wait("document.activeElement.id !== 'search'")
    sight.page.fill("#search", "no such words anywhere")
    assert sight.texts("#list li") == ["No episode is like that."]


def test_a_click_opens_an_episode_and_a_step(look: Look, url: str, traces: list[EpisodeTrace]) -> None:
    sight = look(url)
    sight.page.locator("#list a").nth(3).click()
    sight.wait(at("3"))
    sight.page.locator("#timeline ol a").nth(2).click()
    sight.wait(at("3/2"))
    # The same item by another agent, and the step in which evidence was read.
    sight.page.locator(".twins a").first.click()
    sight.wait(at("0"))
    sight.page.locator(".evidence summary").first.click()
    link = sight.page.locator(".evidence .way a").first
    step = link.inner_text()
    link.click()
    sight.wait(at(f"0/{int(step) - 1}"))


def test_the_keyboard_alone_reaches_everything(look: Look, url: str) -> None:
    sight = look(url)
    places = set()
    for _ in range(40):
        sight.press("Tab")
        places.add(
            sight.page.evaluate(
                "document.activeElement.closest('#list, #timeline, #selects, #step, .tools, form')?.id ?? ''"
            )
        )
    assert {"list", "filters", "selects", "timeline"} <= places, places
    sight.page.locator('#list a[aria-current="true"]').focus()
    sight.press("ArrowDown", "j")
    sight.wait(at("2"))
    assert sight.page.evaluate("document.activeElement.dataset.number") == "2"
    sight.press("ArrowUp", "ArrowUp")
    sight.wait(at("0"))
    sight.page.locator("#timeline ol a").nth(1).focus()
    sight.press("Enter")
    sight.wait(at("0/1"))
    sight.wait("document.getElementById('announce').textContent.startsWith('Step 2 of')")
    unnamed = sight.page.evaluate(
        "[...document.querySelectorAll('button, input, select, a, section, nav')].filter(node => "
        "!(node.getAttribute('aria-label') || node.title || node.textContent || node.labels?.length)).length"
    )
    assert unnamed == 0


def test_light_and_dark(look: Look, url: str) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    light, dark = (look(url, color_scheme=scheme) for scheme in ("light", "dark"))
    colours = light.page.evaluate(ground), dark.page.evaluate(ground)
    assert colours[0] != colours[1]
    light.press("t")
    assert light.page.evaluate(ground) == colours[1]
    light.press("t")
    assert light.page.evaluate(ground) == colours[0]


@pytest.mark.parametrize("width", [420, 900, 1500])
def test_nothing_sticks_out_sideways(look: Look, url: str, width: int) -> None:
    sight = look(f"{url}#4/2", viewport={"width": width, "height": 800})
    assert sight.page.evaluate("document.documentElement.scrollWidth") <= width


def test_hostile_texts_are_texts(look: Look, tmp_path: Path) -> None:
    write_page([hostile_trace(), example_traces(1)[0]], tmp_path / "page.html", title=HOSTILE[0])
    sight = look((tmp_path / "page.html").as_uri())
    sight.page.evaluate("window.before = Object.keys(Object.prototype).length")
    assert sight.text("#title") == HOSTILE[0]
    assert HOSTILE[0] in sight.text("#episode .facts")
    for _ in range(2):
        for key in ("p", "ArrowRight", "ArrowRight", "End", "t"):
            sight.press(key)
        sight.page.evaluate("document.querySelectorAll('details').forEach(node => { node.open = true })")
    assert sight.page.locator("img, iframe, object, svg, base").count() == 0
    assert sight.page.locator("#step script, #episode script, #side script").count() == 0
    assert sight.page.evaluate("window.before === Object.keys(Object.prototype).length")
    shown = sight.page.locator("#step").inner_text()
    for text in HOSTILE[:4]:
        assert text in shown
    assert "␛[31mred" in shown
    assert "NUL ␀ lone" in shown
    assert "⟨U+202E⟩right to left⟨U+202C⟩" in shown
    assert not re.search("[\x00-\x08\u202a-\u202e]", shown)
    sight.page.fill("#search", "<img")
    assert sight.text("#count").startswith("1 of 2")
    sight.press("Escape", "j")


def test_a_prompt_is_shown_on_demand(look: Look, tmp_path: Path) -> None:
    write_page([hostile_trace()], tmp_path / "page.html")
    sight = look((tmp_path / "page.html").as_uri())
    assert sight.texts(".tabs button") == ["observation", "prompt"]
    sight.page.locator(".tabs button").nth(1).click()
    assert sight.texts(".seen h4") == [HOSTILE[0], "user"]
    assert sight.page.locator(".seen mark.exact").count() >= 2
    sight.press("p")
    assert "Chunk" in sight.texts(".seen h4")


def test_reasoning_that_came_apart_is_there_to_unfold(look: Look, tmp_path: Path) -> None:
    write_page([hostile_trace()], tmp_path / "page.html")
    sight = look((tmp_path / "page.html").as_uri())
    assert "Reasoning" in sight.texts(".done summary")
    sight.page.locator(".done summary", has_text="Reasoning").click()
    assert HOSTILE[1] in sight.text(".done details[open]")


def test_without_a_memory_evidence_was_shown_by_the_prompt(look: Look, tmp_path: Path) -> None:
    trace = example_traces(1)[1]
    blank = replace(trace.env, keywords={**trace.env.keywords, "storage": False, "scratchpad": False})
    pieces = trace.questions[0].evidence
    prompt = [{"role": "user", "content": f"The documents:\n{pieces[0].text}"}]
    steps = tuple(replace(step, messages=prompt) for step in trace.steps)
    write_page([replace(trace, env=blank, steps=steps)], tmp_path / "page.html")
    sight = look((tmp_path / "page.html").as_uri())
    sight.page.locator("details.evidence summary").first.click()
    ways = sight.texts("details.evidence li .way")
    assert re.search(r"shown while answering at\s+\d", ways[0])
    others = [way for way, piece in zip(ways, pieces, strict=False) if piece.text != pieces[0].text]
    assert others
    assert all(re.search(r"shown while answering at\s+–", way) for way in others)


def test_work_is_done_for_what_is_looked_at_only(look: Look, url: str) -> None:
    sight = look(url)
    for _ in range(5):
        sight.press("ArrowRight")
    work = sight.page.evaluate("({...atommemWork})")
    assert work["episodes"] == 1
    sight.press("j")
    sight.wait("atommemWork.episodes === 2")
    sight.press("k")
    sight.wait(at("0"))
    assert sight.page.evaluate("atommemWork.episodes") == 2


def test_no_step_is_shown_before_its_episode_is_there(look: Look, url: str) -> None:
    sight = look(url)
    titles = sight.page.evaluate(
        "() => { const before = document.title;"
        "document.dispatchEvent(new KeyboardEvent('keydown', {key: 'j'}));"
        "window.dispatchEvent(new HashChangeEvent('hashchange'));"
        "return [before, document.title] }"
    )
    assert titles[0] == titles[1]
    sight.wait("document.title.includes(' 1/0 ')")


@pytest.mark.slow
def test_500_episodes_of_40_steps_open_and_unpack_only_what_is_shown(look: Look, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    size = write_page((long_trace(number) for number in range(500)), path)
    assert size.trace_bytes > 300e6
    print(f"500 x 40 steps: {size.trace_bytes / 2**20:.0f} MiB of traces, page {size.page_bytes / 2**20:.1f} MiB")
    sight = look(path.as_uri())
    assert sight.page.locator("#list li").count() == 500
    for number in (1, 2, 3):
        sight.press("j")
        sight.wait(at(f"{number}"))
        sight.wait(f"document.querySelector('.facts').innerText.includes('long/{number}')")
        for _ in range(39):
            sight.press("ArrowRight")
        sight.wait(f"document.querySelector('{CURRENT}').textContent.startsWith('40')")
    sight.page.evaluate("location.hash = '#499/39'")
    sight.wait("document.querySelector('.facts').innerText.includes('long/499')")
    assert "Place 499-39-0" in sight.text(".chunk")
    work = sight.page.evaluate("({...atommemWork})")
    assert work["episodes"] == 5
    # An episode's own texts lie side by side: four blocks or so each, of some two thousand.
    assert work["blocks"] < 40
    assert json.dumps(work)


def test_E13_what_a_frozen_reader_saw_and_said_is_shown_and_an_episode_that_does_not_count_has_no_score(
    look: Look, traces: list[EpisodeTrace], tmp_path: Path
) -> None:
    trace = traces[0]
    last = len(trace.steps) - 1
    memories = (RetrievedTrace(4, "Ada kept bees.", 0.5), RetrievedTrace(7, HOSTILE[0], 0.25))
    reading = ReaderTrace(trace.questions[0].question, memories, "notes", f"honey {HOSTILE[0]}")
    read = replace(trace, steps=(*trace.steps[:-1], replace(trace.steps[last], reader=(reading,))))
    uncounted = replace(read, metrics={**read.metrics, "em": None})
    write_page([uncounted], tmp_path / "page.html")
    sight = look(f"{(tmp_path / 'page.html').as_uri()}#0/{last}")
    shown = sight.text(".done")
    assert "Answer of the frozen reader" in shown
    assert "It saw entries 4, 7 and the scratchpad of this step." in shown
    assert f"honey {HOSTILE[0]}" in shown
    assert "mean EM" not in sight.text("#count")
