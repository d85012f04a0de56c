"""Every example in a docstring of the installed package runs."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import atommem_gym

MODULES = ["atommem_gym", *(m.name for m in pkgutil.walk_packages(atommem_gym.__path__, "atommem_gym."))]
for mapped in ("atommem_gym.envs", "atommem_gym.agents"):
    package = importlib.import_module(mapped)
    MODULES += [mapped, *(m.name for m in pkgutil.walk_packages(package.__path__, f"{mapped}."))]
OPTIONAL = {
    "torch": "rl",
    "transformers": "llm",
    "omegaconf": "verl",
    "verl": "verl",
    "pettingzoo": "team",
    "inspect_ai": "inspect",
    "verifiers": "verifiers",
    "trl": "trl",
    "ray": "skyrl",
    "skyrl": "skyrl",
    "openai": "verifiers",
}
"""Packages that modules may import at their top, and the extra that installs them."""


@pytest.mark.parametrize("name", sorted(set(MODULES)))
def test_examples(name: str) -> None:
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as missing:
        if missing.name not in OPTIONAL:
            raise
        pytest.skip(f"needs {missing.name}: pip install 'atommem-gym[{OPTIONAL[missing.name]}]'")
    assert doctest.testmod(module).failed == 0


def test_there_are_examples_in_core_envs_and_wrappers() -> None:
    for name in ("atommem_gym.actions.dialects", "atommem_gym.records.stream", "atommem_gym.envs.wrappers.prompts"):
        assert doctest.testmod(importlib.import_module(name)).attempted > 0, name
