"""Makes the numbers of ``credit.py`` readable: exact match with intervals, paired differences, curves with bands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from workloads.credit import ARMS, Trained

from reports.ppo import interval

COLOURS = dict(zip(ARMS, ("#000000", "#0072b2", "#d55e00"), strict=True))
"""Of Okabe and Ito's palette, which colour-blind readers can tell apart."""
PLAIN = next(iter(ARMS))
"""The arm that the others are compared with."""


def markdown(
    trained: Sequence[Trained],
    random: Mapping[str, Sequence[float]],
    settings: Mapping[str, Any],
    made: Mapping[str, str],
) -> str:
    """The results as a page.

    Args:
        trained: All seeds of all arms and tasks.
        random: Exact match of uniform choices on the test items, by task.
        settings: Of the benchmark.
        made: Date, processor, versions, command.
    """
    seeds, arms = sorted({one.seed for one in trained}), settings["arms"]
    parts = [
        "# Which step earned the reward?",
        "",
        f"PPO over macro-actions (`agents/learn/ppo_episodes.py`), {settings['steps']:,} environment steps a seed, "
        f"those of continuations included, {len(seeds)} seeds. The arms differ only in where the reward goes: to the "
        f"last step, from where a critic carries it back; {arms['hindsight credit']['hindsight']:.0%} of it to the "
        "operations that earned it in hindsight (R7); or, besides the first, "
        f"{arms['local groups']['local_groups']} episodes of each rollout are forked where they stand, and each of "
        f"{arms['local groups']['branches']} continuations is compared with the mean of its group. Answers are the "
        "oracle reader's, the reward is exact match, without shaping. The table is exact match on "
        f"{settings['episodes']} items of the split `test`, the same for all; choices are drawn, as in training.",
        "",
        f"{made['date']} · {made['cpu']} · Python {made['python']} · {made['versions']} · `{made['command']}`",
        "",
        "![Exact match on held-out items against training steps](credit.png)",
        "",
        f"| task | arm | EM (95 % interval) | by seed | less `{PLAIN}` | area under the curve "
        "| updates with a reward | local groups without variance |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for task in dict.fromkeys(one.task for one in trained):
        mine = [one for one in trained if one.task == task]
        parts.append(f"| `{task}` | random choices | {np.mean(random[task]):.2f} | | | | | |")
        parts += [_line(task, arm, mine) for arm in ARMS if any(one.arm == arm for one in mine)]
    parts += [
        "",
        "*Updates with a reward* looks at episodes that began with a reset, not at continuations. Differences are "
        "paired by seed and item, intervals are bootstraps over seeds and items. The area under the curve is the mean "
        "of exact match on `validation` over the steps: who learns faster has more of it, also with the same end. "
        + _verdict(trained),
        "",
        f"The tasks are small: {_task(settings)}.",
        "",
        f"{sum(one.cpu_seconds for one in trained) / 60:.0f} processor minutes in all, evaluations included.",
    ]
    return "\n".join(parts) + "\n"


def area(one: Trained) -> float:
    """Mean exact match over the steps of training, between evaluations on a straight line."""
    steps, curve = np.array(one.steps, float), np.array(one.curve)
    return float(((curve[1:] + curve[:-1]) / 2 * np.diff(steps)).sum() / (steps[-1] - steps[0]))


def compared(trained: Sequence[Trained], task: str, arm: str) -> tuple[float, float, float]:
    """How much better an arm is than the plain one, in exact match, with its 95 % interval."""
    ours, plain = ({o.seed: o.test for o in trained if (o.task, o.arm) == (task, name)} for name in (arm, PLAIN))
    both = sorted(ours.keys() & plain.keys())
    return interval([[a - b for a, b in zip(ours[seed], plain[seed], strict=True)] for seed in both])


def plot(trained: Sequence[Trained], random: Mapping[str, Sequence[float]], path: Path) -> None:
    """Learning curves, mean and range over seeds, one picture a task."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    tasks = list(dict.fromkeys(one.task for one in trained))
    figure, grid = pyplot.subplots(1, len(tasks), figsize=(4.6 * len(tasks), 3.6), layout="constrained", squeeze=False)
    for axes, task in zip(grid[0], tasks, strict=True):
        for arm, colour in COLOURS.items():
            seeds = [one for one in trained if (one.task, one.arm) == (task, arm)]
            if not seeds:
                continue
            # Evaluations come after an update, so not at the same step in every seed.
            steps = np.linspace(0, min(one.steps[-1] for one in seeds), 40)
            em = np.array([np.interp(steps, one.steps, one.curve) for one in seeds])
            axes.plot(steps, em.mean(0), color=colour, label=f"{arm}, {len(seeds)} seeds")
            axes.fill_between(steps, em.min(0), em.max(0), color=colour, alpha=0.15, linewidth=0)
        axes.axhline(np.mean(random[task]), color="#999999", linestyle="--", linewidth=1, label="random choices, test")
        axes.set(xlabel="environment steps", ylabel="exact match, held-out items", ylim=(-0.02, 1.02), title=task)
        axes.legend(frameon=False, fontsize=8)
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=150, metadata={"Software": None})
    pyplot.close(figure)


def _line(task: str, arm: str, trained: Sequence[Trained]) -> str:
    seeds = sorted((one for one in trained if one.arm == arm), key=lambda one: one.seed)
    mean, low, high = interval([one.test for one in seeds])
    flat = [one.flat_groups for one in seeds if one.flat_groups is not None]
    difference = "" if arm == PLAIN else "{:+.2f} ({:+.2f} to {:+.2f})".format(*compared(trained, task, arm))
    cells = [
        f"`{task}`",
        arm,
        f"{mean:.2f} ({low:.2f}–{high:.2f})",
        " ".join(f"{np.mean(one.test):.2f}" for one in seeds),
        difference,
        f"{np.mean([area(one) for one in seeds]):.3f}",
        f"{np.mean([one.rewarded for one in seeds]):.2f}",
        f"{np.mean(flat):.2f}" if flat else "",
    ]
    return f"| {' | '.join(cells)} |"


def _verdict(trained: Sequence[Trained]) -> str:
    """Who wins, said by the intervals alone."""
    said = []
    for task in dict.fromkeys(one.task for one in trained):
        for arm in ARMS:
            if arm == PLAIN or not any((one.task, one.arm) == (task, arm) for one in trained):
                continue
            _, low, high = compared(trained, task, arm)
            how = "is better than" if low > 0 else "is worse than" if high < 0 else "cannot be told from"
            said.append(f"on `{task}` {arm} {how} the {PLAIN}")
    return "By these intervals, " + "; ".join(said) + "."


def _task(settings: Mapping[str, Any]) -> str:
    return "; ".join(
        f"`{task}` with " + ", ".join(f"`{name}={value!r}`" for name, value in keywords.items() if name != "store")
        for task, keywords in settings["tasks"].items()
    )
