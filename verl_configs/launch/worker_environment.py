"""Prints Hydra overrides, each ended by a NUL, that give every worker of a Ray cluster the caller's settings.

    mapfile -d '' settings < <(python worker_environment.py); python -m verl.trainer.main_ppo … "${settings[@]}"

Workers inherit the environment of `ray start`. Keys and passwords are left out, since veRL prints its configuration and
hands it to trackers: `wandb login` on the head node, or start Ray with them.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping

CARRIED = re.compile(
    r"(?:ATOMMEM|VERL|VLLM|HF|TRANSFORMERS|TOKENIZERS|NCCL|GLOO|TORCH|PYTORCH|CUDA|WANDB|MLFLOW|TENSORBOARD|HYDRA|MILVUS)_.+"
    r"|PYTHONPATH|OMP_NUM_THREADS|LD_LIBRARY_PATH|https?_proxy|no_proxy|SSL_CERT_FILE"
)
SECRET = re.compile(r"KEY|TOKEN(?!IZERS)|SECRET|PASSWORD|CREDENTIAL", re.IGNORECASE)
OF_THIS_PROCESS = ("CUDA_VISIBLE_DEVICES",)
"""What is different in every worker."""


def overrides(environment: Mapping[str, str]) -> list[str]:
    """``++ray_kwargs.ray_init.runtime_env.env_vars.NAME='value'`` for every setting that is carried over.

    >>> overrides({"HF_HOME": "/models", "HF_TOKEN": "hf_1", "HOME": "/home/ada"})
    ["++ray_kwargs.ray_init.runtime_env.env_vars.HF_HOME='/models'"]
    """
    found = []
    for name, value in sorted(environment.items()):
        if CARRIED.fullmatch(name) and not SECRET.search(name) and name not in OF_THIS_PROCESS:
            # Hydra reads a backslash as itself, but before a quote.
            quoted = re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), value)
            quoted = quoted.replace("${", "\\${")
            found.append(f"++ray_kwargs.ray_init.runtime_env.env_vars.{name}='{quoted}'")
    return found


if __name__ == "__main__":
    for one in overrides(os.environ):
        sys.stdout.write(f"{one}\0")
