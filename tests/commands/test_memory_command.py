"""`atommem memory`: kept memories are listed, shown and searched, and never changed (SPEC M6, M13)."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.servers import milvus_server, milvus_url  # noqa: F401

from atommem_gym.cli import FAILED, main
from atommem_gym.envs import SyntheticEnv

Capture = pytest.CaptureFixture[str]
FACTS = ["the bridge is red", "the ferry sank \x1b[31m near Porthaven", "[bold]Piet Maas[/bold] is a fisherman"]


def fill(store: str, episodes: int = 2, **keywords: Any) -> list[str]:
    """Keep that many memories; returns their keys in the order of writing."""
    env = SyntheticEnv(num_docs=20, store=store, **keywords)
    keys = []
    for number in range(episodes):
        env.reset(options={"index": number})
        env.step("".join(f"<create>{number}: {fact}</create>" for fact in FACTS))
        env.step(f'<delete id="1"/><scratchpad>pad {number}</scratchpad>')
        keys.append(env.memory_key)
    env.close()
    return keys


@pytest.fixture
def kept(tmp_path: Path) -> tuple[str, list[str]]:
    path = tmp_path / "kept.db"
    return str(path), fill(f"milvus://{path}")


def printed(capsys: Capture, *arguments: str) -> str:
    assert main(["memory", *arguments]) == 0
    return capsys.readouterr().out


def refused(capsys: Capture, *arguments: str) -> str:
    assert main(["memory", *arguments]) == FAILED
    return " ".join(capsys.readouterr().err.split())


def fingerprint(folder: str) -> dict[str, str]:
    """Every file and folder with its content and its time."""
    paths = sorted([Path(folder), *Path(folder).rglob("*")])
    return {
        str(
            path
        ): f"{path.stat().st_mtime_ns} {hashlib.blake2b(path.read_bytes()).hexdigest() if path.is_file() else ''}"
        for path in paths
    }


def test_ls_lists_every_memory(kept: tuple[str, list[str]], capsys: Capture) -> None:
    path, keys = kept
    listing = json.loads(printed(capsys, "ls", path, "--json"))
    assert listing["embedder"] == "hashing-v1-1024"
    assert listing["changed"]
    assert [one["key"] for one in listing["memories"]] == sorted(keys)
    assert {one["entries"] for one in listing["memories"]} == {2}
    assert {one["next_id"] for one in listing["memories"]} == {4}
    table = printed(capsys, "ls", path)
    assert all(key in table for key in keys)
    assert "hashing-v1-1024" in table


def test_show_gives_all_entries_and_the_scratchpad_as_plain_text(kept: tuple[str, list[str]], capsys: Capture) -> None:
    path, keys = kept
    shown = json.loads(printed(capsys, "show", path, "--key", keys[1], "--json"))
    assert shown["entries"] == [{"id": 2, "text": f"1: {FACTS[1]}"}, {"id": 3, "text": f"1: {FACTS[2]}"}]
    assert shown["scratchpad"] == "pad 1"
    out = printed(capsys, "show", path, "--key", keys[1][:6])
    assert "[3] 1: [bold]Piet Maas[/bold] is a fisherman" in out
    assert "\x1b" not in out
    assert "pad 1" in out


def test_m6_search_ranks_as_a_read_does(kept: tuple[str, list[str]], capsys: Capture) -> None:
    path, keys = kept
    found = json.loads(printed(capsys, "search", path, "fisherman Maas", "--key", keys[0], "--json"))["hits"]
    env = SyntheticEnv(num_docs=20, store=f"milvus://{path}")
    env.reset(options={"index": 0, "memory": keys[0]})
    observation, *_ = env.step("<read>fisherman Maas</read>")
    env.close()
    assert [(hit["id"], hit["score"]) for hit in found] == [
        (entry["id"], float(entry["score"])) for entry in observation["memories"]
    ]
    assert "[3] +" in printed(capsys, "search", path, "fisherman Maas", "--key", keys[0], "--top-k", "1")


def test_nothing_in_the_folder_changes(kept: tuple[str, list[str]], capsys: Capture) -> None:
    path, keys = kept
    before = fingerprint(path)
    for arguments in (("ls", path), ("show", path, "--key", keys[0]), ("search", path, "bridge", "--key", keys[0])):
        printed(capsys, *arguments)
    assert fingerprint(path) == before


def test_a_memory_that_a_killed_process_left_is_read_and_still_not_changed(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "kept.db"
    code = (
        "import os; from atommem_gym.envs import SyntheticEnv\n"
        f"env = SyntheticEnv(num_docs=20, store='milvus://{path}'); env.reset(options={{'index': 0}})\n"
        "env.step('<create>a fact</create><create>another</create>'); env.step('<delete id=\"1\"/>'); os._exit(9)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    before = fingerprint(str(path))
    assert json.loads(printed(capsys, "show", str(path), "--json"))["entries"] == [{"id": 2, "text": "another"}]
    assert fingerprint(str(path)) == before


def test_a_database_in_use_says_so(kept: tuple[str, list[str]], capsys: Capture) -> None:
    path, _ = kept
    env = SyntheticEnv(num_docs=20, store=f"milvus://{path}")
    try:
        assert "held by another process" in refused(capsys, "ls", path)
    finally:
        env.close()
    printed(capsys, "ls", path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ls", "gone.db"), "there is no database 'gone.db'"),
        (("ls", "."), "is not a memory database"),
        (("search", "gone.db"), "no QUERY given"),
        (("show", "gone.db", "what"), "did you mean search?"),
        (("search", "gone.db", "x", "--top-k", "0"), "--top-k 0 must be at least 1"),
    ],
)
def test_wrong_command_lines_say_what_is_wrong(
    arguments: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in refused(capsys, *arguments)
    assert not list(tmp_path.iterdir())


def test_a_key_must_be_told_apart(kept: tuple[str, list[str]], capsys: Capture) -> None:
    path, keys = kept
    assert "keeps 2 memories; name one with --key" in refused(capsys, "show", path)
    none = "has a key that begins with 'zzz'; there are " + ", ".join(sorted(keys))
    for action in ("show", "export"):
        assert none in refused(capsys, action, path, "--key", "zzz")
    assert keys[0] in refused(capsys, "show", path, "--key", "")


def test_another_embedder_is_refused(kept: tuple[str, list[str]], capsys: Capture, monkeypatch: Any) -> None:
    path, keys = kept
    from atommem_gym.embedders.hashing_embedder import HashingEmbedder
    from atommem_gym.stores import kept as kept_memory

    monkeypatch.setattr(kept_memory, "load_embedder", lambda name, options: HashingEmbedder(512))
    said = refused(capsys, "search", path, "bridge", "--key", keys[0])
    assert "written with embedder 'hashing-v1-1024', but --embedder hashing is 'hashing-v1-512'" in said


def test_a_server_is_read_like_a_folder(milvus_url: str, capsys: Capture) -> None:  # noqa: F811
    keys = fill(milvus_url, 1, keep_memory=True)
    listing = json.loads(printed(capsys, "ls", milvus_url, "--json"))
    assert keys[0] in [one["key"] for one in listing["memories"]]
    assert listing["changed"] is None
    shown = json.loads(printed(capsys, "show", milvus_url, "--key", keys[0], "--json"))
    assert [entry["id"] for entry in shown["entries"]] == [2, 3]
    hits = json.loads(printed(capsys, "search", milvus_url, "fisherman", "--key", keys[0], "--json"))["hits"]
    assert hits[0]["id"] == 3


# Saved and deleted (SPEC M16), and looked at where nothing can be written (finding 3.8).


def test_M16_finding_3_6_memories_are_exported_and_deleted_by_key_by_entry_and_all(
    kept: tuple[str, list[str]], capsys: Capture
) -> None:
    path, keys = kept
    assert main(["memory", "export", path]) == 0
    exported = json.loads(capsys.readouterr().out)
    assert sorted(memory["key"] for memory in exported) == sorted(keys)
    assert all(entry["intact"] for memory in exported for entry in memory["entries"])
    assert main(["memory", "rm", path, "--key", keys[0][:12], "--entry", "2"]) == 0
    assert f"entry 2 of memory {keys[0]} is deleted" in capsys.readouterr().out
    assert main(["memory", "export", path, "--key", keys[0]]) == 0
    (memory,) = json.loads(capsys.readouterr().out)
    assert [entry["id"] for entry in memory["entries"]] == [3]
    assert main(["memory", "rm", path, "--key", keys[0]]) == 0
    assert main(["memory", "export", path]) == 0
    assert [memory["key"] for memory in json.loads(capsys.readouterr().out.partition("\n")[2])] == [keys[1]]
    assert main(["memory", "purge", path]) == FAILED
    assert "purge deletes 1 memory of" in capsys.readouterr().err
    assert main(["memory", "purge", path, "--yes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"deleted": 1}
    assert main(["memory", "ls", path, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["memories"] == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["rm"], "keeps 2 memories, "),
        (["rm", "--entry", "2"], "kept.db --key KEY --entry 2"),
        (["rm", "--key", "nobody"], "has a key that begins with 'nobody'; there are "),
        (["export", "--key", "nobody"], "has a key that begins with 'nobody'; there are "),
        (["purge", "--key", "a", "--yes"], "purge deletes all memories; to delete one"),
        (["show", "--entry", "1"], "takes no --entry"),
    ],
)
def test_M16_what_is_not_meant_is_not_deleted(
    kept: tuple[str, list[str]], capsys: Capture, arguments: list[str], said: str
) -> None:
    path, keys = kept
    assert main(["memory", arguments[0], path, *arguments[1:]]) == FAILED
    assert said in " ".join(capsys.readouterr().err.split())
    assert main(["memory", "ls", path, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["memories"]) == len(keys)


@pytest.mark.parametrize("named", [[], ["--key", ""]])
def test_M16_the_only_memory_is_deleted_only_by_its_key(tmp_path: Path, capsys: Capture, named: list[str]) -> None:
    path = str(tmp_path / "kept.db")
    (key,) = fill(f"milvus://{path}", 1)
    said = refused(capsys, "rm", path, *named)
    assert f"it needs --key; {path} keeps 1 memory, {key}; write atommem memory rm {path} --key {key}" in said
    assert [one["key"] for one in json.loads(printed(capsys, "ls", path, "--json"))["memories"]] == [key]


def test_finding_3_8_a_database_that_cannot_be_written_answers_questions_and_stays_as_it_is(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes, path = tmp_path / "notes.txt", tmp_path / "kept.db"
    notes.write_text("The ferry sank near Porthaven.")
    assert main(["ask", str(notes), "-q", "What sank?", "--memory", str(path)]) == 0
    capsys.readouterr()
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    access = os.access
    # As root, who runs tests in containers, every folder can be written.
    monkeypatch.setattr(os, "access", lambda where, *args: str(path) not in str(where) and access(where, *args))
    for file in (path, *path.rglob("*")):
        file.chmod(0o500 if file.is_dir() else 0o400)
    try:
        assert main(["ask", "-q", "What sank?", "--memory", str(path)]) == 0
        said = capsys.readouterr()
        assert "ferry sank" in said.out
        assert "cannot be written" in " ".join(said.err.split())
        assert main(["memory", "search", str(path), "ferry"]) == 0
        assert "ferry sank" in capsys.readouterr().out
    finally:
        for file in (path, *path.rglob("*")):
            file.chmod(0o700)
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before


def test_finding_3_3_search_knows_the_dimensions_of_the_embedder_and_takes_its_options(
    tmp_path: Path, capsys: Capture
) -> None:
    path = str(tmp_path / "small.db")
    fill(f"milvus://{path}", 1, embedder_options={"dimensions": 256})
    assert json.loads(printed(capsys, "search", path, "fisherman", "--json"))["hits"]
    assert "--embedder-options '[1' is no JSON; write for instance" in refused(
        capsys, "search", path, "x", "--embedder-options", "[1"
    )
    assert "is no JSON object" in refused(capsys, "search", path, "x", "--embedder-options", "3")
    said = refused(capsys, "search", path, "x", "--embedder-options", '{"dimension": 3}')
    assert "did you mean 'dimensions'" in said


def test_a_purge_without_permission_names_that_cause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from atommem_gym.errors import StoreError
    from atommem_gym.stores.lite import engine

    def refuse(path: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(engine, "MilvusLite", refuse)
    monkeypatch.setattr(engine.os, "access", lambda path, mode: False)
    with pytest.raises(StoreError, match=r"you may not write .*chmod -R u\+w"):
        engine.open_engine(str(tmp_path))
