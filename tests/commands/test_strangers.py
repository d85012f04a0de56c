"""A hostile specimen of each kind of file, given to every command that takes one, watched from outside the process.

Nothing that a file names is opened, called, imported or started; nothing is written but what the command line names;
no secret and no control character comes out. ``traced`` sees what compiled libraries do, too.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from msgspec.structs import replace
from support.audited import Seen, traced
from support.made_traces import SMALL, played

import atommem_gym
from atommem_gym.memory.memory import Memory
from atommem_gym.memory.protocols import Write
from atommem_gym.records.verl_rows import ItemReference, references, row, write_rows
from atommem_gym.registration import load_items, task_of
from atommem_gym.stores.loading import open_store
from atommem_gym.traces import EpisodeTrace, write_traces

SECRET = "the-secret-of-this-machine"
KEY = "sk-very-secret-key"
URL = "http://203.0.113.7:8000/v1"
HUB = "somebody/some-model"
MODULE = "marker_of_a_stranger"
RUNS_CODE = "{{ cycler.__init__.__globals__.os.system('touch was_here') }}"
NASTY = "\x1b]0;owned\x07\x1b[2J\x9b31m‮=cmd|' /C calc'!A0"
"""Steers a terminal, and a spreadsheet."""
INSTALLED = (
    *(sys.prefix, sys.base_prefix, str(Path(np.__file__).parents[1]), str(Path(atommem_gym.__file__).parents[1])),
    *("/usr", "/lib", "/lib64", "/proc", "/sys", "/dev"),
)
"""Where programs and libraries are, and what the kernel says."""
SETTINGS = frozenset(
    f"/etc/{name}"
    for name in ("ld.so.cache", "localtime", "nsswitch.conf", "ssl/openssl.cnf", "mime.types", "timezone")
)
"""What the C library and the interpreter read by themselves."""


@dataclass(frozen=True)
class Case:
    """A command line, and the names in the working directory that it may read and write."""

    command: list[str]
    reads: str
    writes: str = ""
    statuses: tuple[int, ...] = (0, 1, 2)


@dataclass
class Desk:
    """A working directory with files of a stranger, and much that they would like to get at."""

    folder: Path
    cases: list[Case]

    def add(self, given: str, *commands: str, writes: str = "", **options: Any) -> None:
        """Give a file to these commands; ``@`` stands for it."""
        for command in commands:
            out = writes or f"out-{len(self.cases)}"
            self.cases.append(
                Case([word.replace("@", given).replace("%", out) for word in command.split()], given, out)
            )


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    folder = tmp_path_factory.mktemp("desk")
    for name in ("home/.ssh/id_rsa", "home/.netrc", "home/.bashrc", "secret.txt", "home/.cache/huggingface/token"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(SECRET)
    (folder / "tmp").mkdir()
    (folder / "evil.j2").write_text(RUNS_CODE)
    (folder / f"{MODULE}.py").write_text(
        "open('was_here', 'w')\ndef score(prediction, answers, question):\n    return 1\n"
    )
    for name in ("tokenizer.json", "config.json", "modules.json", "config_sentence_transformers.json"):
        (folder / "model").mkdir(exist_ok=True)
        (folder / "model" / name).write_text("{}")
    made = Desk(folder, [])
    for fill in (_traces, _plans, _records, _databases, _documents, _archives, _templates):
        fill(made)
    return made


def hostile_values(folder: Path) -> dict[str, dict[str, Any]]:
    """Keyword arguments that name what a stranger wants."""
    secret, model = str(folder / "secret.txt"), str(folder / "model")
    return {
        "embedder-url": {"embedder": URL},
        "embedder-folder": {"embedder": model},
        "embedder-near": {"embedder": "model"},
        "embedder-hub": {"embedder": HUB},
        "tokenizer-folder": {"tokenizer": model},
        "tokenizer-hub": {"tokenizer": HUB},
        "tokenizer-tiktoken": {"tokenizer": "tiktoken:o200k_base"},
        "template-secret": {"template": secret},
        "template-code": {"template": "evil.j2"},
        "reward-module": {"reward": f"{MODULE}:score"},
        "reward-system": {"reward": "os:system"},
        "source-secret": {"source": secret},
        "source-share": {"source": "//203.0.113.7/share"},
        "store-folder": {"store": f"milvus://{folder / 'home' / 'notes.db'}"},
        "nasty": {"initial_query": NASTY},
    }


def _traces(desk: Desk) -> None:
    honest = next(played("tidy", [0], **SMALL))
    for name, values in hostile_values(desk.folder).items():
        keywords = {**honest.env.keywords, **values}
        write_traces(desk.folder / f"{name}.jsonl", [replace(honest, env=replace(honest.env, keywords=keywords))])
        desk.add(
            f"{name}.jsonl",
            "replay @ --check",
            "replay @ --no-check",
            "rescore @ --reward f1 -o %.jsonl",
            "export @ -o % --threshold 0 --render --format messages",
            "view @ --no-open -o %.html",
        )
    other = {
        "other-hub": ("AtomMem-HotpotQA-v0", {"store": "numpy"}),
        "other-module": (f"{MODULE}:Env-v0", {}),
        "other-gym": ("GymV21Environment-v0", {"env_id": f"{MODULE}:Env-v0"}),
        "other-text": (
            "AtomMem-Needle-v0",
            {"haystack": "text", "text": str(desk.folder / "secret.txt"), "store": "numpy"},
        ),
    }
    for name, (env_id, keywords) in other.items():
        env = replace(honest.env, id=env_id, keywords=keywords)
        write_traces(desk.folder / f"{name}.parquet", [replace(honest, env=env)])
        desk.add(f"{name}.parquet", "replay @ --check", "replay @ --no-check", "view @ --no-open -o %.html")
    _nasty_names(desk, honest)


def _nasty_names(desk: Desk, honest: EpisodeTrace) -> None:
    """Control characters in every name that a trace holds, in the file's own name, and a torn end."""
    agent = replace(honest.agent, name=f"tidy{NASTY}", settings={"model": NASTY})
    write_traces(
        desk.folder / "nasty-names.jsonl",
        [replace(honest, item=NASTY, agent=agent, documents=tuple(NASTY for _ in honest.documents))],
    )
    name = "file\x1b]0;owned\x07.jsonl"
    (desk.folder / name).write_bytes((desk.folder / "nasty-names.jsonl").read_bytes()[:-40])
    (desk.folder / "broken.jsonl").write_text(json.dumps({"version": NASTY, "kind": NASTY}) + "\n")
    for given in ("nasty-names.jsonl", name, "broken.jsonl"):
        desk.add(given, "replay @ --no-check", "replay @ --check", "view @ --no-open -o %.html", "data check @")


def _plans(desk: Desk) -> None:
    plan = {"envs": ["Synthetic"], "agents": ["keep_all"], "docs": [8], "episodes": 1, "settings": {"store": "numpy"}}
    plans = {
        name: {**plan, "settings": {"store": "numpy", **values}}
        for name, values in hostile_values(desk.folder).items()
        # A plan's server may be called, without a key: tests/commands/test_trust.py
        if name not in ("embedder-url", "nasty", "source-share")
    }
    plans["model-hub"] = {**plan, "agents": ["crud"], "model": {"name": HUB}}
    plans["model-folder"] = {**plan, "agents": [{"name": "crud", "model": {"name": "model"}}]}
    plans["agent-template"] = {**plan, "agents": [{"name": "crud", "options": {"template": "evil.j2"}}]}
    plans["label"] = {**plan, "agents": [{"name": "keep_all", "label": NASTY}], "envs": [{"id": f"No{NASTY}"}]}
    plans["field"] = {**plan, NASTY: NASTY}
    for name, values in plans.items():
        text = yaml.safe_dump(values, allow_unicode=True)
        (desk.folder / f"plan-{name}.yaml").write_text(text)
        desk.add(f"plan-{name}.yaml", "eval --config @ -o %")
        run = desk.folder / f"sent-{name}"
        run.mkdir()
        (run / "plan.yaml").write_text(text)
        (run / "results.jsonl").write_text("")
        (run / "sessions.jsonl").write_text(
            json.dumps({"at": NASTY, "python": NASTY, "commit": RUNS_CODE, "played": {NASTY: URL}, "work": {}}) + "\n"
        )
        (run / "failures.jsonl").write_text(json.dumps({NASTY: NASTY}) + "\n" if name == "label" else "")
        desk.add(run.name, "eval --resume -o @", "eval --report-only -o @", writes=run.name)
    desk.add("plan-field.yaml", "eval --config @ --resume -o sent-label", writes="sent-label")
    yaml_code = desk.folder / "plan-code.yaml"
    yaml_code.write_text('envs: !!python/object/apply:os.system ["touch was_here"]\nagents: [tidy]\n')
    desk.add(yaml_code.name, "eval --config @ -o %")


def _records(desk: Desk) -> None:
    secret = str(desk.folder / "secret.txt")
    documents = [{"title": NASTY, "text": f"file://{secret} {URL} {RUNS_CODE}"}, {"title": secret, "text": NASTY}]
    records = [
        {"id": NASTY, "question": f"{NASTY} {n}?", "answer": secret, "documents": documents, "__class__": "os.system"}
        for n in range(3)
    ]
    (desk.folder / "train.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))
    (desk.folder / "torn.json").write_text('[{"question": "' + NASTY)
    (desk.folder / "odd.jsonl").write_text(json.dumps({"context": [[NASTY, [secret]]], NASTY: 1}) + "\n")
    for given in ("train.jsonl", "torn.json", "odd.jsonl"):
        desk.add(
            given,
            "data check @",
            "run HotpotQA --set source=@ num_docs=2 store=numpy --agent silent --episodes 1",
            "data verl HotpotQA -o % --set source=@ num_docs=2 store=numpy --validation-set source=odd.jsonl",
        )
    task = task_of("AtomMem-Synthetic-v0")
    assert task is not None
    items = load_items(task.name, task.config({"num_docs": 8}))
    rows = []
    for _, values in hostile_values(desk.folder).items():
        for reference, item in references("AtomMem-Synthetic-v0", {"num_docs": 8}, items, [0]):
            strange = ItemReference(f"AtomMem{NASTY}", values, 0, NASTY, reference.item_hash)
            rows.append(row(strange, item, data_source=NASTY))
    write_rows(desk.folder / "rows.parquet", rows)
    desk.add("rows.parquet", "data check @", "replay @ --check", "view @ --no-open -o %.html")


def _databases(desk: Desk) -> None:
    for name, embedder in {
        "url.db": URL,
        "folder.db": str(desk.folder / "model"),
        "near.db": "model",
        "hub.db": HUB,
        "module.db": f"{MODULE}:score",
        "nasty.db": f"endpoint:{NASTY}",
    }.items():
        store = open_store(f"milvus://{desk.folder / name}", 2, embedder=embedder)
        state = Memory({}, 2, NASTY).kept_state(embedder)
        store.write([Write("key", [1], [f"red {NASTY}"], np.array([[1.0, 0.0]], np.float32), state=state)])
        store.close()
        commands = (
            "memory ls @",
            "memory show @",
            "memory search @ red",
            "memory export @",
            "ask -q Which? --memory @",
        )
        desk.add(name, *commands, writes=name)
    linked = desk.folder / "linked.db"
    store = open_store(f"milvus://{linked}", 2, embedder="hashing-v1-1024")
    store.close()
    (linked / "notes.txt").symlink_to(desk.folder / "secret.txt")
    desk.add(linked.name, "memory ls @", "memory export @", "ask -q Which? --memory @", writes=linked.name)


def _documents(desk: Desk) -> None:
    secret = desk.folder / "secret.txt"
    actions = (
        f"/OpenAction << /S /URI /URI ({URL}) >>",
        "/OpenAction << /S /Launch /F (touch was_here) >>",
        "/OpenAction << /S /JavaScript /JS (app.launchURL) >>",
        f"/AcroForm << /XFA ({secret}) >>",
    )
    for number, action in enumerate(actions):
        (desk.folder / f"doc{number}.pdf").write_bytes(
            _pdf(action, f"/F << /FS /URL /F ({secret}) >>" if number else "")
        )
        desk.add(f"doc{number}.pdf", "ask @ -q Which?")
    (desk.folder / f"note{NASTY[:5]}.md").write_text(f"![]({URL}) [x](file://{secret}) {NASTY} {RUNS_CODE}")
    desk.add(f"note{NASTY[:5]}.md", "ask @ -q Which?", "ask @ -q Which? --trace %.jsonl")
    notes = desk.folder / "sent-notes"
    notes.mkdir()
    (notes / "mine.txt").write_text("The bridge is red.")
    (notes / "stolen.txt").symlink_to(secret)
    (notes / "home").symlink_to(desk.folder / "home")
    desk.add(notes.name, "ask @ -q Which?")


def _pdf(action: str, stream: str) -> bytes:
    """A PDF of one page with an action, and a stream that lies in another file."""
    text = b"BT /F1 24 Tf 72 700 Td (The bridge is old.) Tj ET"
    parts = [
        f"<< /Type /Catalog /Pages 2 0 R {action} >>".encode(),
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R /Resources << /Font << /F1 << "
        b"/Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >> >>",
        f"<< /Length {len(text)} {stream} >>\nstream\n".encode() + text + b"\nendstream",
    ]
    out = io.BytesIO(b"%PDF-1.4\n")
    out.seek(0, os.SEEK_END)
    places = []
    for number, part in enumerate(parts, 1):
        places.append(out.tell())
        out.write(b"%d 0 obj\n%s\nendobj\n" % (number, part))
    start = out.tell()
    out.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(parts) + 1))
    out.writelines(b"%010d 00000 n \n" % place for place in places)
    out.write(b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(parts) + 1, start))
    return out.getvalue()


def _archives(desk: Desk) -> None:
    """Archives that would write beside themselves, or inflate without end; no command unpacks one."""
    with zipfile.ZipFile(desk.folder / "train.zip", "w") as archive:
        archive.writestr("../was_here", "x")
        archive.writestr("train.jsonl", "{}")
    with tarfile.open(desk.folder / "train.tar.gz", "w:gz") as archive:
        link = tarfile.TarInfo("../was_here")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    (desk.folder / "bomb.jsonl.gz").write_bytes(gzip.compress(b"[" * 20_000_000))
    for name in ("train.zip", "train.tar.gz", "bomb.jsonl.gz"):
        desk.add(name, "data check @", "replay @ --check", "view @ --no-open -o %.html", "ask @ -q Which?")


def _templates(desk: Desk) -> None:
    """Templates that the command line names run in the sandbox and reach nothing outside."""
    for number, body in enumerate(
        (
            RUNS_CODE,
            "{% include '/etc/hostname' %}",
            "{% include '../secret.txt' %}",
            "{% include 'secret.txt' %}",
            "{{ ''.__class__.__mro__[1].__subclasses__() }}",
            "{{ question.__init__.__globals__ }}",
        )
    ):
        (desk.folder / "templates").mkdir(exist_ok=True)
        (desk.folder / "templates" / f"t{number}.j2").write_text(body)
        desk.add(
            f"templates/t{number}.j2",
            "export nasty-names.jsonl -o % --threshold 0 --render --format messages --template @",
        )


ALLOWED_READS: dict[str, tuple[str, ...]] = {
    "export": ("nasty-names.jsonl", "templates"),
    "data": ("odd.jsonl",),
    "eval": ("sent-label",),
}
"""What else these command lines name."""


@pytest.fixture(scope="module")
def seen(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Case, Seen]]:
    log = tmp_path_factory.mktemp("log") / "strace"
    done = traced(
        [case.command for case in desk.cases],
        desk.folder,
        log,
        HOME=str(desk.folder / "home"),
        HF_HOME=str(desk.folder / "home" / ".cache" / "huggingface"),
        HF_HUB_OFFLINE="0",
        TMPDIR=str(desk.folder / "tmp"),
        MPLCONFIGDIR=str(desk.folder / "tmp" / "matplotlib"),
        ATOMMEM_CACHE=str(desk.folder / "tmp" / "cache"),
        OPENAI_API_KEY=KEY,
        MILVUS_TOKEN=KEY,
    )
    return list(zip(desk.cases, done, strict=True))


def ours(path: str, allowed: Iterator[str] | list[str]) -> bool:
    return any(path == one or path.startswith(f"{one}/") for one in allowed)


def offences(seen: list[tuple[Case, Seen]], found: Callable[[Case, Seen], object]) -> dict[str, object]:
    return {" ".join(map(repr, case.command)): what for case, one in seen if (what := found(case, one))}


def test_finding_1_1_and_1_2_no_command_calls_a_server_that_only_a_file_names(seen: list[tuple[Case, Seen]]) -> None:
    assert offences(seen, lambda case, one: one.connections) == {}


def test_finding_1_1_no_command_starts_a_program(desk: Desk, seen: list[tuple[Case, Seen]]) -> None:
    assert offences(seen, lambda case, one: one.started) == {}
    assert not list(desk.folder.rglob("was_here"))
    assert not list(desk.folder.parent.glob("was_here"))


def test_finding_1_2b_no_command_opens_a_path_that_only_a_file_names(desk: Desk, seen: list[tuple[Case, Seen]]) -> None:
    own = [str(desk.folder / "tmp")]

    def others(case: Case, one: Seen) -> list[str]:
        named = [case.reads, case.writes, *ALLOWED_READS.get(case.command[0], ())]
        allowed = [*INSTALLED, *own, *(str(desk.folder / name) for name in named)]
        allowed += [f"{desk.folder / case.writes}{suffix}" for suffix in (".jsonl", ".html")]
        # The interpreter lists the working directory where it looks for modules, and opens no file in it.
        return sorted(
            path
            for path in one.read
            if not ours(os.path.normpath(path), allowed) and path not in SETTINGS and path != str(desk.folder)
        )

    assert offences(seen, others) == {}


def test_finding_1_2b_no_command_writes_what_the_command_line_does_not_name(
    desk: Desk, seen: list[tuple[Case, Seen]]
) -> None:
    def others(case: Case, one: Seen) -> list[str]:
        wanted = [str(desk.folder / "tmp"), "/dev", "/proc/self", str(desk.folder / case.writes)]
        beside = os.path.basename(case.writes)
        return sorted(
            path
            for path in one.written
            if not ours(os.path.normpath(path), wanted)
            and not (os.path.dirname(path) == str(desk.folder) and beside in os.path.basename(path))
            and "__pycache__" not in path
        )

    assert offences(seen, others) == {}


def test_finding_1_1_no_secret_comes_out(desk: Desk, seen: list[tuple[Case, Seen]]) -> None:
    assert offences(seen, lambda case, one: SECRET in one.ran.said or KEY in one.ran.said) == {}
    for path in desk.folder.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.name not in ("secret.txt",) and "home" not in path.parts:
            held = path.read_bytes()
            assert SECRET.encode() not in held, path
            assert KEY.encode() not in held, path


def test_finding_1_5_no_command_prints_a_control_character(seen: list[tuple[Case, Seen]]) -> None:
    assert offences(seen, lambda case, one: [c for c in one.ran.said if not (c.isprintable() or c.isspace())]) == {}


def test_finding_2_1_no_command_ends_in_a_traceback(seen: list[tuple[Case, Seen]]) -> None:
    assert offences(seen, lambda case, one: "Traceback" in one.ran.said) == {}
    assert offences(seen, lambda case, one: one.ran.status not in case.statuses) == {}


def test_the_watch_sees_what_it_should(desk: Desk, seen: list[tuple[Case, Seen]]) -> None:
    """A watch that sees nothing would let everything pass."""
    used = {case.command[0] for case, _ in seen}
    assert used == {"replay", "rescore", "export", "view", "eval", "run", "data", "memory", "ask"}
    for case, one in seen:
        if case.command[:2] == ["memory", "ls"] and case.reads != "linked.db":
            assert any(case.reads in path for path in one.read), one
    assert any(one.written for _, one in seen)
    log = desk.folder.parent / "watch"
    [called] = traced([["memory", "ls", URL.removesuffix("/v1")]], desk.folder, log, TMPDIR=str(desk.folder / "tmp"))
    assert any("203.0.113.7" in line or "AF_INET" in line for line in called.connections)
