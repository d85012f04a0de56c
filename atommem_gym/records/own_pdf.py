"""The text of PDF files through pypdf, with errors that say what is wrong with a file and what helps."""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path

from atommem_gym.errors import ConfigError, DatasetUnavailableError

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f]")
# What a parser of other people's files meets in damaged ones, besides its own errors.
_DAMAGE = (
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


def pdf_pages(path: Path) -> list[str]:
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
    except (PyPdfError, *_DAMAGE) as error:
        raise DatasetUnavailableError(
            f"{path} is damaged or no PDF ({type(error).__name__}: {error}); open it in a viewer and print it to a new "
            f"file, or try `qpdf {path} repaired.pdf`"
        ) from error
    if not any(pages):
        raise DatasetUnavailableError(
            f"{path} has no text on its {len(pages)} pages: they are probably scanned images; recognise their text "
            f"first, for instance with `ocrmypdf {path} text.pdf`"
        )
    return pages
