"""A platform ``cpu`` for veRL, so that its real trainer runs where there is no accelerator.

Loaded in every process by ``VERL_USE_EXTERNAL_MODULES=atommem_verl_cpu.platform``, chosen by ``VERL_PLATFORM=cpu``. Ray
is told of one GPU that does not exist, so that veRL's placement groups work as they are; tensors live on the CPU,
processes talk through gloo, and weights reach vLLM through veRL's shared-memory path.
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.fsdp import CPUOffloadPolicy
from verl.plugin.platform.platform_base import PlatformBase
from verl.plugin.platform.platform_manager import PlatformRegistry

CPU = torch.device("cpu")
_NO_BYTES = ("memory_allocated", "max_memory_allocated", "memory_reserved", "max_memory_reserved")
_NO_OPERATION = (
    "empty_cache",
    "synchronize",
    "ipc_collect",
    "set_device",
    "reset_peak_memory_stats",
    "manual_seed",
    "manual_seed_all",
)


class CpuModule(types.ModuleType):
    """Stands where veRL expects ``torch.cuda``; what is not listed here raises, so that nothing is done in silence."""

    def is_available(self) -> bool:
        return False

    def device_count(self) -> int:
        return 1

    def current_device(self) -> torch.device:
        return CPU

    def get_device_name(self, *_: Any) -> str:
        return "cpu"

    def mem_get_info(self, *_: Any) -> tuple[int, int]:
        return 0, 1

    def get_rng_state(self, *_: Any) -> torch.Tensor:
        return torch.get_rng_state()

    def set_rng_state(self, state: torch.Tensor, *_: Any) -> None:
        torch.set_rng_state(state)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name in _NO_BYTES:
            return lambda *_, **__: 0
        if name in _NO_OPERATION:
            return lambda *_, **__: None
        raise AttributeError(f"the cpu platform has no {name!r}")


@PlatformRegistry.register(platform="cpu")
class CpuPlatform(PlatformBase):
    """One device, the CPU."""

    device_name = "cpu"
    vendor_name = "cpu"
    device_module = CpuModule("atommem_verl_cpu_device")

    def is_available(self) -> bool:
        return True

    def current_device(self) -> torch.device:
        return CPU

    def device_count(self) -> int:
        return 1

    def set_device(self, device_index: int) -> None:
        del device_index

    def synchronize(self, device_index: int | None = None) -> None:
        del device_index

    def manual_seed(self, seed: int) -> None:
        torch.manual_seed(seed)

    def manual_seed_all(self, seed: int) -> None:
        torch.manual_seed(seed)

    def set_allocator_settings(self, settings: str) -> None:
        del settings

    def empty_cache(self) -> None:
        pass

    def get_device_capability(self, device_index: int = 0) -> tuple[None, None]:
        del device_index
        return None, None

    def communication_backend_name(self) -> str:
        return "gloo"

    def visible_devices_envvar(self) -> str:
        return "CUDA_VISIBLE_DEVICES"

    @contextlib.contextmanager
    def nvtx_range(self, msg: str) -> Iterator[None]:
        del msg
        yield

    def profiler_start(self) -> None:
        pass

    def profiler_stop(self) -> None:
        pass

    def ray_resource_name(self) -> str:
        return "GPU"

    def ray_noset_envvars(self) -> list[str]:
        return ["RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"]

    def is_ipc_supported(self) -> bool:
        return False

    def cudart(self) -> None:
        return None


def _patch_process_groups() -> None:
    """Fold a key: veRL asks for ``cpu:gloo,<device>:<backend>``, and torch refuses ``cpu`` twice."""
    original = dist.init_process_group
    if getattr(original, "_atommem", False):
        return

    def init_process_group(backend: str | None = None, *args: Any, **keywords: Any) -> Any:
        return original("gloo" if backend == "cpu:gloo,cpu:gloo" else backend, *args, **keywords)

    init_process_group._atommem = True  # type: ignore[attr-defined]
    dist.init_process_group = dist.distributed_c10d.init_process_group = init_process_group


def _patch_offload() -> None:
    """Do not pin: veRL offloads reference models into pinned memory, and pinning needs an accelerator."""
    original = CPUOffloadPolicy.__init__

    def init(self: CPUOffloadPolicy, pin_memory: bool = True) -> None:
        del pin_memory
        original(self, pin_memory=False)

    CPUOffloadPolicy.__init__ = init  # type: ignore[method-assign]


_patch_process_groups()
_patch_offload()
