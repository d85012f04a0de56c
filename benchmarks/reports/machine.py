"""What a result says of where it was made: processor, versions of packages, memory of the process."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path


def provenance(command: str, packages: Sequence[str]) -> dict[str, str]:
    """When, on what, with what and by which command results were made.

    Args:
        command: Without paths, which differ from machine to machine.
        packages: Those whose versions matter; the ones that are not installed are left out.
    """
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": f"{cpu_name()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "versions": ", ".join(f"{package} {installed(package)}" for package in packages if installed(package)),
        "command": command,
    }


def installed(package: str) -> str | None:
    """The version of a package, if it is installed."""
    try:
        return version(package)
    except ModuleNotFoundError:
        return None


def cpu_name() -> str:
    """The processor's name, as far as the system tells."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def memory(field: str) -> float:
    """A figure of this process from ``/proc`` in MB; ``VmHWM`` is the peak, mapped pages included. Linux only."""
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1000
