"""What must hold before a long training run begins: versions, files, accelerators, memory, disk, servers.

    python verl_configs/launch/preflight.py CONFIG --data data --out runs/grpo [--url URL] [veRL overrides]
    python verl_configs/launch/preflight.py --gpus 8 --gpu-gib 70 --file train.parquet

Prints one line for each check, with the remedy where one fails; the exit status is 1 if any fails.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx

GIB = 2**30
WANTED = {
    "verl": ("0.9.1",),
    "vllm": ("0.24.", "0.27.1+cpu"),
    "ray": ("2.",),
    "transformers": ("5.9.",),
    "TransferQueue": ("0.1.11",),
    "tensordict": ("0.10.",),
}
"""What the configurations were checked against; versions begin like this."""
_INSTALL = "install verl_configs/gpu/requirements.txt (docs/train_your_own.md, Install)"
_SPARE = 6 * GIB
"""Of a GPU's memory: CUDA's context, buffers of NCCL, the largest layer unsharded, fragments."""
_PROCESSES = {"cuda": 16, "cpu": 6}
"""GiB of a node's memory for Ray, veRL's and vLLM's processes, by device."""


def versions() -> Iterator[tuple[bool, str]]:
    """The packages, and which versions they have."""
    for name, beginnings in WANTED.items():
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield False, f"{name} is not installed; {_INSTALL}"
        else:
            good = found.startswith(beginnings)
            yield good, f"{name} {found}" + ("" if good else f", wanted {beginnings[0]}*; {_INSTALL}")


def attention(config: Mapping[str, Any]) -> Iterator[tuple[bool, str]]:
    """flash-attn, if the configuration asks for it: the model would fail to load without it, after minutes."""
    model = config["actor_rollout_ref"]["model"]
    if (model.get("override_config") or {}).get("attn_implementation") == "flash_attention_2":
        there = importlib.util.find_spec("flash_attn") is not None
        yield (
            there,
            "flash-attn is installed"
            if there
            else "flash-attn is not installed: leave out attention=flash, or build it",
        )


def accelerators(number: int, gib: float) -> Iterator[tuple[bool, str]]:
    """The GPUs, and the memory that is free on each."""
    import torch

    found = torch.cuda.device_count()
    yield found >= number, f"{found} GPUs (wanted {number})"
    for i in range(min(found, number)):
        free = torch.cuda.mem_get_info(i)[0] / GIB
        yield free >= gib, f"GPU {i}: {free:.0f} GiB free (wanted {gib:.0f}; `nvidia-smi` tells who has the rest)"


def host(gib: float) -> Iterator[tuple[bool, str]]:
    """The memory of the machine."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    free = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) / 2**20
    yield free >= gib, f"{free:.0f} GiB of memory available (wanted {gib:.0f})"


def disk(out: Path, gib: float) -> Iterator[tuple[bool, str]]:
    """Room for the checkpoints."""
    free = shutil.disk_usage(out).free / GIB
    remedy = "" if free >= gib else "; another ATOMMEM_OUT, or trainer.max_actor_ckpt_to_keep=1"
    yield free >= gib, f"{free:.0f} GiB free in {out} (checkpoints take {gib:.0f}){remedy}"


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


def of_config(name: str, data: Path, out: Path, overrides: list[str]) -> Iterator[tuple[bool, str]]:
    """What a configuration asks of this machine, by the formulas of ``training_numbers``."""
    from training_numbers import composed, markdown, numbers_of, steps_of

    config, steps = composed(name, overrides), steps_of(data)
    numbers = numbers_of(config, steps)
    yield True, f"{name}\n{markdown(numbers, steps)}"
    yield from files([data / "train.parquet", data / "validation.parquet"])
    yield from attention(config)
    yield from host(numbers.host / GIB + _PROCESSES.get(config["trainer"]["device"], 16))
    yield from disk(out, numbers.checkpoints / GIB)
    if config["trainer"]["device"] == "cuda":
        yield from accelerators(int(config["trainer"]["n_gpus_per_node"]), (numbers.training_gpu + _SPARE) / GIB)


def main() -> int:
    """Check and print; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, default=Path())
    parser.add_argument("--gpus", type=int, default=0)
    parser.add_argument("--gpu-gib", type=float, default=0)
    parser.add_argument("--host-gib", type=float, default=0)
    parser.add_argument("--file", type=Path, action="append", default=[])
    parser.add_argument("--url", action="append", default=[])
    parser.add_argument("--patience", type=float, default=600, help="seconds to wait for a server")
    given, overrides = parser.parse_known_args()
    checks = [*versions(), *host(given.host_gib), *files(given.file)]
    if given.config and all(good for good, _ in checks):
        checks += of_config(given.config, given.data, given.out, overrides)
    checks += [*accelerators(given.gpus, given.gpu_gib)] if given.gpus else []
    checks += [*servers(given.url, given.patience)]
    for good, said in checks:
        print(f"{'ok  ' if good else 'FAIL'} {said}")
    return 0 if all(good for good, _ in checks) else 1


if __name__ == "__main__":
    sys.exit(main())
