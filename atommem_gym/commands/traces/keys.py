"""Single key presses from a terminal, without Enter and without an echo."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

_ARROWS = {"\x1b[C": "n", "\x1b[B": "n", "\x1b[D": "p", "\x1b[A": "p", "\x1b[H": "g", "\x1b[F": "G"}
"""Right and down go on, left and up go back, Home and End go to the ends."""
_END = ("", "\x04", "\x1b")
"""The end of the input, Ctrl-D and Escape."""


@contextlib.contextmanager
def pressed_keys() -> Iterator[Callable[[], str]]:
    """A function that waits for a key and gives its letter: arrows as ``n`` and ``p``, space and Enter as ``n``.

    The terminal is as it was when the context is left; in it, Ctrl-C still interrupts.
    """
    with _presses() as press:

        def key() -> str:
            pressed = press()
            if pressed in _END:
                return "q"
            return "n" if pressed in (" ", "\r", "\n") else _ARROWS.get(pressed, pressed)

        yield key


if sys.platform == "win32":
    import msvcrt

    @contextlib.contextmanager
    def _presses() -> Iterator[Callable[[], str]]:
        yield msvcrt.getwch

else:
    import os
    import re
    import termios
    import tty

    _KEY = re.compile("\x1b\\[[0-9;]*[A-Za-z~]|.", re.DOTALL)

    @contextlib.contextmanager
    def _presses() -> Iterator[Callable[[], str]]:
        descriptor = sys.stdin.fileno()
        before = termios.tcgetattr(descriptor)
        waiting: list[str] = []

        def press() -> str:
            if not waiting:
                # An arrow arrives as three bytes at once; keys that were typed ahead arrive together.
                waiting.extend(_KEY.findall(os.read(descriptor, 1024).decode(errors="replace")) or [""])
            return waiting.pop(0)

        try:
            tty.setcbreak(descriptor)
            yield press
        finally:
            termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
