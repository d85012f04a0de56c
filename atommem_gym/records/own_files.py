"""Reads a user's own files (text, Markdown, HTML, PDF) as documents whose titles say where each passage is."""

from __future__ import annotations

import codecs
import glob
import hashlib
import io
import logging
import operator
import os
import re
import struct
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from atommem_gym.errors import ConfigError, DatasetUnavailableError, counted, reason_of
from atommem_gym.files.html_text import Block, blocks_of
from atommem_gym.records.record import Document, Item, Record

SUFFIXES = (".txt", ".text", ".md", ".markdown", ".rst", ".html", ".htm", ".pdf")
"""The files that are read in a folder; a file that is named directly may have any suffix."""
PART_CHARS = 1500
"""Most characters of a passage: about as much as a memory entry may hold."""
SOURCE = re.compile(r"^[^\n]+, (?:lines? \d+(?:-\d+)?|page \d+)$", re.MULTILINE)
"""Matches the title that :func:`read_files` gives to a passage."""

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_HTML = (".html", ".htm", ".xhtml")
_HEADING = re.compile(r"#{1,6} \S")
_BREAK = re.compile(r"""[.!?…。！？]["'”’)\]]*\s|\s""")
_HASH_BLOCK = 1 << 20
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f]")
# Errors that pypdf raises on damaged PDFs, besides its own.
_PDF_DAMAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NotImplementedError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)


@dataclass(frozen=True, slots=True)
class OwnFiles:
    """The result of :func:`read_files`."""

    documents: tuple[Document, ...]
    """Passages in reading order; a title is ``notes.txt, lines 3-17`` or ``report.pdf, page 4``."""
    files: tuple[Path, ...]
    """The files that the passages come from."""
    notes: tuple[str, ...] = ()
    """Files and pages that were left out, one line each."""
    unread: tuple[str, ...] = ()
    """Files that could not be read: which, why, and the remedy; one line each."""


def read_files(paths: Sequence[str | Path]) -> OwnFiles:
    r"""Read files, folders and glob patterns in the order given, each file once.

    A text is cut between paragraphs into passages of at most ``PART_CHARS`` characters, a PDF also between pages. A
    file that cannot be read is listed in ``unread``; if no file can be read, an error is raised.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "diary.md").write_text("# Monday\nIt rained.\n\n# Tuesday\nIt snowed.\n")
    >>> [document.title for document in read_files([folder]).documents]
    ['diary.md, lines 1-2', 'diary.md, lines 4-5']

    Raises:
        ConfigError: a path does not exist, or there is nothing to read in any of them.
        DatasetUnavailableError: the only file cannot be read; the message says why and what helps.
    """
    notes: list[str] = []
    errors: list[ConfigError | DatasetUnavailableError] = []
    files = _without_copies(_expand(paths, notes), notes, errors)
    names = Counter(path.name for path in files)
    documents: list[Document] = []
    read: list[Path] = []
    for path in files:
        # A name that two files share would not tell them apart.
        name = " ".join((path.name if names[path.name] == 1 else str(path)).split())
        try:
            found = list(_documents(path, name, notes))
        except (ConfigError, DatasetUnavailableError) as error:
            errors.append(error)
            continue
        documents += found
        if found:
            read.append(path)
        else:
            notes.append(f"{path} has no text")
    if paths and not documents:
        if len(errors) == 1 and not notes:
            raise errors[0]
        said = "; ".join([*notes, *map(str, errors)]) or "no file was found"
        raise ConfigError(f"there is nothing to read in {', '.join(map(str, paths))}: {said}; name other files")
    return OwnFiles(tuple(documents), tuple(read), tuple(notes), tuple(map(str, errors)))


class OwnItems:
    """Questions about the user's documents, as a single item without gold answers.

    Documents keep their order for every ``shuffle_seed``, since a book is read from its beginning.

    >>> item = OwnItems([Document("diary.md, lines 1-2", "It rained.")], ["When did it rain?"]).item(0)
    >>> item.questions[0].question, item.questions[0].answer
    ('When did it rain?', '')
    """

    name = "own files"
    num_items = 1

    def __init__(self, documents: Sequence[Document], questions: Sequence[str]) -> None:
        self._documents = tuple(documents)
        self._questions = tuple(
            Record(f"question {number}", question, "", (), (), (), type="asked")
            for number, question in enumerate(questions, 1)
        )

    def item(self, index: int, shuffle_seed: int = 0) -> Item:
        """The only item.

        Raises:
            IndexError: ``index`` is not 0.
        """
        if operator.index(index) != 0:
            raise IndexError(f"item {index} does not exist: there is item 0 alone")
        return Item("own files/0", 0, shuffle_seed, self._questions, self._documents)


def _expand(paths: Sequence[str | Path], notes: list[str]) -> Iterator[Path]:
    for given in paths:
        path = Path(given).expanduser()
        if path.is_dir():
            yield from _folder(path, notes)
        elif path.exists():
            yield path
        elif glob.has_magic(str(path)):
            found = sorted(name for name in glob.glob(str(path), recursive=True) if os.path.isfile(name))
            if not found:
                raise ConfigError(f"no file matches {str(given)!r}; `ls {given}` must list some")
            yield from map(Path, found)
        else:
            raise ConfigError(f"there is no file or folder {str(given)!r} (looked at {path.absolute()})")


def _folder(folder: Path, notes: list[str]) -> Iterator[Path]:
    others: Counter[str] = Counter()
    within = folder.resolve()
    for path in sorted(folder.rglob("*")):
        if any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue
        if not path.is_file():
            if not path.is_dir() or path.is_symlink():
                notes.append(f"{path} is {_kind(path)}, and is not read")
            continue
        if not path.resolve().is_relative_to(within):
            # The folder may come from a stranger, and a link could read any file on this machine.
            notes.append(f"{path} is a link that leads out of {folder}, and is not read; name the file itself")
        elif path.suffix.lower() in SUFFIXES:
            yield path
        else:
            others[path.suffix.lower() or "no suffix"] += 1
    if others:
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in sorted(others.items()))
        notes.append(f"left out of {folder}: {kinds} (of a folder only {', '.join(SUFFIXES)} are read)")


def _kind(path: Path) -> str:
    """What kind of path this is, if it is not a regular file.

    >>> _kind(Path("no-such-file"))
    'gone'
    """
    if path.is_symlink():
        return "a link to a folder" if path.is_dir() else "a link that leads nowhere"
    kinds = {"a pipe": path.is_fifo, "a socket": path.is_socket, "a device": path.is_char_device}
    return next((kind for kind, is_it in kinds.items() if is_it()), "a device" if path.exists() else "gone")


def _without_copies(
    files: Iterator[Path], notes: list[str], errors: list[ConfigError | DatasetUnavailableError]
) -> list[Path]:
    """Each file once, also if it has two names or is a copy of another one."""
    by_place: dict[Path, Path] = {}
    by_content: dict[bytes, Path] = {}
    kept: list[Path] = []
    for path in files:
        place = path.resolve()
        if place in by_place:
            if by_place[place] != path:
                notes.append(f"{path} is {by_place[place]}; it is read once")
            else:
                notes.append(f"{path} was named twice; it is read once")
            continue
        by_place[place] = path
        if not path.is_file():
            # Reading a pipe may wait for ever, and a device never ends.
            errors.append(ConfigError(f"{path} is {_kind(path)}, and only files are read; save it as a file first"))
            continue
        try:
            digest = _digest(path)
        except DatasetUnavailableError as error:
            errors.append(error)
            continue
        if path.stat().st_size and digest in by_content:
            notes.append(f"{path} is a copy of {by_content[digest]}; it is read once")
            continue
        by_content.setdefault(digest, path)
        kept.append(path)
    return kept


def _digest(path: Path) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    try:
        with path.open("rb") as file:
            while block := file.read(_HASH_BLOCK):
                digest.update(block)
    except OSError as error:
        raise DatasetUnavailableError(f"{path} cannot be read ({reason_of(error)}); check its rights") from error
    return digest.digest()


def _documents(path: Path, name: str, notes: list[str]) -> Iterator[Document]:
    with path.open("rb") as file:
        start = file.read(1024)
    if b"%PDF-" in start or path.suffix.lower() == ".pdf":
        pages = _pdf_pages(path)
        empty = [number for number, text in enumerate(pages, 1) if not text]
        if empty:
            listed = ", ".join(map(str, empty[:8])) + (" …" if len(empty) > 8 else "")
            verb = "has" if len(empty) == 1 else "have"
            notes.append(f"{path}: {len(empty)} of {counted(len(pages), 'page')} {verb} no text ({listed})")
        for number, text in enumerate(pages, 1):
            for piece in _pieces(text):
                yield Document(f"{name}, page {number}", piece)
        return
    encoding = next((encoding for mark, encoding in _BOMS if start.startswith(mark)), "utf-8")
    if encoding == "utf-8" and b"\0" in start:
        raise DatasetUnavailableError(
            f"{path} is no text: it holds NULs; text, Markdown, HTML and PDF files can be read, "
            "others must be converted first"
        )
    html = path.suffix.lower() in _HTML or start.lstrip().lower().startswith((b"<!doctype html", b"<html"))
    lines = _lines(path, encoding)
    for first, last, text in _page_passages("\n".join(lines)) if html else _passages(lines):
        where = f"line {first}" if first == last else f"lines {first}-{last}"
        for piece in _pieces(text):
            yield Document(f"{name}, {where}", piece)


def _pdf_pages(path: Path) -> list[str]:
    """The text of each page, empty for a page without any.

    Raises:
        ConfigError: pypdf is not installed.
        DatasetUnavailableError: the file is encrypted, damaged, or has no text at all.
    """
    try:
        import pypdf
        from pypdf.errors import DependencyError, PyPdfError
    except ImportError as error:
        raise ConfigError(
            f"{path} is a PDF, and reading it needs pypdf ({error}): pip install 'atommem-gym[ask]'"
        ) from error
    # pypdf logs every oddity of a file; what matters raises an error.
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    try:
        reader = pypdf.PdfReader(path)
        # Many files are encrypted with an empty password, which only keeps them from being changed.
        if reader.is_encrypted and not reader.decrypt(""):
            raise DatasetUnavailableError(
                f"{path} is encrypted; save it without its password, for instance with "
                f"`qpdf --password=… --decrypt {path} open.pdf`"
            )
        pages = [_CONTROL.sub(" ", page.extract_text()).strip() for page in reader.pages]
    except DependencyError as error:
        raise DatasetUnavailableError(
            f"{path} is encrypted in a way that needs another package ({error}); install it, or save the file without "
            f"its password, for instance with `qpdf --decrypt {path} open.pdf`"
        ) from error
    except (PyPdfError, *_PDF_DAMAGE) as error:
        raise DatasetUnavailableError(
            f"{path} is damaged or no PDF ({type(error).__name__}: {error}); open it in a viewer and print it to a new "
            f"file, or try `qpdf {path} repaired.pdf`"
        ) from error
    if not pages:
        raise DatasetUnavailableError(
            f"{path} is damaged: it has no pages; open it in a viewer and print it to a new file, or try "
            f"`qpdf {path} repaired.pdf`"
        )
    if not any(pages):
        raise DatasetUnavailableError(
            f"{path} has no text on its {counted(len(pages), 'page')}, probably scanned images; recognise their text "
            f"first, for instance with `ocrmypdf {path} text.pdf`"
        )
    return pages


def _lines(path: Path, encoding: str) -> Iterator[str]:
    """The lines of a text file, one at a time, so that a large file is never in memory twice."""
    number = 0
    try:
        with path.open("rb") as raw, io.TextIOWrapper(raw, encoding=encoding, errors="strict") as file:
            for number, line in enumerate(file, 1):
                if "\0" in line:
                    raise DatasetUnavailableError(
                        f"{path} is no text: line {number} holds a NUL; text, Markdown, HTML and PDF files can be "
                        "read, others must be converted first"
                    )
                yield line.rstrip("\n")
    except UnicodeDecodeError as error:
        raise DatasetUnavailableError(
            f"{path} is not {encoding.upper().removesuffix('-SIG')} in line {_bad_line(path, encoding) or number} "
            f"({error.reason}); save it as UTF-8, for instance with `iconv -f WINDOWS-1252 -t UTF-8 {path} > utf8.txt`"
        ) from error


def _bad_line(path: Path, encoding: str) -> int | None:
    """The number of the line that cannot be decoded; the line reader itself is ahead of it."""
    # The position of an error does not count the mark at the beginning.
    data = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    encoding = encoding.removesuffix("-sig")
    try:
        data.decode(encoding)
    except UnicodeDecodeError as error:
        return len(re.findall("\r\n|\r|\n", data[: error.start].decode(encoding, "replace"))) + 1
    return None


def _page_passages(page: str) -> Iterator[tuple[int, int, str]]:
    """Passages of an HTML page, in the form of :func:`_passages`; a heading begins a new one."""
    passage: list[Block] = []
    size = 0
    for block in blocks_of(page):
        full = size + len(block.text) > PART_CHARS
        if passage and (full or (block.heading and not all(one.heading for one in passage))):
            yield passage[0].first, passage[-1].last, "\n".join(one.text for one in passage)
            passage, size = [], 0
        passage.append(block)
        size += len(block.text) + 1
    if passage:
        yield passage[0].first, passage[-1].last, "\n".join(one.text for one in passage)


def _passages(lines: Iterator[str]) -> Iterator[tuple[int, int, str]]:
    """Passages of whole paragraphs with the numbers of their first and last lines; a heading begins a new one."""
    passage: list[str] = []
    first = last = length = 0
    for paragraph_first, paragraph in _paragraphs(lines):
        gap = paragraph_first - last - 1 if passage else 0
        size = gap + sum(map(len, paragraph)) + len(paragraph)
        if passage and (length + size > PART_CHARS or _HEADING.match(paragraph[0])):
            yield first, last, "\n".join(passage)
            passage = []
        if passage:
            passage.extend([""] * gap)
        else:
            first, length = paragraph_first, 0
        passage += paragraph
        length += size
        last = paragraph_first + len(paragraph) - 1
    if passage:
        yield first, last, "\n".join(passage)


def _paragraphs(lines: Iterator[str]) -> Iterator[tuple[int, list[str]]]:
    """Runs of lines up to a blank line, the next heading or the limit of a passage, with the first line's number."""
    paragraph: list[str] = []
    first = size = 0
    for number, line in enumerate(lines, 1):
        full = size + len(line) > PART_CHARS
        if paragraph and (not line.strip() or _HEADING.match(line) or full):
            yield first, paragraph
            paragraph = []
        if line.strip():
            if not paragraph:
                first, size = number, 0
            paragraph.append(line)
            size += len(line) + 1
    if paragraph:
        yield first, paragraph


def _pieces(text: str) -> Iterator[str]:
    """A text in pieces of at most ``PART_CHARS`` characters, cut after a sentence or at least between words."""
    text = text.strip()
    at = 0
    while len(text) - at > PART_CHARS:
        cuts = [match.end() for match in _BREAK.finditer(text, at + PART_CHARS // 2, at + PART_CHARS)]
        sentences = [cut for cut in cuts if text[cut - 2] in ".!?…。！？\"'”’)]"]
        cut = (sentences or cuts or [at + PART_CHARS])[-1]
        yield text[at:cut].strip()
        at = cut
    rest = text[at:].strip()
    if rest:
        yield rest
