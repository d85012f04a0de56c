"""New weights for vLLM on a CPU, whose layers have repacked the ones that veRL 0.9.1 would write into.

vLLM's own reload (``reload_weights``) brings back the checkpoint's format first, so the received weights go through it.
"""

from __future__ import annotations

from typing import Any

import torch
from verl.workers.rollout.vllm_rollout.bucketed_weight_transfer import BucketedWeightReceiver
from verl.workers.rollout.vllm_rollout.utils import vLLMColocateWorkerExtension


class CpuWorkerExtension(vLLMColocateWorkerExtension):
    """veRL's worker extension with another way to take new weights."""

    def update_weights_from_ipc(
        self, peft_config: Any = None, base_sync_done: bool = False, use_shm: bool = False
    ) -> None:
        """Receive all weights, then reload the model with them."""
        if peft_config is not None:
            raise NotImplementedError("LoRA weights are not supported on the CPU; train all weights")
        del base_sync_done
        weights: list[tuple[str, torch.Tensor]] = []

        def keep(bucket: Any, is_last: bool) -> None:
            del is_last
            # On a CPU these are views of shared memory that the next bucket overwrites.
            weights.extend((name, tensor.clone()) for name, tensor in bucket)

        BucketedWeightReceiver(self._get_zmq_handle(), torch.device("cpu"), use_shm).receive_weights(keep)
        self.model_runner.reload_weights(weights_iterator=iter(weights), is_checkpoint_format=True)
