"""From a configuration to the items of the generated tasks that have keyword arguments of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from atommem_gym.config import EnvConfig
from atommem_gym.errors import ConfigError
from atommem_gym.records.layout import check_questions
from atommem_gym.tokenizers import load_tokenizer
from atommem_gym.worlds.drift import DriftItems, DriftOptions
from atommem_gym.worlds.drift.options import at_difficulty as drift_at
from atommem_gym.worlds.needle import NeedleItems, NeedleOptions
from atommem_gym.worlds.needle.options import at_difficulty as needle_at


def drift_items(config: EnvConfig) -> DriftItems:
    """Items of ``AtomMem-Drift-v0``.

    Raises:
        ConfigError: the settings do not fit each other.
    """
    _check_generated(config, "AtomMem-Drift-v0", "its notices come in the order of time")
    assert isinstance(config.options, DriftOptions)
    return DriftItems(
        options=config.options,
        split=config.split,
        num_docs=config.num_docs,
        questions_per_episode=config.questions_per_episode,
    )


def drift_difficulty(difficulty: float, config: EnvConfig) -> Mapping[str, Any]:
    """See :func:`atommem_gym.worlds.drift.options.at_difficulty`."""
    return drift_at(difficulty, config.num_docs, check_questions(config.questions_per_episode)[1])


def needle_items(config: EnvConfig) -> NeedleItems:
    """Items of ``AtomMem-Needle-v0``.

    Raises:
        ConfigError: the settings do not fit each other.
    """
    _check_generated(config, "AtomMem-Needle-v0", "depth= says where the needles stand")
    assert isinstance(config.options, NeedleOptions)
    return NeedleItems(
        load_tokenizer(config.tokenizer),
        options=config.options,
        split=config.split,
        num_docs=config.num_docs,
        questions_per_episode=config.questions_per_episode,
    )


def needle_difficulty(difficulty: float, config: EnvConfig) -> Mapping[str, Any]:
    """See :func:`atommem_gym.worlds.needle.options.at_difficulty`."""
    return needle_at(difficulty, config.options.kind)


def _check_generated(config: EnvConfig, env_id: str, why: str) -> None:
    if config.source != "synthetic":
        raise ConfigError(f"source={config.source!r} contradicts {env_id}, which generates its documents; leave it out")
    if config.order != "shuffled":
        raise ConfigError(f"order={config.order!r} contradicts {env_id}: {why}; leave it out")
