"""The viewer's page as a file: nothing in it can be anything but data, texts are stored once, memory stays bounded."""

from __future__ import annotations

import base64
import hashlib
import html.parser
import json
import re
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from support.example_traces import HOSTILE, example_traces, hostile_trace, long_trace

from atommem_gym.cli import FAILED, main
from atommem_gym.errors import AtomMemError
from atommem_gym.traces import EpisodeTrace, TraceWriter
from atommem_gym.traces.codec import to_json
from atommem_gym.viewer import write_page
from atommem_gym.viewer.page import embeddable


class Page(html.parser.HTMLParser):
    """The elements of a page, and the texts of its scripts and style."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.data: dict[str, str] = {}
        self.script = self.style = ""
        self._inside: tuple[str, dict[str, str | None]] = ("", {})
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = (tag, dict(attrs))

    def handle_data(self, data: str) -> None:
        tag, attributes = self._inside
        if tag == "script" and attributes.get("id"):
            self.data[str(attributes["id"])] = data
        elif tag == "script":
            self.script = data
        elif tag == "style":
            self.style = data

    def handle_endtag(self, tag: str) -> None:
        self._inside = ("", {})

    def unpacked(self, name: str) -> Any:
        return json.loads(zlib.decompress(base64.b64decode(self.data[name], validate=True)))

    def texts(self) -> list[str]:
        blocks = [name for name in self.data if name.startswith("texts-")]
        return [text for number in range(len(blocks)) for text in self.unpacked(f"texts-{number}")]


def restored(value: Any, texts: list[str]) -> Any:
    """A value of the page with its shared texts put in again."""
    if isinstance(value, dict) and value.keys() == {"$"}:
        return "".join(part if isinstance(part, str) else texts[part] for part in value["$"])
    if isinstance(value, dict):
        return {name: restored(one, texts) for name, one in value.items()}
    return [restored(one, texts) for one in value] if isinstance(value, list) else value


@pytest.fixture(scope="module")
def traces() -> list[EpisodeTrace]:
    return [*example_traces(2), hostile_trace()]


@pytest.fixture(scope="module")
def page(traces: list[EpisodeTrace], tmp_path_factory: pytest.TempPathFactory) -> Page:
    path = tmp_path_factory.mktemp("page") / "page.html"
    write_page(traces, path, title=HOSTILE[0])
    return Page(path)


def test_every_text_of_a_trace_can_be_had_back(traces: list[EpisodeTrace], page: Page) -> None:
    texts = page.texts()
    for number, trace in enumerate(traces):
        episode = restored(page.unpacked(f"episode-{number}"), texts)
        # As the page has it: JSON writes tuples as lists.
        record = json.loads(json.dumps(to_json(trace)))
        assert len(episode["steps"]) == len(record["steps"])
        for shown, step in zip(episode["steps"], record["steps"], strict=True):
            for name in ("chunk", "question", "scratchpad", "query", "feedback", "memories", "progress", "phase"):
                assert shown["seen"][name] == step["observation"][name]
            assert shown["action"] == step["action"]
            assert shown["operations"] == step["operations"]
            assert shown["created"] == step["memory"]["created"]
            assert shown["updated"] == step["memory"]["updated"]
            assert shown["deleted"] == step["memory"]["deleted"]
            assert shown["scratchpad"] == step["memory"]["scratchpad"]
            assert shown["messages"] == step["messages"]
        assert episode["final"]["memories"] == record["final_observation"]["memories"]


def test_the_index_has_what_the_list_needs(traces: list[EpisodeTrace], page: Page) -> None:
    rows = json.loads(page.data["index"])["episodes"]
    assert [row["agent"] for row in rows] == [trace.agent.name for trace in traces]
    assert [row["em"] for row in rows] == [trace.metrics["em"] for trace in traces]
    assert [row["causes"] for row in rows] == [[cause or "" for cause in trace.causes] for trace in traces]
    assert rows[0]["questions"][0]["gold"][0] == traces[0].questions[0].answer


def test_nothing_of_a_trace_becomes_an_element(page: Page, traces: list[EpisodeTrace], tmp_path: Path) -> None:
    plain = tmp_path / "plain.html"
    write_page([*traces[:-1], traces[0]], plain, title="plain")
    kinds = [tag for tag, attributes in page.tags if not str(attributes.get("id")).startswith("texts-")]
    assert kinds == [tag for tag, attributes in Page(plain).tags if not str(attributes.get("id")).startswith("texts-")]
    assert not {"img", "iframe", "object", "link", "base", "svg"} & set(kinds)
    for _, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes)
        assert "src" not in attributes
        assert str(attributes.get("href", "#")) == "#"


def test_only_the_page_s_own_script_and_style_may_run(page: Page) -> None:
    [policy] = [str(a["content"]) for tag, a in page.tags if tag == "meta" and a.get("http-equiv")]
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert directives["default-src"] == "'none'"
    for name, text in (("script-src", page.script), ("style-src", page.style)):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert directives[name] == f"'sha256-{digest}'"
    assert "http" not in page.style
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|Function\(|fetch\(|import\(", page.script
    )


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_json_in_a_script_element_cannot_end_it(text: str) -> None:
    embedded = embeddable({"text": text})
    assert json.loads(embedded) == {"text": text}
    assert embedded.isascii()
    assert not set("<>&") & set(embedded)


def test_texts_in_common_are_stored_once(tmp_path: Path) -> None:
    [trace, *_] = example_traces(1)
    sizes = []
    for copies in (1, 5):
        path = tmp_path / f"{copies}.html"
        sizes.append(write_page([replace(trace, seed=i) for i in range(copies)], path))
    once = Page(tmp_path / "1.html").texts()
    assert Page(tmp_path / "5.html").texts() == once
    assert len(set(once)) == len(once)
    assert sizes[1].episodes == 5
    assert sizes[1].trace_bytes > 4 * sizes[0].trace_bytes
    assert sizes[1].page_bytes < 3 * sizes[0].page_bytes


def test_memory_does_not_grow_with_the_number_of_traces(tmp_path: Path) -> None:
    def peak(episodes: int) -> int:
        tracemalloc.start()
        write_page((long_trace(number, steps=12) for number in range(episodes)), tmp_path / "page.html")
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(1)
    assert peak(12) < 1.5 * peak(3)


def test_a_page_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    [trace, *_] = example_traces(1)
    page = tmp_path / "page.html"
    page.write_text("old")

    def broken() -> Any:
        yield trace
        raise RuntimeError("torn")

    with pytest.raises(RuntimeError, match="torn"):
        write_page(broken(), page)
    with pytest.raises(AtomMemError, match="no episode to show"):
        write_page([], page)
    assert page.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
    with pytest.raises(AtomMemError, match="cannot be written"):
        write_page([trace], tmp_path / "no" / "page.html")


def test_an_episode_without_gold_answers_has_not_failed(tmp_path: Path) -> None:
    [trace, *_] = example_traces(1)
    asked = replace(trace, questions=tuple(replace(one, answer="", aliases=()) for one in trace.questions))
    write_page([asked], tmp_path / "page.html")
    [row] = json.loads(Page(tmp_path / "page.html").data["index"])["episodes"]
    assert row["questions"][0]["gold"] == []
    assert not any(row["causes"])


def test_the_command_writes_the_page_beside_the_traces(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda url: not opened.append(url))
    for name in ("a.jsonl", "b.jsonl.gz"):
        with TraceWriter(tmp_path / name) as writer:
            for trace in example_traces(1):
                writer.write(trace)
    a, b = str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl.gz")
    assert main(["view", a]) == 0
    assert opened == [(tmp_path / "a.html").as_uri()]
    assert main(["view", a, b, "-o", str(tmp_path / "both.html"), "--no-open"]) == 0
    assert len(opened) == 1
    alone, both = (len(json.loads(Page(tmp_path / n).data["index"])["episodes"]) for n in ("a.html", "both.html"))
    assert both == 2 * alone
    assert re.search(r"[1-9]\d* KiB of traces in a page of [1-9]\d* KiB: ", capsys.readouterr().out)
    for arguments, message in (
        ([str(tmp_path / "c.jsonl")], "there is no file"),
        ([a, "-o", a], "is one of the files to be shown"),
        ([a, "-o", str(tmp_path)], "is a folder"),
        ([], "no RUNS given"),
    ):
        assert main(["view", *arguments]) == FAILED
        assert message in " ".join(capsys.readouterr().err.split())
