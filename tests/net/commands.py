"""Runs the command line by its entry point, one session in one folder, and writes down all that it said and wrote."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from net import masks
from net.recordings import digest

COMMANDS = (
    (),
    ("demo",),
    ("run",),
    ("eval",),
    ("compare",),
    ("replay",),
    ("counterfactual",),
    ("rescore",),
    ("export",),
    ("view",),
    ("ask",),
    ("memory",),
    ("memory", "ls"),
    ("memory", "show"),
    ("memory", "search"),
    ("envs",),
    ("data",),
    ("data", "check"),
    ("data", "verl"),
    ("data", "skyrl"),
    ("info",),
)
"""All commands; ``atommem --help``, which is recorded, lists those of the first level."""

STOPPED = "the session stopped"
"""Title in the transcript of a session that did not come to its end; such a one is never recorded."""

_SURROUNDINGS = {"COLUMNS": "100", "LINES": "40", "NO_COLOR": "1", "TERM": "dumb"}
_ABSENT = ("FORCE_COLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "PY_COLORS", "ATOMMEM_DATA")
_SHORT = ("--set", "num_docs=20", "store=numpy")
Mask = Callable[[str], str]

_DIARY = """# Monday
The harbour bridge was opened in 1931 by Mayor Ilse Brandt. It rained all day.

# Tuesday
The ferry Aurora sank near Porthaven. Captain Ole Lind was saved by a fisherman named Piet Maas.
"""
_MINUTES = """Minutes of the council.

Piet Maas received a medal in the town hall of Porthaven.
"""


def entry_point() -> Callable[[Sequence[str]], int]:
    """The function behind the console script ``atommem``."""
    (found,) = entry_points(group="console_scripts", name="atommem")
    main: Callable[[Sequence[str]], int] = found.load()
    return main


def apart(code: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run Python code that may import the net, in a process where nothing else has been imported or registered."""
    paths = os.pathsep.join([str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": paths, "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        timeout=300,
    )


class Session:
    """Commands in a folder of their own, which is the working directory, and a transcript of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.transcript: list[str] = []
        self.lines: dict[str, str] = {}
        """Lines that the transcript only names, by their hash."""

    def run(self, *arguments: str, mask: Mask = str, errors: bool = False) -> None:
        """Run a command in this process, with its output in pipes.

        Args:
            arguments: After ``atommem``.
            mask: What else is masked in standard output.
            errors: Whether standard error is recorded, too; progress, which depends on times, is there.
        """
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="\n") for _ in range(2))
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                status: object = entry_point()(arguments)
            except SystemExit as stop:
                status = stop.code
        for stream in (out, err):
            stream.flush()
        printed, said = (stream.buffer.getvalue().decode("utf-8") for stream in (out, err))  # type: ignore[attr-defined]
        self._note(arguments, status, printed, said if errors or status not in (0, None) else "", mask)

    def run_apart(self, *arguments: str) -> None:
        """Run a command in a process of its own, as a shell does."""
        done = apart(
            "import sys; from net.commands import entry_point; sys.exit(entry_point()(sys.argv[1:]))", *arguments
        )
        self._note(arguments, done.returncode, done.stdout.decode("utf-8"), done.stderr.decode("utf-8"), str)

    def _note(self, arguments: Sequence[str], status: object, out: str, err: str, mask: Mask) -> None:
        self.transcript.append(f"$ atommem {' '.join(map(_quoted, arguments))}\nexit status {status or 0}")
        for name, text in (
            ("stdout", mask(masks.output(out, self.folder))),
            ("stderr", masks.output(err, self.folder)),
        ):
            if text.strip():
                self.transcript.append(f"--- {name}\n{text.rstrip()}")

    def show(self, path: str, mask: Mask = str) -> None:
        """Write down a file that a command wrote."""
        self.show_text(path, mask(masks.output((self.folder / path).read_bytes().decode("utf-8"), self.folder)))

    def show_text(self, title: str, text: str) -> None:
        self.transcript.append(f"=== {title}\n{text.rstrip()}")

    def show_names(self, path: str) -> None:
        """Write down which files are in a folder."""
        self.show_text(f"files in {path}", "\n".join(sorted(one.name for one in (self.folder / path).iterdir())))

    def show_hashes(self, path: str, mask: Callable[[bytes], str]) -> None:
        """Write down a hash of every line of a long file."""
        self._hashes(f"hashes of the lines of {path}", map(mask, (self.folder / path).read_bytes().splitlines()))

    def _hashes(self, title: str, texts: Iterable[str]) -> None:
        lines = [(digest(text), text) for text in texts]
        self.lines |= dict(lines)
        self.show_text(title, "\n".join(line for line, _ in lines))

    def show_page(self, path: str) -> None:
        """Write down a viewer's page, and hashes of its unpacked data."""
        text = (self.folder / path).read_text(encoding="utf-8")
        self.show_text(path, masks.page(text))
        blocks = re.findall(r'<script type="text/plain" id="([^"]*)">([^<]*)</script>', text)
        found = {name: masks.viewer_data(json.loads(zlib.decompress(base64.b64decode(data)))) for name, data in blocks}
        (index,) = re.findall(r'<script type="application/json" id="index">(.*?)</script>', text)
        found["index"] = masks.viewer_data(json.loads(index))
        self._hashes(f"hashes of the data of {path}: {' '.join(found)}", found.values())

    def show_rows(self, path: str) -> None:
        """Write down the types and rows of a Parquet file."""
        table = pq.read_table(self.folder / path)
        rows = "\n".join(json.dumps(row, ensure_ascii=True) for row in table.to_pylist())
        self.show_text(path, masks.output(f"{table.schema.remove_metadata()}\n{rows}", self.folder))


def _quoted(argument: str) -> str:
    return f'"{argument}"' if " " in argument or not argument else argument


def tables(session: Session) -> None:
    session.run("demo", "--episodes", "1", "--num-docs", "20", mask=masks.results_table)
    session.run("run", "Synthetic", *_SHORT, "--episodes", "2", "--seed", "3", mask=masks.results_table)
    arguments = ("--agent", "tidy", "oracle", "--episodes", "2", "--json", "run.json")
    session.run("run", "AtomMem-Drift-v0", *_SHORT, *arguments, mask=masks.results_table)
    session.show("run.json")
    arguments = ("--agent", "keep_all", "--episodes", "1", "--watch")
    session.run("run", "musique", *_SHORT, "source=synthetic", *arguments, mask=masks.results_table)
    session.run_apart("envs")
    session.run("info", mask=masks.information)


def evaluation(session: Session) -> None:
    arguments = ("--agent", "silent", "keep_all", "tidy", "--docs", "20", "--episodes", "2", "--seeds", "0", "1")
    one = ("--concurrency", "1", "--set", "store=numpy")
    session.run("eval", "Synthetic", "Drift", *arguments, *one, "-o", "first", mask=masks.time_tables)
    session.show_names("first")
    session.show("first/plan.yaml")
    session.show("first/results.jsonl")
    session.show("first/report.md", masks.time_tables)
    session.show("first/cells.csv", masks.cells_csv)
    session.show_hashes("first/traces.jsonl", masks.trace_line)
    session.run("compare", "first", "first", "--agents", "keep_all", "tidy")
    session.run("compare", "first", "first", "--agents", "silent", "tidy", "--metric", "f1", "--json")
    session.run("view", "first/traces.jsonl", "--no-open", "-o", "page.html")
    session.show_page("page.html")
    session.run("replay", "first/traces.jsonl", "--check")
    session.run("replay", "first/traces.jsonl", "--episode", "1")
    session.run("rescore", "first/traces.jsonl", "--reward", "f1", "-o", "f1.jsonl")
    session.show_hashes("f1.jsonl", masks.trace_line)
    session.run("export", "first/traces.jsonl", "-o", "messages", "--format", "messages", "--dev", "0.3")
    session.show("messages/export.json")
    for part in ("train", "dev"):
        session.show_hashes(f"messages/{part}.jsonl", lambda line: masks.output(line.decode("utf-8"), session.folder))
    session.run("export", "f1.jsonl", "-o", "trl", "--format", "trl", "--scorer", "f1", "--dev", "0")
    session.show_hashes("trl/train.jsonl", bytes.decode)
    session.run("export", "first/traces.jsonl", "-o", "verl", "--dev", "0.2", "--drop-rejected", "--seed", "4")
    schema = pq.read_schema(session.folder / "verl/train.parquet").remove_metadata()
    session.show_text("verl/train.parquet", str(schema))


def documents(session: Session) -> None:
    (session.folder / "diary.md").write_text(_DIARY, encoding="utf-8")
    (session.folder / "minutes.txt").write_text(_MINUTES, encoding="utf-8")
    asked = ("-q", "Who saved Captain Ole Lind?", "-q", "Who opened the harbour bridge?")
    session.run("ask", "diary.md", "minutes.txt", *asked, "--memory", "notes.db", "--trace", "asked.jsonl", errors=True)
    asked_trace = masks.trace_line((session.folder / "asked.jsonl").read_bytes().rstrip(b"\n"))
    session.show_text("asked.jsonl", masks.output(asked_trace, session.folder))
    session.run("ask", "-q", "What did Piet Maas receive?", "--memory", "notes.db", errors=True)
    session.run("ask", "diary.md", "-q", "When was the bridge opened?", "--agent", "tidy", "--chunk-tokens", "30")
    session.run("memory", "ls", "notes.db", "--json")
    session.run("memory", "ls", "notes.db")
    session.run("memory", "show", "notes.db")
    session.run("memory", "show", "notes.db", "--json")
    session.run("memory", "search", "notes.db", "a fisherman", "--top-k", "2")
    session.run("memory", "search", "notes.db", "a fisherman", "--json")


def data(session: Session) -> None:
    for name, records in _records().items():
        lines = "".join(f"{json.dumps(record)}\n" for record in records)
        (session.folder / name).write_text(lines, encoding="utf-8")
    session.run("data", "check", "hotpot.jsonl", "hotpot_dev.jsonl")
    session.run("data", "check", "musique.jsonl")
    session.run("data", "check", "broken.jsonl")
    arguments = ("--set", "source=hotpot.jsonl", "num_docs=8", "chunk_tokens=80", "store=numpy")
    session.run("run", "HotpotQA", *arguments, "--agent", "oracle", "--episodes", "2", mask=masks.results_table)
    session.run("data", "verl", "Synthetic", "-o", "verl", "--set", "num_docs=20", "--train", "4", "--validation", "2")
    session.show("verl/verl.json")
    session.show_rows("verl/train.parquet")
    session.show_rows("verl/validation.parquet")


def help_pages(session: Session) -> None:
    for command in COMMANDS:
        session.run(*command, "--help")


def errors(session: Session) -> None:
    session.run_apart("run", "Hotpot")
    for line in (
        "run",
        "frobnicate",
        "run Synthetic --nonsense",
        "run Synthetic --agent tidi",
        "run Synthetic --set nmdocs=3",
        "run Synthetic --set num_docs",
        "run Synthetic --set num_docs=many",
        "run Synthetic --set chunk_overlap=9 chunk_tokens=9",
        "run Synthetic --episodes 0",
        "run HotpotQA --set source=no-such-file.json",
        "data check no-such-file.json",
        "data check",
        "replay no-such-file.jsonl",
        "rescore no-such-file.jsonl --reward f1 -o out.jsonl",
        "export no-such-file.jsonl -o out",
        "view no-such-file.jsonl",
        "compare no-such-folder another",
        "eval",
        "eval Synthetic --agent nobody -o out",
        "ask",
        "ask no-such-file.txt -q What?",
        "memory ls no-such.db",
        "memory search",
        "--import no_such_module envs",
    ):
        session.run(*line.split())


SESSIONS: dict[str, Callable[[Session], None]] = {
    "tables": tables,
    "evaluation": evaluation,
    "documents": documents,
    "data": data,
    "help": help_pages,
    "errors": errors,
}


def transcript(name: str) -> tuple[str, dict[str, str]]:
    """All that a session's commands said and wrote, and the lines in it that are named by their hash alone."""
    with tempfile.TemporaryDirectory() as folder, _surroundings(Path(folder)):
        session = Session(Path(folder) / "work")
        try:
            SESSIONS[name](session)
        except Exception as error:
            # A command that failed before is the cause and stands in the transcript, whose difference is to be seen.
            session.show_text(STOPPED, masks.output(f"{type(error).__name__}: {error}", session.folder))
    return "\n\n".join(session.transcript), session.lines


@contextlib.contextmanager
def _surroundings(folder: Path) -> Iterator[None]:
    """Environment variables and a working directory that are the same everywhere."""
    variables, directory = dict(os.environ), Path.cwd()
    (folder / "work").mkdir()
    os.chdir(folder / "work")
    os.environ.update(_SURROUNDINGS, ATOMMEM_CACHE=str(folder / "cache"))
    for variable in _ABSENT:
        os.environ.pop(variable, None)
    try:
        yield
    finally:
        os.chdir(directory)
        os.environ.clear()
        os.environ.update(variables)


def _records() -> dict[str, list[dict[str, Any]]]:
    """Made-up records in the official shapes; the third file of HotpotQA has three faults."""
    broken = [_hotpot(0), {"_id": "x", "question": "Only a question?"}, {**_hotpot(1), "supporting_facts": [["?", 0]]}]
    return {
        "hotpot.jsonl": [_hotpot(i) for i in range(4)],
        "hotpot_dev.jsonl": [_hotpot(i) for i in range(3, 6)],
        "broken.jsonl": [*broken, {**_hotpot(2), "context": []}],
        "musique.jsonl": [_musique(i) for i in range(3)],
    }


def _hotpot(number: int) -> dict[str, Any]:
    writer, town = f"Writer {number}", f"Town {number}"
    context = [
        [writer, [f"{writer} was a novelist.", f" {writer} was born in {town}."]],
        [town, [f"{town} is a town.", f" {town} lies in Region {number}."]],
        *([f"Village {number}-{i}", [f"Village {number}-{i} is small.", " It is old."]] for i in range(4)),
    ]
    return {
        "_id": f"h{number}",
        "question": f"In which region was {writer} born?",
        "answer": f"Region {number}",
        "type": "bridge",
        "level": "hard",
        "supporting_facts": [[writer, 1], [town, 1]],
        "context": context,
    }


def _musique(number: int) -> dict[str, Any]:
    band, label, year = f"Band {number}", f"Label {number}", f"19{number + 10}"
    texts = [
        (band, f"{band} signed with {label}.", True),
        (label, f"{label} was founded in {year}.", True),
        *((f"Song {number}-{i}", f"Song {number}-{i} was a hit.", False) for i in range(3)),
    ]
    return {
        "id": f"2hop__{number}_{number + 1}",
        "paragraphs": [
            {"idx": i, "title": title, "paragraph_text": text, "is_supporting": gold}
            for i, (title, text, gold) in enumerate(texts)
        ],
        "question": f"When was the label of {band} founded?",
        "question_decomposition": [
            {"id": 1, "question": f"{band} >> label", "answer": label, "paragraph_support_idx": 0},
            {"id": 2, "question": "#1 >> founded", "answer": year, "paragraph_support_idx": 1},
        ],
        "answer": year,
        "answer_aliases": [f"in {year}"],
        "answerable": True,
    }
