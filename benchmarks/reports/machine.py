"""What a result says of where it was made: processor, versions of packages, memory of the process."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path


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
