"""``atommem info``: versions, and which optional parts are installed and how to get the others."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version

from rich.text import Text

from atommem_gym.commands.consoles import output
from atommem_gym.terminal import Column, Table

DISTRIBUTION = "atommem-gym"
_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9._-]+)[^;]*(?:;(.*))?")
_EXTRA = re.compile(r"""extra\s*==\s*["']([\w-]+)["']""")
_PURPOSES = {
    "llm": "tokenizers and language models",
    "embed": "MiniLM and sentence-transformers embedders",
    "hub": "data sets from the Hugging Face hub",
    "rl": "training with stable-baselines3",
    "verl": "training with veRL",
    "mem0": "mem0 as an agent",
    "plots": "plots",
    "team": "PettingZoo's interface of teams",
    "inspect": "evaluations with Inspect",
    "mcp": "memory tools over MCP",
    "openenv": "environments over OpenEnv",
    "verifiers": "environments for verifiers",
    "minari": "offline data sets with Minari",
    "trl": "training with TRL",
    "skyrl": "training with SkyRL",
    "docs": "the pages of the documentation",
    "ask": "PDF files for atommem ask",
    "browser": "tests of the viewer in a browser",
    "test": "the tests",
}


@dataclass
class Info:
    """Show versions, which optional packages are installed, and how to install the others.

    Example: atommem info
    """

    def run(self) -> int:
        """Print both tables; the exit status."""
        core, extras = requirements()
        console = output()
        versions = Table([Column("package"), Column("version", kind="words")], title="Versions")
        versions.add_row("python", platform.python_version())
        versions.add_row("platform", f"{platform.platform()}, {os.cpu_count()} cores")
        for package in (DISTRIBUTION, *core):
            versions.add_row(package, installed(package) or "missing: pip install atommem-gym")
        console.print(versions)
        console.print()
        table = Table(
            [
                Column("extra"),
                Column("for", kind="words", leave_out=3),
                Column("installed", kind="words"),
                Column("missing", kind="words"),
            ],
            title="Extras",
        )
        incomplete = []
        for extra, packages in extras.items():
            missing = [package for package in packages if installed(package) is None]
            there = [f"{package} {installed(package)}" for package in packages if package not in missing]
            table.add_row(extra, _PURPOSES.get(extra, ""), ", ".join(there), ", ".join(missing))
            incomplete += [extra] * bool(missing)
        console.print(table)
        console.print()
        # Not a column: where room is short it would be left out, and it is what a reader looks for.
        if incomplete:
            console.print(Text("What is missing, by extra:"))
            for extra in incomplete:
                console.print(Text(f"  pip install '{DISTRIBUTION}[{extra}]'"))
        else:
            console.print(Text("Nothing is missing."))
        return 0


def installed(package: str) -> str | None:
    """The installed version of a package, ``None`` if it is not there."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def requirements() -> tuple[list[str], dict[str, list[str]]]:
    """The packages that this one always needs, and those of each extra."""
    core: list[str] = []
    extras: dict[str, list[str]] = {}
    for requirement in requires(DISTRIBUTION) or ():
        match = _REQUIREMENT.match(requirement)
        assert match is not None
        extra = _EXTRA.search(match.group(2) or "")
        package = match.group(1)
        if extra is None:
            core.append(package)
        elif package != DISTRIBUTION:
            # An extra that only names other extras ("all") needs no row of its own.
            extras.setdefault(extra.group(1), []).append(package)
    return core, extras
