"""What must hold before a long training run begins: versions, files, accelerators, memory, servers.

    python verl_configs/launch/preflight.py --gpus 8 --gpu-gib 75 --host-gib 200 --files train.parquet … --urls URL …

Prints one line for each check; the exit status is 1 if any fails.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

WANTED = {"verl": "0.9.", "transformers": "5.", "TransferQueue": "0.1.", "tensordict": "0.10."}
"""What the configurations were checked against; versions begin like this."""


def versions() -> Iterator[tuple[bool, str]]:
    """The packages, and which versions they have."""
    for name, beginning in WANTED.items():
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield False, f"{name} is not installed; wanted {beginning}*"
        else:
            yield found.startswith(beginning), f"{name} {found} (wanted {beginning}*)"


def accelerators(number: int, gib: float) -> Iterator[tuple[bool, str]]:
    """The GPUs, and the memory that is free on each."""
    import torch

    found = torch.cuda.device_count()
    yield found >= number, f"{found} GPUs (wanted {number})"
    for i in range(min(found, number)):
        free = torch.cuda.mem_get_info(i)[0] / 2**30
        yield free >= gib, f"GPU {i}: {free:.0f} GiB free (wanted {gib:.0f})"


def host(gib: float) -> Iterator[tuple[bool, str]]:
    """The memory of the machine."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    free = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) / 2**20
    yield free >= gib, f"{free:.0f} GiB of memory available (wanted {gib:.0f})"


def files(paths: list[Path]) -> Iterator[tuple[bool, str]]:
    """What is read."""
    for path in paths:
        yield path.exists(), f"{path} {'exists' if path.exists() else 'does not exist'}"


def servers(urls: list[str], patience: float) -> Iterator[tuple[bool, str]]:
    """Servers that must answer, such as http://host:8001/v1/models; each is waited for."""
    for url in urls:
        deadline, said = time.monotonic() + patience, ""
        while True:
            try:
                status = httpx.get(url, timeout=10).status_code
                said = f"status {status}"
                if status == 200:
                    break
            except httpx.HTTPError as error:
                said = f"{type(error).__name__}: {error}"
            if time.monotonic() > deadline:
                break
            time.sleep(2)
        yield said == "status 200", f"{url}: {said}"


def main() -> int:
    """Check and print; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpus", type=int, default=0)
    parser.add_argument("--gpu-gib", type=float, default=0)
    parser.add_argument("--host-gib", type=float, default=0)
    parser.add_argument("--files", type=Path, nargs="*", default=[])
    parser.add_argument("--urls", nargs="*", default=[])
    parser.add_argument("--patience", type=float, default=600, help="seconds to wait for a server")
    given = parser.parse_args()
    checks = [*versions(), *host(given.host_gib), *files(given.files)]
    checks += [*accelerators(given.gpus, given.gpu_gib)] if given.gpus else []
    checks += [*servers(given.urls, given.patience)]
    for good, said in checks:
        print(f"{'ok  ' if good else 'FAIL'} {said}")
    return 0 if all(good for good, _ in checks) else 1


if __name__ == "__main__":
    sys.exit(main())
