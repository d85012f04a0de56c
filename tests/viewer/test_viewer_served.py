"""A page that is served: 2,000 episodes load what is looked at; nobody else on the machine is answered (issue 21)."""

from __future__ import annotations

import gzip
import http.client
import json
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from support.browser import Sight, chromium  # noqa: F401
from support.example_traces import HOSTILE, example_traces, hostile_trace

from atommem_gym.cli import FAILED, main
from atommem_gym.errors import AtomMemError
from atommem_gym.traces import EpisodeTrace, TraceError, TraceWriter
from atommem_gym.traces.codec import dumps, loads, to_json
from atommem_gym.viewer.heads import head
from atommem_gym.viewer.library import Library
from atommem_gym.viewer.page import PageRun
from atommem_gym.viewer.server import PageServer
from atommem_gym.viewer.summary import row

MANY = 2000


@pytest.fixture(scope="module", autouse=True)
def trace() -> EpisodeTrace:
    """At once: while Playwright runs, nothing can be played."""
    return example_traces(1)[4]


@contextmanager
def serving(library: Library) -> Iterator[PageServer]:
    with PageServer(library) as server:
        thread = threading.Thread(target=server.serve, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.stop()
            thread.join()
            library.close()


def written(path: Path, traces: list[EpisodeTrace]) -> Path:
    with TraceWriter(path) as writer:
        for trace in traces:
            writer.write(trace)
    return path


def unpacked(data: bytes | None) -> Any:
    assert data is not None
    return json.loads(zlib.decompress(data))


def asked(server: PageServer, path: str, host: str | None = None, method: str = "GET") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.putrequest(method, path, skip_host=True)
    connection.putheader("Host", f"127.0.0.1:{server.port}" if host is None else host)
    connection.endheaders()
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, body


def test_2000_episodes_open_by_their_index_and_load_what_is_looked_at(
    chromium: Any,  # noqa: F811
    trace: EpisodeTrace,
    tmp_path: Path,
) -> None:
    path = tmp_path / "traces.jsonl"
    line = dumps(replace(trace, index=987654, item="item/987654", steps=trace.steps[:3]))
    with path.open("w", encoding="ascii") as file:
        for number in range(MANY):
            file.write(line.replace("987654", str(number)) + "\n")
    with serving(Library([PageRun("many", path)], "many")) as server:
        sight = Sight(chromium, server.url, offline=False)
        assert sight.text("#count").startswith("2,000 episodes")
        assert sight.page.locator("#list a").count() == 500
        sight.press("j")
        sight.wait("document.querySelector('.facts').innerText.includes('item/1')")
        sight.page.evaluate(f"location.hash = '#{MANY - 1}/1'")
        sight.wait(f"document.querySelector('.facts').innerText.includes('item/{MANY - 1}')")
        # The list goes on to where one is.
        assert sight.page.locator("#list a[aria-current=true]").get_attribute("data-number") == str(MANY - 1)
        sight.page.fill("#search", "item/1234")
        assert sight.text("#count").startswith("1 of 2,000")
        assert sight.complaints == []
        sight.close()
        assert set(server.sent) == {"", "episode-0", "episode-1", f"episode-{MANY - 1}"}
        size = path.stat().st_size
        assert server.sent[""] < size / 50, (server.sent, size)
        assert sum(server.sent.values()) - server.sent[""] < 4 * size / MANY
        print(f"{MANY} episodes: {size / 2**20:.1f} MiB of traces, {server.sent} bytes sent")


def test_a_served_page_shows_what_the_file_would_and_no_script_of_a_trace_runs(
    chromium: Any,  # noqa: F811
    tmp_path: Path,
) -> None:
    path = written(tmp_path / "traces.jsonl", [hostile_trace(), replace(hostile_trace(), seed=1)])
    with serving(Library([PageRun(HOSTILE[0], path)], HOSTILE[0])) as server:
        sight = Sight(chromium, server.url, offline=False)
        for key in ("End", "p", "j", "Home"):
            sight.press(key)
        sight.page.goto(f"{server.url}#0~1")
        sight.page.wait_for_selector(".differences")
        assert sight.page.locator("main img, main script").count() == 0
        assert sight.complaints == []
        assert all(request.startswith(server.url.partition("#")[0]) for request in sight.requests)
        sight.close()


def test_only_the_secret_and_this_machine_s_names_are_answered(trace: EpisodeTrace, tmp_path: Path) -> None:
    path = written(tmp_path / "traces.jsonl", [trace])
    with serving(Library([PageRun("", path)], "one")) as server:
        secret = server.url.split("/")[3]
        other = secret[:-1] + ("y" if secret.endswith("x") else "x")
        status, page = asked(server, f"/{secret}/")
        assert status == 200
        assert b"connect-src 'self'" in gzip.decompress(page)
        assert asked(server, f"/{secret}/episode-0", f"localhost:{server.port}")[0] == 200
        for host in ("evil.example", f"evil.example:{server.port}", "127.0.0.1", ""):
            assert asked(server, f"/{secret}/", host)[0] in (400, 404), host
        for wrong in (
            "/",
            f"/{secret}",
            "/x/",
            f"/{secret[:-1]}/",
            "/../",
            f"/{other}/episode-0",
            f"//{other}/episode-0",
            "/%C3%A4/",
        ):
            assert asked(server, wrong)[0] == 404, wrong
        for name in ("episode-1", "episode-x", "run-7", "plot-0-0", "plot-0", "front-training", "../traces.jsonl", "x"):
            assert asked(server, f"/{secret}/{name}")[0] == 404, name
        assert asked(server, f"/{secret}/", method="POST")[0] == 501


@pytest.mark.parametrize("name", ["traces.jsonl", "traces.jsonl.gz", "traces.parquet"])
def test_any_episode_of_any_format_is_read_alone(name: str, tmp_path: Path) -> None:
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    traces = list(example_traces(1))
    library = Library([PageRun("a", written(tmp_path / name, traces)), PageRun("b", tmp_path / name)], "both")
    assert [one["run"] for one in library.rows] == [0] * len(traces) + [1] * len(traces)
    for number in (len(traces) + 2, 1):
        shown = unpacked(library.block(f"episode-{number}"))
        actions = [step.action for step in traces[number % len(traces)].steps]
        assert [step["action"] for step in shown["steps"]] == actions
    library.close()


def test_the_row_of_a_head_is_that_of_the_whole_record(trace: EpisodeTrace) -> None:
    for one in (trace, hostile_trace(), replace(trace, id="one"), *example_traces(1)):
        line = dumps(one)
        assert row(head(line.encode("ascii"), "a line")) == row(to_json(loads(line)))
    with pytest.raises(TraceError, match="a line has version 9"):
        head(dumps(trace).replace('{"version":2', '{"version":9').encode("ascii"), "a line")
    with pytest.raises(TraceError, match="a line is not JSON"):
        head(b'{"version": 2,', "a line")


def test_a_file_that_grows_is_read_on_and_a_cut_last_line_waits(trace: EpisodeTrace, tmp_path: Path) -> None:
    path = tmp_path / "traces.jsonl"
    line = dumps(trace)
    path.write_text(f"{line}\n{line[:5000]}", encoding="ascii")
    library = Library([PageRun("", path)], "growing")
    assert len(library.rows) == 1
    with path.open("a", encoding="ascii") as file:
        file.write(line[5000:])
    library.refresh()
    library.refresh()
    assert len(library.rows) == 2
    assert unpacked(library.block("episode-1"))["steps"]
    library.close()


def test_a_damaged_record_is_named_and_nothing_to_show_is_an_error(trace: EpisodeTrace, tmp_path: Path) -> None:
    path = tmp_path / "traces.jsonl"
    # What a row needs is whole, so it is noticed when the episode is looked at.
    path.write_text(dumps(trace).replace('"phase":0', '"phase":0,"odd":1', 1).replace('"observation":', '"odd":', 1))
    with serving(Library([PageRun("", path)], "damaged")) as server:
        status, body = asked(server, f"/{server.url.split('/')[3]}/episode-0")
        assert status == 500
        assert b"record 1" in body
    path.write_text("")
    with pytest.raises(AtomMemError, match="no episode to show"):
        Library([PageRun("", path)], "empty")


def test_a_damaged_record_in_a_growing_file_is_told_at_each_reload(trace: EpisodeTrace, tmp_path: Path) -> None:
    path = written(tmp_path / "traces.jsonl", [trace])
    library = Library([PageRun("", path)], "growing")
    with path.open("a", encoding="ascii") as file:
        file.write('{"version": 99}\n' + dumps(trace) + "\n")
    for _ in range(2):
        with pytest.raises(TraceError, match="record 2"):
            library.refresh()
    assert unpacked(library.block("episode-0"))["steps"]
    library.close()


@pytest.mark.parametrize("change", [{"metrics": {}}, {"steps": ()}, {"causes": ()}], ids=str)
def test_a_record_that_no_episode_leaves_is_an_error_and_no_traceback(
    change: dict[str, Any], trace: EpisodeTrace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(written(tmp_path / "traces.jsonl", [replace(trace, **change)]))
    for more in ([], ["--serve"]):
        assert main(["view", path, "--no-open", *more]) == FAILED
        said = " ".join(capsys.readouterr().err.split())
        assert "lacks what every played episode has" in said
        assert f"record of item '{trace.item}'" in said or "traces.jsonl, record 1" in said


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_nothing_that_is_asked_for_ends_in_a_traceback_and_every_reply_is_safe(
    trace: EpisodeTrace, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    library = Library([PageRun("", written(tmp_path / "traces.jsonl", [trace]))], "asked")
    with serving(library) as server:
        base = server.url.removeprefix(f"http://127.0.0.1:{server.port}")
        for name in ("episode-" + "9" * 5000, "episode-%C2%B2", "plot-0-" + "9" * 5000, "nonsense"):
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
            connection.request("GET", base + name)
            response = connection.getresponse()
            assert response.status == 404
            assert response.headers["X-Frame-Options"] == "DENY"
            assert len(response.headers.get_all("Cache-Control")) == 1  # type: ignore[arg-type]
            connection.close()

        def broken(name: str) -> bytes:
            raise KeyError("em")

        monkeypatch.setattr(library, "block", broken)
        status, body = asked(server, f"{base}episode-1")
        assert (status, body) == (500, b"KeyError: 'em'")
        for error in (BrokenPipeError(), ConnectionResetError()):
            try:
                raise error
            except ConnectionError:
                server._server.handle_error(None, None)  # type: ignore[arg-type]
    assert capfd.readouterr().err == ""


def test_the_command_serves_until_it_is_interrupted(
    trace: EpisodeTrace, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda url: not opened.append(url))

    def interrupted(server: PageServer) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(PageServer, "serve", interrupted)
    path = str(written(tmp_path / "traces.jsonl", [trace]))
    assert main(["view", path, "--serve"]) == 0
    assert opened[0].startswith("http://127.0.0.1:")
    assert opened[0] in capsys.readouterr().out
    assert main(["view", path, "--serve", "--port", "99999"]) == FAILED
    assert "--port=99999 must be an integer from 0 to 65535" in " ".join(capsys.readouterr().err.split())
    assert main(["view", path, "--serve", "--limit-mib", "1"]) == FAILED
    assert "--limit-mib bounds a page that is written" in " ".join(capsys.readouterr().err.split())
    assert [one.name for one in tmp_path.iterdir()] == ["traces.jsonl"]
