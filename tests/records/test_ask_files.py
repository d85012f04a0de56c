"""One's own files as documents: passages with their places, encodings, PDFs, folders, patterns, copies, errors."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from atommem_gym.errors import ConfigError, DatasetUnavailableError
from atommem_gym.records.own_files import PART_CHARS, SOURCE, OwnItems, read_files
from atommem_gym.records.record import Document

MakePdf = Callable[..., Path]


def minimal_pdf(pages: list[str]) -> bytes:
    """A PDF with one line of text a page, written by hand; an empty text gives a page without any."""
    objects = ["<< /Type /Catalog /Pages 2 0 R >>", ""]
    kids = []
    for text in pages:
        content = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET" if text else ""
        objects.append(f"<< /Length {len(content)} >>\nstream\n{content}\nendstream")
        stream = len(objects)
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {stream} 0 R /Resources "
            "<< /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >> >>"
        )
        kids.append(f"{len(objects)} 0 R")
    objects[1] = f"<< /Type /Pages /Kids [{' '.join(kids)}] /Count {len(kids)} >>"
    body, offsets = b"%PDF-1.4\n", []
    for number, one in enumerate(objects, 1):
        offsets.append(len(body))
        body += f"{number} 0 obj\n{one}\nendobj\n".encode()
    table = "".join(f"{offset:010} 00000 n \n" for offset in offsets)
    end = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}"
    return body + f"{end}trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{len(body)}\n%%EOF\n".encode()


@pytest.fixture
def make_pdf(tmp_path: Path) -> MakePdf:
    pytest.importorskip("pypdf", reason="needs pypdf: pip install 'atommem-gym[ask]'")

    def make(*pages: str, name: str = "report.pdf") -> Path:
        path = tmp_path / name
        path.write_bytes(minimal_pdf(list(pages)))
        return path

    return make


def test_a_text_is_cut_between_paragraphs_and_titles_say_where_it_stands(tmp_path: Path) -> None:
    lines = list(itertools.chain.from_iterable((f"Sentence {i} of the story is here.", "") for i in range(100)))
    (tmp_path / "story.txt").write_text("\n".join(lines))
    documents = read_files([tmp_path / "story.txt"]).documents
    assert len(documents) > 2
    next_line = 1
    for document in documents:
        assert len(document.text) <= PART_CHARS
        assert SOURCE.fullmatch(document.title)
        first, last = map(int, document.title.removeprefix("story.txt, lines ").split("-"))
        assert document.text.split("\n") == lines[first - 1 : last]
        # Nothing but blank lines lies between two passages.
        assert not any(lines[next_line - 1 : first - 1])
        next_line = last + 1
    assert not any(lines[next_line - 1 :])


def test_a_heading_begins_a_passage(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("# One\ntext\n## Two\nmore\n#no heading\n")
    texts = [document.text for document in read_files([tmp_path / "notes.md"]).documents]
    assert texts == ["# One\ntext", "## Two\nmore\n#no heading"]


@pytest.mark.parametrize(
    "piece", ["word " * 2000, "x" * 10_000, "A sentence. " * 900], ids=["words", "run", "sentences"]
)
def test_a_line_longer_than_a_passage_is_cut_and_nothing_is_lost(tmp_path: Path, piece: str) -> None:
    (tmp_path / "long.txt").write_text(piece)
    documents = read_files([tmp_path / "long.txt"]).documents
    assert {document.title for document in documents} == {"long.txt, line 1"}
    assert max(len(document.text) for document in documents) <= PART_CHARS
    assert "".join("".join(document.text.split()) for document in documents) == "".join(piece.split())
    if "sentence" in piece:
        assert all(document.text.endswith(".") for document in documents)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_byte_order_marks_tell_the_encoding(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.txt").write_bytes("Zoë käme\r\nüber 北京\r\n".encode(encoding))
    assert read_files([tmp_path / "a.txt"]).documents == (Document("a.txt, lines 1-2", "Zoë käme\nüber 北京"),)


def test_another_encoding_is_an_error_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "old.txt"
    path.write_bytes("first\nZoë\n".encode("latin-1"))
    with pytest.raises(DatasetUnavailableError, match=r"old.txt is not UTF-8.*iconv -f WINDOWS-1252 -t UTF-8"):
        read_files([path])


def test_binary_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"PK\x03\x04\0\0")
    with pytest.raises(DatasetUnavailableError, match="no text: line 1 holds a NUL"):
        read_files([tmp_path / "a.bin"])


def test_a_folder_gives_its_texts_sorted_and_says_what_it_left_out(tmp_path: Path) -> None:
    for name in ("b.txt", "a.md", "sub/c.txt", ".hidden/d.txt", "e.docx", "f.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"text of {name}")
    files = read_files([tmp_path])
    assert [document.text for document in files.documents] == ["text of a.md", "text of b.txt", "text of sub/c.txt"]
    assert any("1 .docx, 1 .png" in note for note in files.notes)


def test_patterns_are_expanded_and_one_that_fits_nothing_is_an_error(tmp_path: Path) -> None:
    for name in ("x1.txt", "x2.txt", "y.txt"):
        (tmp_path / name).write_text(name)
    assert [document.text for document in read_files([f"{tmp_path}/x*.txt"]).documents] == ["x1.txt", "x2.txt"]
    with pytest.raises(ConfigError, match="no file matches"):
        read_files([f"{tmp_path}/z*.txt"])
    with pytest.raises(ConfigError, match=r"there is no file or folder '.*gone.txt'"):
        read_files([tmp_path / "gone.txt"])


def test_a_file_is_read_once_whatever_it_is_called(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("the text")
    (tmp_path / "copy.txt").write_text("the text")
    (tmp_path / "link.txt").symlink_to(tmp_path / "a.txt")
    files = read_files([tmp_path / "a.txt", tmp_path / "a.txt", tmp_path])
    assert len(files.documents) == 1
    assert len(files.notes) == 4
    assert sum("it is read once" in note for note in files.notes) == 4


def test_files_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "notes.txt").write_text(folder)
    titles = [document.title for document in read_files([tmp_path]).documents]
    assert titles == [f"{tmp_path}/one/notes.txt, line 1", f"{tmp_path}/two/notes.txt, line 1"]


def test_empty_files_are_noted_and_nothing_at_all_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text(" \n\n")
    (tmp_path / "full.txt").write_text("text")
    files = read_files([tmp_path])
    assert files.files == (tmp_path / "full.txt",)
    assert files.notes == (f"{tmp_path / 'empty.txt'} has no text",)
    with pytest.raises(ConfigError, match=r"nothing to read in .*empty.txt has no text"):
        read_files([tmp_path / "empty.txt"])


def test_no_files_are_no_documents() -> None:
    assert read_files([]).documents == ()


def test_a_pdf_is_read_page_by_page(make_pdf: MakePdf) -> None:
    files = read_files([make_pdf("The bridge is old.", "", "The ferry is new.")])
    assert files.documents == (
        Document("report.pdf, page 1", "The bridge is old."),
        Document("report.pdf, page 3", "The ferry is new."),
    )
    assert any("1 of 3 pages have no text (2)" in note for note in files.notes)


def test_a_pdf_of_images_is_an_error_with_the_remedy(make_pdf: MakePdf) -> None:
    with pytest.raises(DatasetUnavailableError, match=r"no text on its 2 pages.*ocrmypdf"):
        read_files([make_pdf("", "")])


@pytest.mark.parametrize("kept", [9, 200, 400])
def test_a_damaged_pdf_is_an_error_with_the_remedy(make_pdf: MakePdf, kept: int) -> None:
    path = make_pdf("The bridge is old.")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DatasetUnavailableError, match=r"report.pdf (is damaged or no PDF|has no text)"):
        read_files([path])


def test_an_encrypted_pdf_is_an_error_with_the_remedy_but_an_empty_password_opens(make_pdf: MakePdf) -> None:
    import pypdf

    plain = make_pdf("The bridge is old.")
    for name, password in (("locked.pdf", "secret"), ("open.pdf", "")):
        writer = pypdf.PdfWriter(clone_from=plain)
        writer.encrypt(user_password=password, owner_password="owner", algorithm="RC4-128")
        writer.write(plain.parent / name)
    with pytest.raises(DatasetUnavailableError, match=r"locked.pdf is encrypted.*qpdf"):
        read_files([plain.parent / "locked.pdf"])
    assert read_files([plain.parent / "open.pdf"]).documents[0].text == "The bridge is old."


def test_e8_own_files_are_one_item_in_their_order() -> None:
    documents = [Document(f"a.txt, line {i}", str(i)) for i in range(9)]
    items = OwnItems(documents, ["Who?", "When?"])
    assert items.item(0, 5).documents == tuple(documents)
    assert [question.question for question in items.item(0).questions] == ["Who?", "When?"]
    with pytest.raises(IndexError, match="item 0 alone"):
        items.item(1)
