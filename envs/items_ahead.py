"""Makes items ahead of time in another process while the environment steps; the items are the same."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import struct
import subprocess
import sys
import threading
import warnings
import weakref
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import IO, Final, TypeAlias

from atommem_gym.errors import ConfigError
from atommem_gym.records.record import Item, Items

_HEAD: Final = struct.Struct("<qqq")
"""The header of each item: index, shuffle seed, and number of bytes; 0 if it could not be made."""
_Key: TypeAlias = tuple[int, int]
"""Index and shuffle seed of an item."""
_PATIENCE: Final = 5.0
"""Seconds to wait for the process to end by itself."""


@dataclass
class _Mail:
    """What the process has made; shared with the thread that reads it."""

    ready: dict[_Key, bytes] = field(default_factory=dict)
    """Nothing for an item that could not be made."""
    expected: dict[Hashable, _Key] = field(default_factory=dict)
    """What each slot will ask for next."""
    changed: threading.Condition = field(default_factory=threading.Condition)
    ended: bool = False
    """Whether nothing more comes."""


class ItemsAhead:
    """The items of ``items``; those that are expected next are made by a separate process.

    A call returns the item that is ready, or makes it: it never waits, so the process can only save work. An
    item that the process cannot make is made here, where its error is raised. If the process ends, a
    ``RuntimeWarning`` says so once, and all items are made here. The same holds in a forked child of this process.

    The process holds only ``items``; it ends with :meth:`close`, or when this process ends in any way.
    """

    def __init__(self, items: Items) -> None:
        """Start the process.

        Args:
            items: The items; they must be picklable.

        Raises:
            ConfigError: ``items`` cannot be pickled.
        """
        self.name = items.name
        self.num_items = items.num_items
        self._items = items
        self._mail = _Mail()
        self._owner = os.getpid()
        self._warned = False
        try:
            state = pickle.dumps(items)
        except Exception as error:  # whatever the parts of somebody else's items raise
            raise ConfigError(
                f"items_ahead=True: the items {items.name!r} cannot be given to another process ({error}); leave it out"
            ) from error
        # Not a fork: threads of a store or a model may hold locks. And not multiprocessing's spawn: it runs the main
        # module again, and a script without a guard would make environments again.
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"from {__name__} import serve; serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests: IO[bytes] = self._process.stdin
        self._send(struct.pack("<q", len(state)) + state)
        # The thread refers neither to this object nor to the environment, so that both can be garbage-collected.
        threading.Thread(
            target=_receive, args=(self._process.stdout, self._mail), daemon=True, name="items ahead"
        ).start()
        self._finalizer = weakref.finalize(self, _end, self._process, self._owner)

    def item(self, index: int, shuffle_seed: int = 0) -> Item:
        """Item ``index`` in the layout ``shuffle_seed``, see :class:`~atommem_gym.records.record.Items`."""
        return self._unpacked(
            None if self._foreign else self._mail.ready.pop((index, shuffle_seed), None), index, shuffle_seed
        )

    def expect(self, slot: Hashable, index: int, shuffle_seed: int = 0) -> None:
        """Request the item that ``slot`` will need next; it replaces the one that was requested before."""
        if self._foreign or not self._finalizer.alive:
            return
        key = (index, shuffle_seed)
        expected = self._mail.expected
        before = expected.get(slot)
        expected[slot] = key
        if before is not None and before not in expected.values():
            self._mail.ready.pop(before, None)
        self._send(_HEAD.pack(*key, 0))

    def close(self) -> None:
        """End the process and wait for its end. Closing twice does nothing."""
        self._finalizer()

    @property
    def _foreign(self) -> bool:
        """Whether this is a forked child of the process that holds the pipes."""
        return os.getpid() != self._owner

    def _unpacked(self, payload: bytes | None, index: int, shuffle_seed: int) -> Item:
        if not payload:
            return self._items.item(index, shuffle_seed)
        item: Item = pickle.loads(payload)
        return item

    def _send(self, message: bytes) -> None:
        try:
            self._requests.write(message)
            self._requests.flush()
        except OSError:
            if not self._warned:
                self._warned = True
                code = self._process.poll()
                warnings.warn(
                    f"the process that makes items ahead has ended (exit status {code}); items are made by the "
                    "environment itself from now on, which are the same",
                    RuntimeWarning,
                    stacklevel=4,
                )


class AwaitedItems(ItemsAhead):
    """The items of ``items``, made by a separate process while the calling thread waits.

    For callers with threads: the other threads continue meanwhile. An item that several request at once is made once.
    """

    def __init__(self, items: Items) -> None:
        """Start the process, see :class:`ItemsAhead`."""
        super().__init__(items)
        self._asking: Counter[_Key] = Counter()

    def item(self, index: int, shuffle_seed: int = 0) -> Item:
        """Item ``index`` in the layout ``shuffle_seed``, see :class:`~atommem_gym.records.record.Items`."""
        mail, key = self._mail, (index, shuffle_seed)
        if self._foreign or not self._finalizer.alive:
            return self._items.item(*key)
        with mail.changed:
            self._asking[key] += 1
            if self._asking[key] == 1:
                self.expect(key, *key)
            mail.changed.wait_for(lambda: mail.ended or key in mail.ready)
            payload = mail.ready.get(key)
            self._asking[key] -= 1
            if not self._asking[key]:
                del self._asking[key], mail.expected[key]
                mail.ready.pop(key, None)
        return self._unpacked(payload, *key)


def _receive(results: IO[bytes], mail: _Mail) -> None:
    """Read items as soon as they are made, so that the process never waits for its reader."""
    with results:
        while len(head := results.read(_HEAD.size)) == _HEAD.size:
            index, shuffle_seed, size = _HEAD.unpack(head)
            payload = results.read(size)
            with mail.changed:
                # An item that is not expected any more would never be used.
                if len(payload) == size and (index, shuffle_seed) in list(mail.expected.values()):
                    mail.ready[index, shuffle_seed] = payload
                    mail.changed.notify_all()
    with mail.changed:
        mail.ended = True
        mail.changed.notify_all()


def _end(process: subprocess.Popen[bytes], owner: int) -> None:
    if os.getpid() != owner:
        return
    with contextlib.suppress(OSError):  # it has ended already
        assert process.stdin is not None
        process.stdin.close()
    process.terminate()
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def serve() -> None:
    """Make items on request until the other side closes the pipe; the process runs this."""
    # Ctrl-C in the terminal reaches all of its processes; the other side handles it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests, results = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    # What items print must not mix with the results.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    (size,) = struct.unpack("<q", requests.read(8))
    items: Items = pickle.loads(requests.read(size))
    with contextlib.suppress(BrokenPipeError):
        while len(head := requests.read(_HEAD.size)) == _HEAD.size:
            index, shuffle_seed, _ = _HEAD.unpack(head)
            _answer(results, index, shuffle_seed, items.item)


def _answer(results: IO[bytes], index: int, shuffle_seed: int, make: Callable[[int, int], Item]) -> None:
    try:
        payload = pickle.dumps(make(index, shuffle_seed), pickle.HIGHEST_PROTOCOL)
    except Exception:  # the other side makes this item itself, and raises there
        results.write(_HEAD.pack(index, shuffle_seed, 0))
    else:
        results.write(_HEAD.pack(index, shuffle_seed, len(payload)) + payload)
    results.flush()
