"""Makes the runs of ``verl_learn.py`` readable: a Markdown page with standard errors, and learning curves."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

OPERATIONS = ("create", "read", "answer", "rejected", "final_entries", "evidence_recall")
COLOURS = {"create": "#0072b2", "read": "#009e73", "answer": "#d55e00", "rejected": "#cc79a7"}
"""Of Okabe and Ito's palette, which colour-blind readers can tell apart."""
WINDOW = 5
"""Training steps that are averaged in the tables and in the plot."""


@dataclass(frozen=True, slots=True)
class TrainingStep:
    """The sessions of one training step."""

    step: int
    sessions: int
    reward: float
    flat: float
    """Share of the groups in which all sessions had the same reward, and so taught nothing."""
    operations: dict[str, float]
    """Means a session, see :data:`OPERATIONS`."""


@dataclass(frozen=True, slots=True)
class Played:
    """One validation: every held-out item once."""

    step: int
    items: list[str]
    em: list[float]
    operations: dict[str, float]


@dataclass(frozen=True, slots=True)
class Seed:
    """One run of GRPO."""

    seed: int
    seconds: float
    """Wall-clock, start-up, validations and checkpoint included."""
    step_seconds: float
    """The median training step's."""
    training: list[TrainingStep]
    validation: list[Played]

    def as_json(self) -> dict[str, Any]:
        """For ``verl_learn.json``."""
        return dataclasses.asdict(self)


def markdown(seeds: Sequence[Seed], made: Mapping[str, str]) -> str:
    """The results as a page."""
    steps = len(seeds[0].training)
    before, after = (np.array([seed.validation[place].em for seed in seeds]) for place in (0, -1))
    change = (after - before).mean(axis=0)
    parts = [
        "# GRPO through veRL and vLLM on a CPU: a tiny model learns to answer from memory",
        "",
        "Real veRL 0.9.1 and real vLLM on a CPU, with the platform shim of `verl_configs/cpu` (for tests only): it "
        "shows that our environments, agent loop and data work with them and that the reward rises, and nothing about "
        "GPUs, their speed or language models of use.",
        "",
        "**Task.** Who has what: a document names a person and a thing, the question is about one of six persons. A "
        "Qwen3 of 128,000 parameters with random weights was fine-tuned by veRL's SFT trainer on exported oracle "
        f"traces of streams of **one** chunk ({made['sft_steps']} steps). GRPO then plays streams of **two** chunks, "
        "of which one says nothing about the question: the model never saw such a chunk, nor two entries at an answer. "
        f"{steps} steps of 8 prompts x 8 sessions, reward = exact match alone, no KL, learning rate 3e-4. All seeds "
        "start from one supervised model; a seed orders the items and seeds the sampling. Task and learning rate were "
        "chosen in trials on items of this kind.",
        "",
        f"**Held out.** {before.shape[1]} items whose every document states a fact (a person with a thing) that no "
        "training document states; sampled as in training (temperature 1, top-p 1), one session an item.",
        "",
        f"{made['date']} · {made['cpu']} · Python {made['python']} · {made['versions']} · `{made['command']}`",
        "",
        "![Reward and operations against training steps](verl_learn.png)",
        "",
        "Exact match on held-out items (± standard error over items):",
        "",
        "| after training step | " + " | ".join(f"seed {seed.seed}" for seed in seeds) + " | mean |",
        "|---|" + "--:|" * (len(seeds) + 1),
        *(_validation_line(place, seeds) for place in range(len(seeds[0].validation))),
        "",
        f"Rise over all {steps} steps: **{change.mean():+.3f} ± {_error(change):.3f}** (means over seeds, then "
        "standard error over the items, paired).",
        "",
        "What the sessions on held-out items did, means over seeds:",
        "",
        "| after training step | " + " | ".join(name.replace("_", " ") for name in OPERATIONS) + " |",
        "|---|" + "--:|" * len(OPERATIONS),
        *(_played_line(place, seeds) for place in range(len(seeds[0].validation))),
        "",
        f"Training sessions, means over {WINDOW} steps and over seeds, a session:",
        "",
        "| steps | reward | groups without variance | "
        + " | ".join(name.replace("_", " ") for name in OPERATIONS)
        + " |",
        "|---|" + "--:|" * (2 + len(OPERATIONS)),
        *(_training_line(start, seeds) for start in _places(steps)),
        "",
        "*create*, *read* and *answer* are executed operations; *rejected* are those that the environment refused, "
        "among them whatever is no operation. Two creates a session are one a chunk. *Evidence recall* is the share of "
        "sessions in which the search showed the document that was asked for, word for word. *Groups without variance* "
        "have eight equal rewards and teach nothing; veRL does not log their share, so it comes from `sessions.jsonl`.",
        "",
        f"Wall time: demonstrations, model and SFT {float(made['sft_seconds']) / 60:.1f} minutes; GRPO "
        + ", ".join(f"{seed.seconds / 60:.1f}" for seed in seeds)
        + " minutes a seed, start-up and validations included; a training step "
        + f"{np.median([seed.step_seconds for seed in seeds]):.1f} s (median), on a machine that others use too."
        + (f" {made['note']}" if made["note"] else ""),
    ]
    return "\n".join(parts) + "\n"


def plot(seeds: Sequence[Seed], path: Path) -> None:
    """Reward, held-out exact match and operations against training steps; mean and range over seeds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    steps = [one.step for one in seeds[0].training]
    _band(
        left, steps, np.array([[one.reward for one in seed.training] for seed in seeds]), "#0072b2", "training reward"
    )
    places = [played.step for played in seeds[0].validation]
    em = np.array([[np.mean(played.em) for played in seed.validation] for seed in seeds])
    errors = [_error(np.array([seed.validation[i].em for seed in seeds]).mean(axis=0)) for i in range(len(places))]
    left.errorbar(
        places, em.mean(axis=0), yerr=errors, color="#d55e00", marker="o", capsize=3, label="held-out exact match"
    )
    left.set(xlabel="training step", ylabel="mean over sessions", ylim=(-0.02, 1.02))
    for name, colour in COLOURS.items():
        values = np.array([[one.operations[name] for one in seed.training] for seed in seeds])
        _band(right, steps, values, colour, name)
    right.set(xlabel="training step", ylabel="operations a session", ylim=(0, None))
    for axes in (left, right):
        axes.legend(frameon=False, fontsize=8)
        axes.grid(alpha=0.3)
    figure.suptitle(
        f"GRPO with veRL and vLLM on a CPU, {len(seeds)} seeds (band: range; training: {WINDOW} steps' mean)"
    )
    figure.savefig(path, dpi=150, metadata={"Software": None})
    pyplot.close(figure)


def _band(axes: Any, steps: Sequence[int], values: npt.NDArray[np.float64], colour: str, label: str) -> None:
    """``[seeds][steps]``, smoothed over the steps before."""
    smooth = np.stack([values[:, max(0, end - WINDOW) : end].mean(axis=1) for end in range(1, len(steps) + 1)], axis=1)
    axes.plot(steps, smooth.mean(axis=0), color=colour, label=label)
    axes.fill_between(steps, smooth.min(axis=0), smooth.max(axis=0), color=colour, alpha=0.2, linewidth=0)


def _validation_line(place: int, seeds: Sequence[Seed]) -> str:
    em = np.array([seed.validation[place].em for seed in seeds])
    cells = [f"{one.mean():.3f} ± {_error(one):.3f}" for one in (*em, em.mean(axis=0))]
    return f"| {seeds[0].validation[place].step} | {' | '.join(cells)} |"


def _played_line(place: int, seeds: Sequence[Seed]) -> str:
    played = [seed.validation[place] for seed in seeds]
    cells = [np.mean([one.operations[name] for one in played]) for name in OPERATIONS]
    return f"| {played[0].step} | {' | '.join(f'{cell:.2f}' for cell in cells)} |"


def _training_line(start: int, seeds: Sequence[Seed]) -> str:
    window = [one for seed in seeds for one in seed.training[start : start + WINDOW]]
    cells = [np.mean([one.reward for one in window]), np.mean([one.flat for one in window])]
    cells += [np.mean([one.operations[name] for one in window]) for name in OPERATIONS]
    last = min(start + WINDOW, len(seeds[0].training))
    return f"| {start + 1}–{last} | {' | '.join(f'{cell:.2f}' for cell in cells)} |"


def _places(steps: int) -> list[int]:
    """Where a few windows begin, the first and the last among them."""
    return sorted({int(place) for place in np.linspace(0, max(0, steps - WINDOW), 5)})


def _error(values: npt.NDArray[np.float64]) -> float:
    """The standard error of the mean."""
    return float(values.std(ddof=1) / np.sqrt(len(values)))
