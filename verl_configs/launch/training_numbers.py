"""Prints what a GRPO run is made of, before it begins: rows, updates, tokens, memory, disk.

    python verl_configs/launch/training_numbers.py grpo_qwen3_8b --data data [--mini-batch] [veRL overrides]

With --mini-batch only the ppo_mini_batch_size with which a training step makes ATOMMEM_UPDATES (1) optimizer updates.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from transformers import AutoConfig

from atommem_gym.agents.learn.training_numbers import (
    ModelShape,
    SessionSteps,
    TrainingNumbers,
    markdown,
    one_update,
    training_numbers,
)
from atommem_gym.errors import AtomMemError, ConfigError

CONFIGS = Path(__file__).resolve().parent.parent


def composed(name: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """A configuration as veRL composes it."""
    with initialize_config_dir(str(CONFIGS), version_base=None):
        config = OmegaConf.to_container(compose(name, overrides=list(overrides)), resolve=True)
    assert isinstance(config, dict)
    return {str(key): value for key, value in config.items()}


def steps_of(data: Path) -> SessionSteps:
    """How long the sessions of ``atommem data verl`` are.

    Raises:
        ConfigError: the folder does not say.
    """
    path = data / "verl.json"
    try:
        return SessionSteps(**json.loads(path.read_text(encoding="utf-8"))["parts"]["train"]["steps"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path} does not say how long sessions are ({error!r}); write it with `atommem data verl`"
        ) from error


def shape_of(model: str) -> ModelShape:
    """The shape of a folder or a hub name."""
    return ModelShape.of(AutoConfig.from_pretrained(model).to_dict())


def numbers_of(config: Mapping[str, Any], steps: SessionSteps) -> TrainingNumbers:
    """The numbers of a composed configuration."""
    return training_numbers(steps, shape_of(config["actor_rollout_ref"]["model"]["path"]), config)


def main() -> int:
    """Print; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("--data", type=Path, required=True, help="folder of atommem data verl")
    parser.add_argument("--mini-batch", action="store_true")
    given, overrides = parser.parse_known_args()
    try:
        steps = steps_of(given.data)
        config = composed(given.config, overrides)
        if given.mini_batch:
            print(one_update(steps, config, int(os.environ.get("ATOMMEM_UPDATES", "1"))))
        else:
            print(markdown(numbers_of(config, steps), steps))
    except AtomMemError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
