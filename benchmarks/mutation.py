"""Changes the modules that fix the semantics, one slip at a time, to find out which slips no test would notice.

Functions are mutated with mutmut; constants, regular expressions and what runs at import with ``mutants/static.py``.
Everything happens in a copy of the package. A run that was interrupted goes on where it stopped, and ``--again`` tries
the survivors again with the tests of today.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro
from mutants.report import Mutant, function_mutants, write_report
from mutants.static import Change, changes, sampled, verdict

ROOT = Path(__file__).resolve().parent.parent
MODULES: dict[str, tuple[str, ...]] = {
    "memory": ("memory.py", "ranking.py"),
    "stores": ("mirror.py", "numpy_store.py"),
    "actions": (
        *("crud.py", "dialects.py", "operations.py", "released_tags.py"),
        *("space.py", "spelling.py", "tags.py", "tools.py"),
    ),
    "scoring": ("answers.py", "boxed_match.py", "scorers.py"),
    "records": ("stream.py",),
    "": ("episode.py", "episode_released.py", "evidence.py"),
}
"""Files of the package by their room."""
TESTS: dict[str, tuple[str, ...]] = {
    "memory": ("drafts", "kept_states", "ranking", "mirror", "numpy_store", "memory_rules"),
    "stores": ("mirror", "numpy_store", "ranking", "drafts", "kept_states", "memory_rules"),
    "actions": (
        *("actions_messages", "tags", "spelling", "action_space"),
        *("actions_format", "actions_tools", "actions", "actions_released"),
    ),
    "scoring": ("formulas", "scorers_by_name", "scoring", "released_score", "official_scores"),
    "records": ("stream", "properties_episode::test_E1_chunks_without_their_overlaps_are_the_stream"),
    "": ("metrics", "evidence", "feedback", "released_steps", "episode_rules", "released", "released_model", "golden"),
}
"""Quick tests of each room that touch no database, since a mutant must cost about a second; the sharpest come first."""
_NO_DATABASE = "not server and not milvus and not two_episodes_over_one_store"
_PLUGIN = '''\
"""Sharp tests first; few Hypothesis examples, always the same, and last; no garbage of all mutants is collected."""

import gc

from hypothesis import settings

FILES = {files!r}
settings.register_profile("mutation", max_examples=20, deadline=None, derandomize=True, database=None)


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: (getattr(item.obj, "is_hypothesis_test", False), FILES.index(item.path.stem)))


def pytest_collection_finish(session):
    if session.config.option.collectonly:
        gc.collect()
        gc.freeze()
'''


@dataclass(frozen=True)
class Options:
    """How much to mutate, and where."""

    static: int = 5
    """How many mutants of constants and regular expressions to draw in each module; each costs some seconds."""
    seed: int = 0
    """Which of them are drawn."""
    seconds: float = 300.0
    """How long the tests of one static mutant may take."""
    again: bool = False
    """Try the survivors of the last run again with the tests as they are now."""
    fresh: bool = False
    """Start over, with the package as it is now."""
    folder: Path = ROOT / "build" / "mutation"
    """Holds the copy and the results so far."""
    out: Path = ROOT / "benchmarks" / "results" / "mutation.md"


def modules() -> list[str]:
    """Paths of all modules inside the package."""
    return [f"{room}/{name}" if room else name for room, names in MODULES.items() for name in names]


def make_tree(folder: Path) -> None:
    """Copy the package in the form in which it is installed, and tell mutmut what to do with it."""
    package = folder / "atommem_gym"
    for source, target in (("atommem_gym", package), ("envs", package / "envs"), ("agents", package / "agents")):
        shutil.copytree(ROOT / source, target, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    shutil.copy(ROOT / "pyproject.toml", folder)
    files = [f"test_{name.partition('::')[0]}" for names in TESTS.values() for name in names]
    (folder / "mutation_profile.py").write_text(_PLUGIN.replace("{files!r}", repr(files)))
    (folder / "setup.cfg").write_text(_settings())


def copy_tests(folder: Path) -> None:
    """Copy the tests as they are now; mutmut copies them on to where it runs them."""
    for target in (folder / "tests", folder / "mutants" / "tests"):
        shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(ROOT / "tests", folder / "tests", ignore=shutil.ignore_patterns("__pycache__"))


def _settings() -> str:
    lists = {
        "source_paths": ["atommem_gym"],
        "only_mutate": [f"atommem_gym/{module}" for module in modules()],
        "also_copy": ["mutation_profile.py"],
        "pytest_add_cli_args": _arguments(),
        "pytest_add_cli_args_test_selection": [test for room in TESTS for test in _tests(room)],
    }
    lines = ["[mutmut]"]
    for key, values in lists.items():
        lines += [f"{key}=", *(f"    {value}" for value in values)]
    # Workers forked from a process that never ran a test all start from the same state.
    # A loop that never ends may take twice as long as the tests of its function do, not thirty times.
    return "\n".join([*lines, "process_isolation=forkserver", "timeout_multiplier=1", "timeout_constant=3", ""])


def _arguments() -> list[str]:
    off = ("cacheprovider", "unraisableexception", "threadexception", "xdist")
    plugins = [argument for name in off for argument in ("-p", f"no:{name}")]
    return ["-p", "mutation_profile", *plugins, "--hypothesis-profile=mutation", "-k", _NO_DATABASE]


def _tests(room: str) -> list[str]:
    files = {path.stem: path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("test_*.py")}
    chosen = []
    for name in TESTS[room]:
        module, _, test = name.partition("::")
        chosen.append(f"{files[f'test_{module}']}::{test}" if test else files[f"test_{module}"])
    return chosen


def run_mutmut(folder: Path, again: bool) -> None:
    """Mutate the functions of all modules; those that have a result are left alone, survivors apart if ``again``."""
    command = [sys.executable, "-m", "mutmut", "run", "--max-children", "1"]
    environment = os.environ | {"PYTHONPATH": str(folder)}
    subprocess.run(command, cwd=folder, env=environment, check=True)
    alive = [mutant.name for mutant in function_mutants(folder, modules()) if not mutant.caught]
    if again and alive:
        subprocess.run([*command, *alive], cwd=folder, env=environment, check=True)


def run_static(folder: Path, room: str, name: str, options: Options) -> list[Mutant]:
    """Mutate a sample of what a module computes at import."""
    module = f"{room}/{name}" if room else name
    package = Path("atommem_gym") / module
    kept = folder / f"static_{module.replace('/', '_')}.json"
    known = {mutant.change: mutant for mutant in _read(kept)}
    command = ["-q", "-x", *_arguments(), *_tests(room)]
    found = changes((folder / package).read_text())
    mutants = []
    for change in sampled(found, options.static, f"{options.seed}/{module}"):
        mutant = known.get(change.summary)
        if mutant is None or (options.again and not mutant.caught):
            mutant = _tried(
                change, module, verdict(folder / "static", package, change, command, options.seconds), len(found)
            )
        mutants.append(mutant)
        known[change.summary] = mutant
        kept.write_text(json.dumps([dataclasses.asdict(tried) for tried in known.values()]))
    return mutants


def _read(kept: Path) -> list[Mutant]:
    return [Mutant(**values) for values in json.loads(kept.read_text())] if kept.exists() else []


def _tried(change: Change, module: str, outcome: str, drawn_from: int) -> Mutant:
    return Mutant(module, change.place, change.summary, outcome, kind="static", drawn_from=drawn_from)


def main(options: Options) -> None:
    """Run what is missing, then write the report."""
    folder = options.folder.absolute()
    if options.fresh:
        shutil.rmtree(folder, ignore_errors=True)
    if not folder.exists():
        make_tree(folder)
        copy_tests(folder)
    elif options.again:
        copy_tests(folder)
    run_mutmut(folder, options.again)
    # A copy of its own, made anew: a run that was killed leaves its last mutant behind.
    for part in ("atommem_gym", "tests"):
        shutil.rmtree(folder / "static" / part, ignore_errors=True)
        shutil.copytree(folder / part, folder / "static" / part)
    for part in ("pyproject.toml", "mutation_profile.py"):
        shutil.copy(folder / part, folder / "static")
    mutants = function_mutants(folder, modules())
    for room, names in MODULES.items():
        for name in names:
            mutants += run_static(folder, room, name, options)
    write_report(options.out, mutants, " ".join(["python benchmarks/mutation.py", *sys.argv[1:]]))


if __name__ == "__main__":
    main(tyro.cli(Options))
