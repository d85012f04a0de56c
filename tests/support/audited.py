"""Runs ``atommem`` in a process of its own that notes every file, connection, import and command: see ``audited``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WATCHED = ("open", "import", "socket.connect", "socket.getaddrinfo", "os.system", "subprocess.Popen", "os.exec")


@dataclass(frozen=True)
class Ran:
    """What came of one command line."""

    status: int
    said: str
    """Standard output and error, with all blanks as one."""
    events: tuple[str, ...]
    """What was opened, imported, connected to and started."""

    def touched(self, name: object) -> list[str]:
        """The events that speak of a file, module or port."""
        return [event for event in self.events if str(name) in event]


def audited(
    commands: Sequence[Sequence[object]], folder: Path, *, under: Sequence[str] = (), **variables: str
) -> list[Ran]:
    """Run these command lines of ``atommem`` one after the other, in a folder, under another command if one is given.

    Before each, the file ``/command/N`` is asked for, which is not there: a mark for whoever traces the process.
    """
    done = subprocess.run(
        [*under, sys.executable, __file__],
        input=json.dumps([[str(argument) for argument in command] for command in commands]),
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        timeout=600,
        env={**os.environ, "NO_PROXY": "127.0.0.1", "HF_HUB_OFFLINE": "1", "COLUMNS": "1000", **variables},
    )
    assert done.returncode == 0, done.stderr
    ran: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return [Ran(one["status"], " ".join(one["said"].split()), tuple(one["events"])) for one in ran]


def _main() -> None:
    import contextlib
    import io

    from atommem_gym.cli import main

    events: list[str] = []
    sys.addaudithook(lambda event, values: events.append(f"{event} {values!r}") if event in WATCHED else None)
    ran = []
    for number, command in enumerate(json.loads(sys.stdin.read())):
        with contextlib.suppress(OSError), open(f"/command/{number}"):
            pass
        events.clear()
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            try:
                status: Any = main(command)
            except SystemExit as error:
                status = error.code
        ran.append({"status": status, "said": said.getvalue(), "events": list(events)})
    print(json.dumps(ran))


if __name__ == "__main__":
    _main()
