"""Every public module is an attribute after ``import atommem_gym``, and ``help()`` of a package needs no extra."""

from __future__ import annotations

import importlib
import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HOOK = runpy.run_path(str(ROOT / "docs" / "hooks" / "public_names.py"))
DESCRIBED = [
    name
    for page in (ROOT / "docs" / "reference").glob("*.md")
    for name in re.findall(r"^::: (\S+)\.\w+$", page.read_text(encoding="utf-8"), re.MULTILINE)
]
MODULES = sorted({*HOOK["public_names"](), *DESCRIBED})
"""What the list of public names and the reference name."""
BY_EXTRA = ("atommem_gym.agents.learn", "atommem_gym.bridges")
"""Packages each of whose modules needs an extra."""
UNLISTED = {"atommem_gym.agents.team", "atommem_gym.agents.team_play"}
"""Modules that need an extra; ``dir()`` leaves them out, since ``help()`` loads what it lists."""
EXTRAS = ("hypothesis", "torch", "transformers", "pettingzoo", "matplotlib", "mcp", "trl", "ray", "inspect_ai")
REACH = f"""
import json, sys, atommem_gym
failed = {{}}
for module in json.loads(sys.argv[1]):
    found = atommem_gym
    for name in module.split(".")[1:]:
        if name not in dir(found) and module not in {UNLISTED!r}:
            failed[module] = f"dir({{found.__name__}}) lacks {{name}}"
        try:
            found = getattr(found, name)
        except Exception as error:
            failed[module] = repr(error)
            break
print(json.dumps(failed))
"""
HELP = f"""
import importlib, json, pydoc, sys
class Without:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {EXTRAS!r}:
            raise ModuleNotFoundError("No module named " + name, name=name)
sys.meta_path.insert(0, Without())
failed = {{}}
for package in json.loads(sys.argv[1]):
    try:
        pydoc.render_doc(importlib.import_module(package))
    except Exception as error:
        failed[package] = repr(error)
print(json.dumps(failed))
"""


def in_a_fresh_process(script: str, names: list[str]) -> dict[str, str]:
    done = subprocess.run([sys.executable, "-c", script, json.dumps(names)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_finding_6_2_every_public_module_is_an_attribute_of_the_package() -> None:
    light = [module for module in MODULES if not module.startswith(tuple(f"{room}." for room in BY_EXTRA))]
    assert len(light) > 40
    assert in_a_fresh_process(REACH, light) == {}
    for room in BY_EXTRA:
        below = {module.rpartition(".")[2] for module in MODULES if module.startswith(f"{room}.")}
        assert below == set(importlib.import_module(room).__all__)


def test_finding_6_2_help_of_a_package_needs_no_extra_but_its_own() -> None:
    packages = [name for name, _ in HOOK["packages"]() if not name.startswith("atommem_gym.commands")]
    failed = in_a_fresh_process(HELP, packages)
    assert set(failed) == {"atommem_gym.envs.team", "atommem_gym.testing"}
    assert all("pip install 'atommem-gym[" in said for said in failed.values()), failed


def test_finding_6_2_what_a_room_does_not_have_is_an_attribute_error() -> None:
    for room in ("", ".agents", ".agents.learn", ".bridges", ".envs", ".testing", ".traces", ".worlds"):
        assert not hasattr(importlib.import_module(f"atommem_gym{room}"), "no_such_name")
