"""No command writes a line that is wider than its terminal, or breaks or cuts what a person copies.

Every command runs in real pseudo-terminals of 80 and of 200 columns and into a pipe; what is checked are the raw bytes
and the screen that a terminal shows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyte
import pytest
from rich.cells import cell_len
from rich.live import Live
from rich.progress import Progress, ProgressColumn
from rich.text import Text
from support.commands.terminals import Commands, Shown

from atommem_gym.cli import CommandLine
from atommem_gym.commands.help import subcommands
from atommem_gym.terminal import (
    UNBOUNDED,
    Column,
    SafeConsole,
    SafeLive,
    Table,
    on_one_line,
    printable,
    under_one_lock,
    wrapped,
)

pytest.importorskip("pty", reason="pseudo-terminals are Unix's")
pytestmark = pytest.mark.xdist_group("terminals")

SMALL = ("--set", "num_docs=20", "store=numpy")
LONG = "A sentence that is longer than any terminal of eighty columns, and that is why it has to be broken somewhere."
CASES: dict[str, list[tuple[str, ...]]] = {
    "demo": [("demo", "--episodes", "1", "--num-docs", "20")],
    "run": [
        ("run", "Synthetic", *SMALL, "--episodes", "1"),
        ("run", "Synthetic", *SMALL, "--agent", "tidy", "--episodes", "1", "--watch"),
    ],
    "eval": [
        (
            "eval",
            "Synthetic",
            "--agent",
            "tidy",
            "keep_all",
            "--docs",
            "20",
            "--episodes",
            "1",
            "-o",
            "new",
            *SMALL[::2],
        ),
    ],
    "compare": [("compare", "run", "run", "--agents", "keep_all", "tidy")],
    "replay": [("replay", "run/traces.jsonl", "--episode", "1"), ("replay", "run/traces.jsonl", "--check")],
    "counterfactual": [
        ("counterfactual", "run/traces.jsonl", "--episode", "3", "--continuation", "tidy"),
        ("counterfactual", "run/traces.jsonl", "--episode", "3", "--step", "2", "--operation", "1"),
    ],
    "rescore": [("rescore", "run/traces.jsonl", "--reward", "f1", "-o", "again.jsonl")],
    "export": [("export", "run/traces.jsonl", "-o", "sft", "--format", "messages")],
    "view": [("view", "run/traces.jsonl", "--no-open", "-o", "page.html")],
    "ask": [("ask", "notes.md", "-q", "Who saved Captain Ole Lind?", "-q", LONG)],
    # It serves until its input ends: here it refuses to.
    "mcp": [("mcp", "--memory", "kept.db", "--set", "chunk_tokens=40")],
    "memory": [
        ("memory", "ls", "kept.db"),
        ("memory", "show", "kept.db"),
        ("memory", "search", "kept.db", "who was saved"),
        ("memory", "purge", "kept.db"),
    ],
    "envs": [("envs",)],
    "data check": [("data", "check", "hotpot.jsonl", "broken.jsonl")],
    "data verl": [
        ("data", "verl", "Synthetic", "-o", "verl", "--set", "num_docs=20", "--train", "4", "--validation", "2")
    ],
    "data skyrl": [
        ("data", "skyrl", "Synthetic", "-o", "skyrl", "--set", "num_docs=20", "--train", "4", "--validation", "2")
    ],
    "info": [("info",)],
}
"""What is run of every command; a new one needs a line here."""
WRONG = [
    ("frobnicate",),
    ("run",),
    ("run", "Synthetic", "--nonsense"),
    ("run", "HotpotQA", "--set", "source=no-such-file.json"),
    ("eval", "Synthetic", "--agent", "nobody"),
]
KEYS = {CASES["replay"][0]: "nnpgGq"}
"""What is typed, where a command waits for it in a terminal."""


def leaves(command: type = CommandLine, before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """All commands, those below others by their whole names."""
    below = subcommands(command)
    for name, one in below.items():
        yield from leaves(one, (*before, name))
    if not below:
        yield before


HELP = [("--help",), *((*path, "--help") for path in leaves()), ("data", "--help")]
COMMAND_LINES = [line for lines in CASES.values() for line in lines] + WRONG + HELP


@pytest.fixture(scope="module")
def commands() -> Iterator[Commands]:
    with Commands() as running:
        yield running


@pytest.fixture(scope="module")
def folder(
    commands: Commands, tmp_path_factory: pytest.TempPathFactory, hotpot_raw: Callable[..., dict[str, Any]]
) -> Path:
    """What the commands look at: an evaluation with its traces, a kept memory, notes, records."""
    where = tmp_path_factory.mktemp("width")
    (where / "notes.md").write_text(
        "# Tuesday\nThe ferry Aurora sank near Porthaven. Captain Ole Lind was saved by a fisherman named Piet Maas, "
        f"who told nobody for a long time.\n\n{LONG}\n",
        encoding="utf-8",
    )
    good, bad = [hotpot_raw(i) for i in range(3)], {"_id": "x", "question": "Only a question?"}
    for name, records in (("hotpot.jsonl", good), ("broken.jsonl", [*good[:1], bad])):
        (where / name).write_text("".join(json.dumps(one) + "\n" for one in records), encoding="utf-8")
    agents = ("silent", "keep_all", "tidy")
    for line in (
        ("eval", "Synthetic", "Drift", "--agent", *agents, "--docs", "20", "--episodes", "2", "-o", "run", *SMALL[::2]),
        ("ask", "notes.md", "-q", "Who was saved?", "--memory", "kept.db"),
    ):
        assert commands.run(line, where).status == 0, line
    return where


@pytest.fixture(scope="module")
def shown(commands: Commands, folder: Path) -> Callable[..., Shown]:
    """What a command shows; the same command in the same place runs once."""
    seen: dict[tuple[Any, ...], Shown] = {}

    def show(line: tuple[str, ...], columns: int | None, **variables: str) -> Shown:
        key = (line, columns, *variables.items())
        if key not in seen:
            for written in ("new", "again.jsonl"):
                _remove(folder / written)
            seen[key] = commands.run(line, folder, columns, keys=KEYS.get(line, ""), **variables)
        return seen[key]

    return show


def _remove(path: Path) -> None:
    if path.is_dir():
        for one in path.iterdir():
            _remove(one)
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


def too_wide(lines: list[str], columns: int) -> list[str]:
    """Lines that are wider than the terminal and more than one word."""
    return [line for line in lines if cell_len(line.rstrip()) > columns and len(line.split()) > 1]


def cut_inside_words(line: tuple[str, ...], text: str) -> list[str]:
    """Ellipses that stand where a word, a number or an id was."""
    if "--help" in line:
        return []  # there they say that several may be given
    return re.findall(r"\S*[^\s.]…\S*|\S*…[\w]\S*", re.sub(r"[A-Z]+…|-q …|eval … ", "", text))


def test_finding_6_1_every_command_is_tried() -> None:
    assert sorted(" ".join(path) for path in leaves()) == sorted(CASES), "add the new command to CASES"


@pytest.mark.parametrize("columns", [80, 200])
@pytest.mark.parametrize("line", COMMAND_LINES, ids=" ".join)
def test_finding_6_1_a_terminal_gets_no_line_that_is_wider(
    line: tuple[str, ...], columns: int, shown: Callable[..., Shown]
) -> None:
    seen = shown(line, columns)
    assert "Traceback" not in seen.raw
    assert seen.status == (
        2 if line in (*WRONG, *CASES["mcp"]) or "purge" in line else 1 if "broken.jsonl" in line else 0
    ), seen.raw
    assert too_wide(seen.lines, columns) == []
    assert cut_inside_words(line, "\n".join(seen.lines)) == []
    # The terminal broke no line either: each row of its screen is a line that was written.
    screen = pyte.HistoryScreen(columns, 24, history=100_000, ratio=1)
    pyte.Stream(screen).feed(seen.raw)
    rows = ["".join(row[i].data for i in range(columns)).rstrip() for row in [*screen.history.top, *_visible(screen)]]
    written = {one.rstrip() for one in seen.lines}
    long = "".join(one for one in written if cell_len(one) > columns)
    assert [row for row in rows if row not in written and row.strip() not in long] == []


def _visible(screen: Any) -> list[Any]:
    return [screen.buffer[i] for i in range(screen.lines)]


@pytest.mark.parametrize("line", COMMAND_LINES, ids=" ".join)
def test_finding_6_1_a_pipe_gets_everything_unbroken(line: tuple[str, ...], shown: Callable[..., Shown]) -> None:
    seen = shown(line, None)
    text = seen.raw + seen.errors
    assert "\x1b" not in text
    assert "Left out at" not in text
    assert not re.search(r"… \(\+\d+ characters\)", text)
    assert cut_inside_words(line, text) == []
    if line[0] not in ("demo", "run", "replay"):  # which show texts as they are
        assert not re.search(r"[^\S\n]+$", text, re.MULTILINE), "no line ends with spaces"
    if "--help" in line:
        # Nothing is lost in a terminal either.
        assert " ".join(text.split()) == " ".join("\n".join(shown(line, 80).lines).split())


@pytest.mark.parametrize(
    "line", [("run", "Synthetic", *SMALL, "--episodes", "1"), ("info",), ("run", "--help"), WRONG[0]]
)
def test_no_color_forbids_colour_and_not_bold(line: tuple[str, ...], shown: Callable[..., Shown]) -> None:
    seen = shown(line, 80, NO_COLOR="1")
    assert codes(seen.raw) & {"1", "2"}, "bold or dim"
    assert not [one for one in codes(seen.raw) if re.fullmatch(r"[349]\d|10\d", one)]


def codes(raw: str) -> set[str]:
    return {code for found in re.findall("\x1b\\[([0-9;]*)m", raw) for code in found.split(";")}


def test_colours_are_there_without_no_color(shown: Callable[..., Shown]) -> None:
    assert {"31"} <= codes(shown(WRONG[0], 80).raw)


@pytest.mark.parametrize("columns", [80, 200, None])
def test_finding_6_1_an_environment_for_people_keeps_to_the_terminal(
    columns: int | None, commands: Commands, tmp_path: Path
) -> None:
    code = (
        "import gymnasium as gym, atommem_gym\n"
        "env = gym.make('AtomMem-Synthetic-v0', num_docs=8, store='numpy', render_mode='human')\n"
        "observation, _ = env.reset(seed=1)\n"
        "env.step(f\"<create>{observation['chunk']}</create><read>{observation['question']}</read>\")\n"
        "env.step('<answer>nobody knows</answer>')\n"
    )
    seen = commands.run((), tmp_path, columns, code=code)
    assert seen.status == 0, seen.raw
    assert "step 1" in seen.raw
    if columns is None:
        assert max(map(len, seen.lines)) > 400
        assert "… (+" not in seen.raw
    else:
        assert too_wide(seen.lines, columns) == []
        assert cut_inside_words((), "\n".join(seen.lines)) == []


def test_a_memory_of_many_entries_shows_key_and_numbers_at_every_width(shown: Callable[..., Shown]) -> None:
    for columns in (80, 200, None):
        text = "\n".join(shown(("memory", "ls", "kept.db"), columns).lines)
        assert re.search(r"\b[0-9a-f]{32}\b +\d+\b", text)


def test_what_a_row_is_known_by_stays_at_80_columns(shown: Callable[..., Shown]) -> None:
    listed = " ".join(shown(("memory", "ls", "kept.db"), 80).lines)
    assert "first entry" in listed.partition("Left out")[0]
    environments = " ".join(shown(("envs",), 80).lines).partition("Left out")
    assert "generated: train," in environments[0]
    assert environments[2].startswith(" at 80 columns: items. ")


@pytest.mark.parametrize(
    "line",
    [
        ("compare", "run", "run", "--agents", "keep_all", "tidy", "--json"),
        (*CASES["counterfactual"][0], "--json"),
        ("ask", "notes.md", "-q", LONG, "--json"),
        ("memory", "show", "kept.db", "--json"),
        ("memory", "export", "kept.db"),
    ],
    ids=" ".join,
)
def test_json_in_a_terminal_is_json(line: tuple[str, ...], shown: Callable[..., Shown]) -> None:
    text = "\n".join(shown(line, 80).lines)
    json.loads(text[re.search("^[\\[{]", text, re.MULTILINE).start() :])  # type: ignore[union-attr]


def printed(renderable: Any, columns: int | None, **keywords: Any) -> list[str]:
    import io

    file = io.StringIO()
    SafeConsole(file=file, width=columns, **keywords).print(renderable)
    return file.getvalue().splitlines()


def test_a_redraw_waits_for_a_print_to_end() -> None:
    """As two threads meet now and then: one redraws the lines at the foot while another prints above them."""
    import io
    import threading

    redrawn: list[threading.Thread] = []

    class Slow:
        def __rich_console__(self, *_: Any) -> Iterator[str]:
            redrawn.append(threading.Thread(target=live.refresh))
            redrawn[0].start()
            redrawn[0].join(0.2)
            yield "printed"

    console = SafeConsole(
        file=io.StringIO(), width=40, force_terminal=True, legacy_windows=False, _environ={"TERM": "xterm"}
    )
    live = SafeLive(lambda: Text("at the foot"), console)
    live.auto_refresh = False
    with live:
        console.print(Slow())
        redrawn[0].join()
    screen = pyte.Screen(40, 24)
    pyte.Stream(screen).feed(console.file.getvalue().replace("\n", "\r\n"))  # type: ignore[attr-defined]
    assert [row.rstrip() for row in screen.display if row.strip()] == ["printed"]


@pytest.mark.parametrize("foot", ["lines", "bar"])
def test_a_print_waits_for_a_redraw_to_end_and_both_go_on(foot: str) -> None:
    """With two locks, a redraw would wait for the print, and the print for the redraw."""
    import io
    import threading

    console = SafeConsole(
        file=io.StringIO(), width=40, force_terminal=True, legacy_windows=False, _environ={"TERM": "xterm"}
    )
    printing = threading.Thread(target=lambda: console.print("printed"), daemon=True)
    redrawing = threading.Thread(target=lambda: live.refresh(), daemon=True)

    class Slow(ProgressColumn):
        def render(self, task: object) -> Text:
            if redrawing.ident == threading.get_ident():
                printing.start()
                printing.join(0.2)
            return Text("at the foot")

    if foot == "bar":
        bars = under_one_lock(Progress(Slow(), console=console, auto_refresh=False, transient=True), console)
        bars.add_task("")
        live: Live = bars.live
    else:
        live = SafeLive(lambda: Slow().render(None), console)
        live.auto_refresh = False
    live.start()
    redrawing.start()
    redrawing.join(20)
    assert not redrawing.is_alive(), "neither goes on"
    printing.join()
    live.stop()
    assert "printed" in console.file.getvalue()  # type: ignore[attr-defined]


def test_a_word_that_is_wider_stands_alone_and_whole() -> None:
    path = "/a/folder/" + "x" * 30
    assert printed(Text(f"it lies in {path} and nowhere else"), 20) == ["it lies in", path, "and nowhere else"]
    assert printed(Text(f"it lies in {path} and nowhere else"), None) == [f"it lies in {path} and nowhere else"]


def test_what_is_indented_stays_so_and_wide_characters_count_twice() -> None:
    assert printed(Text("  one two three"), 9) == ["  one two", "  three"]
    assert printed(Text("漢字 漢字 漢字"), 10) == ["漢字 漢字", "漢字"]
    assert printed(wrapped(Text(""), 3), 3) == [""]


def test_a_shortened_text_ends_at_a_word() -> None:
    assert on_one_line("one two three", 10) == "one two …"
    assert on_one_line("one\n two", None) == "one two"
    assert on_one_line("12345678", 4) == "…", "a number is shown whole or not at all"
    assert printable("one two three", 9) == "one two … (+6 characters)"
    assert printable("x" * 50, 10) == f"{'x' * 10} … (+40 characters)"


def small_table() -> Table:
    table = Table(
        [Column("id"), Column("text", kind="words"), Column("n", "right", leave_out=1), Column("m", leave_out=2)]
    )
    table.add_row("AtomMem-1", "one two three", "12,345", "0.5 (0.1–0.9)")
    table.add_section()
    table.add_row("A-2", "x", "1", "")
    return table


def test_a_column_without_a_name_is_left_out_without_a_word() -> None:
    table = Table([Column("agent"), Column("", leave_out=2), Column("failed", leave_out=1)])
    table.add_row("keep_all", "━" * 20, "1")
    assert "Left out" not in " ".join(printed(table, 20))
    assert "Left out at 9 columns: failed. A" in " ".join(printed(table, 9))


def test_columns_are_left_out_in_their_order_and_named() -> None:
    assert printed(small_table(), 60)[0] == "id         text                n  m"
    at_30 = printed(small_table(), 30)
    assert at_30[0] == "id        text               n"
    assert " ".join(at_30[-4:]).startswith("Left out at 30 columns: m. A terminal of ")
    at_20 = printed(small_table(), 20)
    assert "12,345" not in at_20[2]
    assert "m, n" in " ".join(at_20) or "n, m" in " ".join(at_20)
    assert all(len(line) <= 20 for line in at_20)


def test_compare_leaves_out_counts_and_tests_before_what_is_compared(shown: Callable[..., Shown]) -> None:
    lines = shown(CASES["compare"][0], 80).lines
    (headers,) = [line.split() for line in lines if line.startswith("environment")]
    assert headers == [*["environment", "docs", "agents", "A", "B", "difference"], "p", "(permutation)"]
    assert "Left out at 80 columns: pairs, B better, worse, equal, p (sign). " in " ".join(lines)


def test_info_says_how_to_get_what_is_missing_at_every_width(commands: Commands, folder: Path) -> None:
    code = (
        "from atommem_gym.cli import main; from atommem_gym.commands import info; "
        "info.installed = lambda name: None if name == {missing} else '1.0'; main(['info'])"
    )
    for columns in (80, 200, None):
        lines = commands.run((), folder, columns, code=code.format(missing="'matplotlib'")).lines
        below = [line.strip() for line in lines[lines.index("What is missing, by extra:") + 1 :] if line]
        assert below == ["pip install 'atommem-gym[plots]'", "pip install 'atommem-gym[test]'"]
        assert not any("Left out" in line for line in lines)
    assert "Nothing is missing." in commands.run((), folder, 80, code=code.format(missing=None)).lines


def test_a_table_that_fits_nowhere_becomes_a_list() -> None:
    assert printed(small_table(), 12)[:4] == ["id:", "AtomMem-1", "text: one", "two three"]


def test_a_tab_in_a_cell_breaks_no_width() -> None:
    table = Table([Column("name"), Column("text", kind="words"), Column("n", "right")])
    table.add_row("a\tb", Text("one\ttwo"), "1")
    table.add_row("abc", "one two", "1")
    lines = printed(table, 80)
    assert "\t" not in "".join(lines)
    assert len({len(line) for line in lines[-2:]}) == 1


def test_a_table_in_a_pipe_is_as_wide_as_it_needs() -> None:
    table = Table([Column("one"), Column("long", kind="line")])
    table.add_row("1", LONG * 20)
    lines = printed(table, None)
    assert lines[-1] == f"1    {LONG * 20}"
    assert UNBOUNDED > len(lines[-1]) > 2000
