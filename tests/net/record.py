"""Makes recordings anew: ``python tests/net/record.py`` all, with names (README.md) only those."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from net.commands import SESSIONS, STOPPED, transcript
from net.forms import play
from net.recordings import read_text, write_episodes, write_lines, write_text
from net.scenarios import SCENARIOS
from net.surface import surface


def main(names: list[str]) -> int:
    known = ["episodes", *SESSIONS, "surface"]
    unknown = set(names) - set(known)
    if unknown:
        print(f"there are no recordings {', '.join(sorted(unknown))}; known are {', '.join(known)}", file=sys.stderr)
        return 2
    for name in names or known:
        print(name, flush=True)
        if name == "episodes":
            write_episodes({name: play(name, scenario) for name, scenario in SCENARIOS.items()})
        elif name == "surface":
            write_text("surface.json", surface(read_text("command_help.txt")))
        else:
            text, lines = transcript(name)
            if STOPPED in text:
                print(text, f"{name} is not recorded", sep="\n\n", file=sys.stderr)
                return 1
            write_text(f"command_{name}.txt", text)
            if lines:
                write_lines(lines)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
