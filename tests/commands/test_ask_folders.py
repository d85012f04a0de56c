"""``atommem ask`` over real folders: what cannot be read is told and left out, pages in HTML, JSON, and quiet."""

from __future__ import annotations

import json
import os
import re
import socket
from pathlib import Path

import pytest

from atommem_gym.cli import main
from atommem_gym.errors import ConfigError, DatasetUnavailableError
from atommem_gym.files.html_text import blocks_of
from atommem_gym.records.own_files import read_files

Capture = pytest.CaptureFixture[str]
DIARY = "# Tuesday\nThe ferry Aurora sank near Porthaven. Captain Ole Lind was saved by a fisherman named Piet Maas.\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One good file, and beside it much that is none."""
    where = tmp_path / "notes"
    where.mkdir()
    (where / "diary.md").write_text(DIARY, encoding="utf-8")
    (where / "latin.txt").write_bytes(b"one\r\ntwo\rthree\nfour \xe9\nfive\n" + b"more\n" * 5000)
    (where / "broken.pdf").write_bytes(b"%PDF-1.4\nnothing of the kind")
    (tmp_path / "secret.txt").write_text("a secret", encoding="utf-8")
    (where / "link.txt").symlink_to(tmp_path / "secret.txt")
    (where / "gone.txt").symlink_to(tmp_path / "nowhere.txt")
    (where / "elsewhere").symlink_to(tmp_path)
    os.mkfifo(where / "pipe.txt")
    return where


def test_finding_6_7_a_folder_is_read_without_what_cannot_be_read_which_is_told(folder: Path, capsys: Capture) -> None:
    pytest.importorskip("pypdf")
    assert main(["ask", str(folder), "-q", "Who saved Captain Ole Lind?"]) == 1
    out, err = capsys.readouterr()
    assert "Piet Maas" in out
    told = [" ".join(line.split()) for line in err.splitlines()]
    assert any(line.startswith(f"not read: {folder / 'latin.txt'} is not UTF-8 in line 4 (") for line in told)
    assert any(line.startswith(f"not read: {folder / 'broken.pdf'} is damaged or no PDF") for line in told)
    assert any(f"{folder / 'link.txt'} is a link that leads out of" in line for line in told)
    assert f"note: {folder / 'gone.txt'} is a link that leads nowhere, and is not read" in told
    assert f"note: {folder / 'elsewhere'} is a link to a folder, and is not read" in told
    assert f"note: {folder / 'pipe.txt'} is a pipe, and is not read" in told
    assert "1 file, 1 passage, 1 chunk" in told
    assert "secret" not in out
    assert not [line for line in told if "Traceback" in line or "startxref" in line or "EOF marker" in line]


def test_finding_6_7_a_named_pipe_or_socket_is_refused_and_does_not_hang(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"pipe\.txt is a pipe, and only files are read; save it as a file first"):
        read_files([folder / "pipe.txt"])
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        read = read_files([folder / "diary.md", tmp_path / "s"])
    assert len(read.documents) == 1
    assert read.unread == (f"{tmp_path / 's'} is a socket, and only files are read; save it as a file first",)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_finding_6_7_the_line_of_a_bad_byte_is_the_true_one(encoding: str, tmp_path: Path) -> None:
    good = "".join(f"line {i}\n" for i in range(1, 3000)).encode(encoding)
    bad = b"\xff\xfe\xff" if encoding == "utf-8-sig" else "\ud800".encode("utf-16-le", "surrogatepass") + b"x\0"
    (tmp_path / "bad.txt").write_bytes(good + bad + b"\n\0" * 20)
    with pytest.raises(DatasetUnavailableError, match="in line 3000 "):
        read_files([tmp_path / "bad.txt"])


def test_of_several_named_files_the_good_ones_are_read(folder: Path) -> None:
    read = read_files([folder / "latin.txt", folder / "diary.md"])
    assert [path.name for path in read.files] == ["diary.md"]
    assert len(read.unread) == 1
    with pytest.raises(DatasetUnavailableError, match="iconv"):
        read_files([folder / "latin.txt"])


PAGE = """<!DOCTYPE html>
<html><head><title>The harbour</title><style>p { color: red }</style>
<script>var hidden = "never read"; // </p>
</script></head>
<body><h1>Tuesday &amp; Wednesday</h1>
<p>The ferry <b>Aurora</b> sank
near Porthaven.<br>Captain Ole Lind was saved by Piet Maas.</p>
<ul><li>one<li>two</ul>
<h2>Thursday</h2><table><tr><td>a</td><td>b</td></tr></table>
<noscript>switch it on</noscript>
</body></html>
"""


def test_a_page_in_html_is_read_as_people_see_it_with_its_lines(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "page.html").write_text(PAGE, encoding="utf-8")
    (tmp_path / "saved").write_text(PAGE.replace("Thursday", "Friday"), encoding="utf-8")
    documents = read_files([tmp_path / "page.html"]).documents
    assert [document.title for document in documents] == ["page.html, lines 2-8", "page.html, line 9"]
    assert documents[0].text.splitlines() == [
        "The harbour",
        "Tuesday & Wednesday",
        "The ferry Aurora sank near Porthaven. Captain Ole Lind was saved by Piet Maas.",
        "one",
        "two",
    ]
    assert documents[1].text.splitlines() == ["Thursday", "a", "b"]
    assert len(read_files([tmp_path / "saved"]).documents) == 2, "what begins like a page is one"
    assert len(read_files([tmp_path]).files) == 1, "in a folder the suffix decides"
    assert main(["ask", str(tmp_path / "page.html"), "-q", "Who saved Captain Ole Lind?"]) == 0
    assert "(page.html, lines 2-8)" in capsys.readouterr().out


@pytest.mark.parametrize(
    "page", ["", "<", "<p", "</script><p>x", "<script><p>x", "<!--", "<p>" * 5000 + "x", "&#xD800;"]
)
def test_broken_markup_raises_nothing(page: str) -> None:
    assert len(list(blocks_of(page))) <= 1


def test_finding_6_7_an_answer_in_json(folder: Path, capsys: Capture) -> None:
    diary = str(folder / "diary.md")
    assert main(["ask", diary, "-q", "Who saved Captain Ole Lind?", "-q", "Who?", "--json", "--memory", "kept"]) == 0
    printed = json.loads(capsys.readouterr().out)
    first, second = printed["answers"]
    assert "Piet Maas" in first["answer"]
    assert first["closed"] in ("answered", "unscored")
    assert first["reads"][0]["query"] == "Who saved Captain Ole Lind?"
    assert "Piet Maas" in first["reads"][0]["entries"][0]["text"]
    assert second["question"] == "Who?"
    assert printed["files"] == [diary]
    assert printed["memory"]["database"] == "kept"
    assert len(printed["memory"]["key"]) == 32


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_finding_6_7_quiet_prints_answers_alone(folder: Path, capsys: Capture) -> None:
    assert main(["ask", str(folder / "diary.md"), "-q", "Who saved Captain Ole Lind?", "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 2
    assert "Piet Maas" in out
    assert err == ""
    assert main(["ask", str(folder / "diary.md"), str(folder / "latin.txt"), "-q", "Who?", "-Q"]) == 1
    assert capsys.readouterr().err.startswith("not read: ")


def test_finding_6_7_quotes_are_marked_with_the_query_that_found_them(folder: Path, capsys: Capture) -> None:
    assert main(["ask", str(folder / "diary.md"), "-q", "Who saved Captain Ole Lind?"]) == 0
    assert "found with “Who saved Captain Ole Lind?”:\n  [1] +" in capsys.readouterr().out


def test_answers_come_last_and_each_entry_once(folder: Path, capsys: Capture) -> None:
    questions = ("Who saved Captain Ole Lind?", "Who opened the harbour bridge?")
    assert main(["ask", str(folder / "diary.md"), "-q", questions[0], "-q", questions[1]]) == 0
    out = capsys.readouterr().out
    *sights, first, second, closing = out.rstrip().split("\n\n")
    assert [part.splitlines()[0] for part in (first, second)] == list(questions)
    assert "Piet Maas" in first
    assert closing.startswith("answered by keep_all")
    (sight,) = sights
    parts = sight.split("to answer “")[1:]
    assert [part.partition("”")[0] for part in parts] == list(questions)
    for part in parts:
        ids = re.findall(r"^  \[(\d+)\]", part, re.MULTILINE)
        assert ids
        assert len(ids) == len(set(ids))
        assert "nothing more with “" in part


def test_finding_6_7_run_says_before_it_plays_that_its_results_cannot_be_written(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder").mkdir()
    monkeypatch.setattr("atommem_gym.commands.run.open_env", None)  # nothing is played
    assert main(["run", "Synthetic", "--json", str(tmp_path / "folder")]) == 2
    assert "folder cannot be written (Is a directory); name another file" in " ".join(capsys.readouterr().err.split())


def test_a_file_for_results_is_not_left_behind_or_emptied_by_a_run_that_fails(tmp_path: Path, capsys: Capture) -> None:
    line = ["run", "Synthetic", "--set", "nmdocs=3", "--json"]
    assert main([*line, str(tmp_path / "new.json")]) == 2
    assert not (tmp_path / "new.json").exists()
    (tmp_path / "old.json").write_text("{}", encoding="utf-8")
    assert main([*line, str(tmp_path / "old.json")]) == 2
    assert (tmp_path / "old.json").read_text(encoding="utf-8") == "{}"
