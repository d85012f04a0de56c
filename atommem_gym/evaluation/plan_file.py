"""Plans as YAML files: what a user writes by hand, and what an evaluation leaves in its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from atommem_gym.errors import AtomMemError, ConfigError
from atommem_gym.evaluation.plan import Plan
from atommem_gym.trust import without_secrets


def read_values(path: Path) -> dict[str, Any]:
    """The values of a YAML file.

    Raises:
        ConfigError: it cannot be read, is no YAML, or holds no mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
        values = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the plan {path} cannot be read ({error}); name a YAML file") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"the plan {path} is no YAML: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"the plan {path} holds a {type(values).__name__}; write a mapping with envs, agents, docs …")
    return values


def read_plan(path: Path) -> Plan:
    """The plan in a YAML file.

    Raises:
        ConfigError: there is none, or it is wrong.
    """
    return Plan.from_values(read_values(path))


def dump_plan(plan: Plan) -> str:
    """The YAML of a plan, without the keys and passwords in it.

    >>> print(dump_plan(Plan.from_values({"envs": ["Synthetic"], "agents": ["tidy"], "episodes": 3})).splitlines()[1])
    - id: AtomMem-Synthetic-v0
    """
    return str(
        yaml.safe_dump(without_secrets(plan.to_values()), sort_keys=False, allow_unicode=True, default_flow_style=False)
    )


def write_plan(plan: Plan, path: Path) -> None:
    """Write a plan; a reader never meets half a file.

    Raises:
        AtomMemError: the file cannot be written.
    """
    unfinished = path.with_suffix(".part")
    try:
        unfinished.write_text(dump_plan(plan), encoding="utf-8")
        unfinished.replace(path)
    except OSError as error:
        raise AtomMemError(f"the plan cannot be written to {path} ({error.strerror}); name another folder") from error
