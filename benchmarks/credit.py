"""Does it learn faster to know which step earned the reward? Macro-actions on Drift and Forget, five seeds.

    python benchmarks/credit.py                      # some 15 processor minutes
    python benchmarks/credit.py --seeds 0 --steps 512 --out elsewhere

Three answers at equal numbers of environment steps, all by ``agents/learn/ppo_episodes.py``: the reward at the end,
hindsight credit (R7), and local groups of forked continuations, whose steps count. Every finished seed is written at
once, and a second start goes on where the first one stopped. Needs the extras ``rl`` and ``plots``.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

# Before numpy: more threads only wait for each other in products this small.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
import tyro
from reports.credit import markdown, plot
from reports.machine import provenance
from workloads.credit import ARMS, PPO, SLOTS, TASKS, Trained, play, random_choices, train

from atommem_gym.errors import AtomMemError, ConfigError, check_integer

ROOT = Path(__file__).resolve().parent.parent
VERSION = 1
PACKAGES = ("atommem-gym", "gymnasium", "torch", "numpy")


@dataclass
class Options:
    """Train with the reward at the end, with hindsight credit and with local groups, and compare."""

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Seeds of each arm on each task."""
    steps: int = 2048
    """Environment steps a seed."""
    points: int = 4
    """Evaluations on ``validation``, before the first update, on the way and at the end."""
    curve_episodes: int = 16
    """Episodes an evaluation."""
    episodes: int = 50
    """Test episodes at the end, the same for all."""
    out: Path = ROOT / "benchmarks" / "results"
    """Folder of credit.md, .json and .png."""
    fresh: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Forget earlier results instead of going on with them."""


def main(options: Options) -> int:
    """Train what is missing, seed by seed, write everything, and return the exit status."""
    check_integer("points", options.points, 2)
    torch.set_num_threads(1)
    file = options.out / "credit.json"
    trained, random = load(file, options)
    done = {(one.task, one.arm, one.seed) for one in trained}
    plans = [(task, arm, seed) for seed in options.seeds for task in TASKS for arm in ARMS]
    missing = [plan for plan in plans if plan not in done]
    for number, (task, arm, seed) in enumerate(missing, 1):
        if task not in random:
            random[task] = play(random_choices(task), task, "test", options.episodes)
        one = train(
            task,
            arm,
            seed,
            steps=options.steps,
            points=options.points,
            curve_episodes=options.curve_episodes,
            episodes=options.episodes,
        )
        trained.append(one)
        write(file, trained, random, options)
        line = f"{number}/{len(missing)} {task} {arm} seed {seed}: EM {np.mean(one.test):.2f}, {one.cpu_seconds:.0f} s"
        print(line, flush=True)
    wanted = [one for one in trained if one.seed in options.seeds]
    (options.out / "credit.md").write_text(markdown(wanted, random, settings(options), made(options)), "utf-8")
    plot(wanted, random, options.out / "credit.png")
    return 0


def settings(options: Options) -> dict[str, Any]:
    """What must be equal for earlier results to be gone on with."""
    names = ("steps", "points", "curve_episodes", "episodes")
    same = {"version": VERSION, "tasks": TASKS, "slots": SLOTS, "arms": ARMS, "ppo": PPO}
    return {**same, **{name: getattr(options, name) for name in names}}


def load(file: Path, options: Options) -> tuple[list[Trained], dict[str, list[float]]]:
    """Results of an earlier start: what was trained, and random choices by task.

    Raises:
        ConfigError: they belong to other settings, and would be overwritten.
    """
    if options.fresh or not file.is_file():
        return [], {}
    earlier = json.loads(file.read_text("utf-8"))
    if earlier["settings"] != settings(options):
        raise ConfigError(
            f"{file} has results of other settings ({earlier['settings']}); use --fresh to replace them, or --out to "
            "write elsewhere"
        )
    return [Trained(**one) for one in earlier["trained"]], earlier["random"]


def write(file: Path, trained: list[Trained], random: dict[str, list[float]], options: Options) -> None:
    """Write all results; a reader never meets half a file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = sorted(trained, key=lambda one: (list(TASKS).index(one.task), list(ARMS).index(one.arm), one.seed))
    content = {"settings": settings(options), "made": made(options), "random": random}
    unfinished = file.with_suffix(".part")
    unfinished.write_text(json.dumps({**content, "trained": [dataclasses.asdict(one) for one in rows]}) + "\n", "utf-8")
    unfinished.replace(file)


def made(options: Options) -> dict[str, str]:
    """When, on what and with what."""
    changed = "".join(
        f" --{field.name.replace('_', '-')} {' '.join(map(str, np.atleast_1d(getattr(options, field.name))))}"
        for field in dataclasses.fields(options)
        if field.name not in ("out", "fresh") and getattr(options, field.name) != field.default
    )
    return provenance(f"python benchmarks/credit.py{changed}", PACKAGES)


if __name__ == "__main__":
    try:
        sys.exit(main(tyro.cli(Options)))
    except AtomMemError as error:
        sys.exit(f"error: {error}")
