"""Texts that many episodes of a page hold in common (documents, prompts) are stored in it once."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import TypeAlias

Parts: TypeAlias = str | dict[str, list[str | int]]
"""A text as it is, or ``{"$": parts}``: the text is the parts joined, a number standing for a shared piece."""

SHORTEST = 120
"""Characters of a piece that is worth sharing."""
BLOCK_CHARS = 1 << 18
"""A block of shared pieces is packed once it has so many characters."""

# Where the same document, entry or paragraph of a prompt may stand in different surroundings.
_BORDER = re.compile(
    r"(\n\n(?:Document \d+(?: \([^\n]{1,200}\))?:\n)?|^Document \d+(?: \([^\n]{1,200}\))?:\n"
    r"|</?[A-Za-z_]+(?: [^<>]{0,40})?>)"
)


class SharedTexts:
    r"""Numbers the pieces of texts, each distinct one once, and gives them out in blocks.

    What it keeps in memory of a piece that was given out is a digest of 16 bytes.

    >>> blocks = []
    >>> texts = SharedTexts(blocks.append)
    >>> document = "Ada Lovelace\n" + "She wrote notes. " * 10
    >>> texts.split(f"Document 1:\n{document}\n\nDocument 2:\nshort")
    {'$': ['Document 1:\n', 0, '\n\nDocument 2:\nshort']}
    >>> texts.split(f"<create>{document}</create>")
    {'$': ['<create>', 0, '</create>']}
    >>> texts.close()
    >>> blocks == [[document]]
    True
    """

    def __init__(self, write_block: Callable[[list[str]], None]) -> None:
        self.firsts: list[int] = []
        """The number of each block's first piece."""
        self._write_block = write_block
        self._numbers: dict[bytes, int] = {}
        self._block: list[str] = []
        self._block_chars = 0

    def split(self, text: str) -> Parts:
        """The text with its longer pieces replaced by numbers; short texts stay as they are."""
        if len(text) < SHORTEST:
            return text
        parts: list[str | int] = []
        for piece in _BORDER.split(text):
            if len(piece) >= SHORTEST:
                parts.append(self._number(piece))
            elif parts and isinstance(parts[-1], str):
                parts[-1] += piece
            elif piece:
                parts.append(piece)
        return {"$": parts}

    def close(self) -> None:
        """Give out the last block."""
        if self._block:
            self._write_block(self._block)
            self._block, self._block_chars = [], 0

    def _number(self, piece: str) -> int:
        digest = hashlib.blake2b(piece.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        number = self._numbers.get(digest)
        if number is None:
            number = self._numbers[digest] = len(self._numbers)
            if not self._block:
                self.firsts.append(number)
            self._block.append(piece)
            self._block_chars += len(piece)
            if self._block_chars >= BLOCK_CHARS:
                self.close()
        return number
