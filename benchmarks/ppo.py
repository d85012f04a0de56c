"""PPO learns what to remember: five seeds on the synthetic world, against scripted agents under the same budget.

    python benchmarks/ppo.py                     # under 20 minutes on two idle cores
    python benchmarks/ppo.py --seeds 0 --sb3-seeds 0 --steps 20000 --out elsewhere

Trains ``agents/learn/ppo.py`` and Stable-Baselines3's PPO on the split ``train``, draws the curves on
``validation``, and compares on ``test``. Every finished seed is written at once, and a second start goes
on where the first one stopped. Needs the extras ``rl`` and ``plots``.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import multiprocessing
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

# Before numpy: one thread a process, or two trainings on two cores would stand in each other's way.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import tyro
from reports.machine import cpu_name
from reports.ppo import Point, Row, markdown, plot, row_of
from workloads.ppo import (
    SLOTS,
    TASK,
    Act,
    Played,
    columns,
    from_columns,
    greedy_choices,
    macro_env,
    mean,
    packing_choices,
    play_macro,
    play_scripted,
    random_choices,
)

from atommem_gym.agents.learn import ppo as single_file
from atommem_gym.errors import AtomMemError, ConfigError

ROOT = Path(__file__).resolve().parent.parent
SCRIPTED = ("keep_all", "tidy", "oracle")
VERSION = 2

Learner = Literal["sb3", "file"]


@dataclass
class Options:
    """Train PPO on macro-actions and compare it with scripted agents."""

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Seeds to train with agents/learn/ppo.py (one scorer for all documents)."""
    sb3_seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds to train with Stable-Baselines3 (MlpPolicy)."""
    steps: int = 25_000
    """Environment steps a seed."""
    shaping: float = 0.5
    """Weight of EvidenceReward in training; evaluation is exact match alone."""
    points: int = 4
    """Evaluations on the way."""
    curve_episodes: int = 50
    """Validation episodes an evaluation."""
    episodes: int = 300
    """Test episodes at the end, the same for all."""
    jobs: int = 2
    """Trainings at a time."""
    out: Path = ROOT / "benchmarks" / "results"
    """Folder of ppo.md, .json and .png."""
    fresh: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Forget earlier results instead of going on with them."""


@dataclass(frozen=True, slots=True)
class Trained:
    """One trained seed: its curve, its test episodes and what they cost."""

    learner: Learner
    seed: int
    curve: list[Point]
    test: list[Played]
    seconds: float
    """Wall-clock time, evaluations included."""
    cpu_seconds: float


def main(options: Options) -> int:
    """Train what is missing, write everything, and return the exit status."""
    file = options.out / "ppo.json"
    results = load(file, options)
    plans: list[tuple[Learner, int]] = [("file", seed) for seed in options.seeds]
    plans += [("sb3", seed) for seed in options.sb3_seeds]
    done = {(trained.learner, trained.seed) for trained in results["trained"]}
    missing = [plan for plan in plans if plan not in done]
    if not results["baselines"]:
        results["baselines"] = play_baselines(options.episodes)
        write(file, results, options)
    # Fresh processes: neither torch nor an environment likes to be forked.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=options.jobs, mp_context=context) as pool:
        running = [pool.submit(train, learner, seed, options) for learner, seed in missing]
        for future in as_completed(running):
            trained = future.result()
            results["trained"].append(trained)
            write(file, results, options)
            em = mean(p.em for p in trained.test)
            print(f"{trained.learner} seed {trained.seed}: EM {em:.2f} in {trained.seconds:.0f} s", flush=True)
    report(results, options)
    return 0


def play_baselines(episodes: int) -> dict[str, list[Played]]:
    """The test episodes of the scripted agents, and of three policies over macro-actions that learn nothing."""
    played = {name: play_scripted(name, "test", episodes) for name in SCRIPTED}
    policies: dict[str, Act] = {
        "random choices": random_choices(0),
        "packing rule": packing_choices,
        "greedy rule": greedy_choices,
    }
    return played | {name: play_macro(act, "test", episodes) for name, act in policies.items()}


def train(learner: Learner, seed: int, options: Options) -> Trained:
    """Train one seed and play the test episodes; runs in a process of its own."""
    import torch

    torch.set_num_threads(1)
    started, cpu_started = time.perf_counter(), time.process_time()
    curve: list[Point] = []

    def look(steps: int, act: Act) -> None:
        if steps * options.points >= len(curve) * options.steps:
            played = play_macro(act, "validation", options.curve_episodes)
            curve.append(Point(steps, mean(p.em for p in played), mean(p.recall for p in played)))

    trainer = train_sb3 if learner == "sb3" else train_file
    act = trainer(seed, options, look)
    test = play_macro(act, "test", options.episodes)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    return Trained(learner, seed, curve, test, round(seconds, 1), round(cpu_seconds, 1))


def train_sb3(seed: int, options: Options, look: Callable[[int, Act], None]) -> Act:
    """Stable-Baselines3's PPO with its ``MlpPolicy``."""
    from stable_baselines3 import PPO
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.vec_env import DummyVecEnv

    class Look(BaseCallback):  # type: ignore[misc]  # stable-baselines3 is optional and so untyped here
        def _on_step(self) -> bool:
            return True

        def _on_rollout_start(self) -> None:
            look(self.num_timesteps, act)

    def act(observation: Any, _: Any) -> Any:
        return model.predict(observation, deterministic=True)[0]

    envs = DummyVecEnv([lambda: macro_env("train", shaping=options.shaping)] * 16)
    model = PPO(
        "MlpPolicy",
        envs,
        learning_rate=lambda left: 1e-3 * left,
        n_steps=64,
        batch_size=128,
        n_epochs=8,
        gamma=1.0,
        ent_coef=0.002,
        seed=seed,
        device="cpu",
    )
    model.learn(options.steps, callback=Look())
    envs.close()
    look(options.steps, act)
    return act


def train_file(seed: int, options: Options, look: Callable[[int, Act], None]) -> Act:
    """``agents/learn/ppo.py`` as it is."""
    task = {name: value for name, value in TASK.items() if name != "store"}
    settings = single_file.Options(slots=SLOTS, shaping=options.shaping, steps=options.steps, seed=seed, **task)

    def on_rollout(steps: int, policy: single_file.Policy) -> None:
        look(min(steps, options.steps), lambda observation, _: policy.act(observation))

    policy = single_file.train(settings, on_rollout)
    return lambda observation, _: policy.act(observation)


def settings(options: Options) -> dict[str, Any]:
    """What must be equal for earlier results to be gone on with."""
    names = ("steps", "shaping", "points", "curve_episodes", "episodes")
    return {"version": VERSION, "task": TASK, "slots": SLOTS, **{name: getattr(options, name) for name in names}}


def load(file: Path, options: Options) -> dict[str, Any]:
    """Results of an earlier start.

    Raises:
        ConfigError: they belong to other settings, and would be overwritten.
    """
    if options.fresh or not file.is_file():
        return {"trained": [], "baselines": {}}
    earlier = json.loads(file.read_text(encoding="utf-8"))
    if earlier["settings"] != settings(options):
        raise ConfigError(
            f"{file} has results of other settings ({earlier['settings']}); use --fresh to replace them, or --out "
            "to write elsewhere"
        )
    trained = [
        Trained(**{**one, "curve": [Point(**p) for p in one["curve"]], "test": from_columns(one["test"])})
        for one in earlier["trained"]
    ]
    return {
        "trained": trained,
        "baselines": {name: from_columns(played) for name, played in earlier["baselines"].items()},
    }


def write(file: Path, results: dict[str, Any], options: Options) -> None:
    """Write all results; a reader never meets half a file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "settings": settings(options),
        "made": made(options),
        "trained": [
            {**dataclasses.asdict(one), "test": columns(one.test)} for one in sorted(results["trained"], key=_place)
        ],
        "baselines": {name: columns(played) for name, played in results["baselines"].items()},
    }
    unfinished = file.with_suffix(".part")
    unfinished.write_text(json.dumps(content) + "\n", encoding="utf-8")
    unfinished.replace(file)


def made(options: Options) -> dict[str, str]:
    """When, on what and with what."""
    packages = ("atommem-gym", "gymnasium", "stable-baselines3", "torch", "numpy")
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": f"{cpu_name()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "versions": ", ".join(f"{package} {version(package)}" for package in packages),
        "command": "python benchmarks/ppo.py"
        + "".join(
            f" --{field.name.replace('_', '-')} {' '.join(map(str, np.atleast_1d(getattr(options, field.name))))}"
            for field in dataclasses.fields(options)
            if field.name not in ("out", "fresh") and getattr(options, field.name) != field.default
        ),
    }


def report(results: dict[str, Any], options: Options) -> None:
    """Write the table and the plot."""
    baselines: dict[str, list[Played]] = results["baselines"]
    trained: Sequence[Trained] = sorted(results["trained"], key=_place)
    learned = {learner: [t for t in trained if t.learner == learner] for learner in NAMES}
    learned = {learner: group for learner, group in learned.items() if group}
    rows: list[Row] = [row_of(NAMES[learner], [t.test for t in group], baselines) for learner, group in learned.items()]
    rows += [row_of(name, [played], {}) for name, played in baselines.items()]
    costs = {NAMES[t.learner]: [(u.seconds, u.cpu_seconds) for u in learned[t.learner]] for t in trained}
    text = markdown(rows, settings(options), made(options), costs)
    (options.out / "ppo.md").write_text(text, encoding="utf-8")
    curves = {NAMES[learner]: [t.curve for t in group] for learner, group in learned.items()}
    levels = {name: mean(p.em for p in played) for name, played in baselines.items()}
    plot(curves, levels, options.out / "ppo.png")


NAMES: dict[Learner, str] = {"file": "PPO (`agents/learn/ppo.py`)", "sb3": "PPO (Stable-Baselines3)"}
"""The learners in table and plot."""


def _place(trained: Trained) -> tuple[str, int]:
    return trained.learner, trained.seed


if __name__ == "__main__":
    try:
        sys.exit(main(tyro.cli(Options)))
    except AtomMemError as error:
        sys.exit(f"error: {error}")
