"""Grids over two settings of an environment, such as depth × length of needles, and their heat maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from atommem_gym.errors import ConfigError
from atommem_gym.evaluation.plan import EnvPlan
from atommem_gym.registration import resolve_env_id


@dataclass(frozen=True, slots=True)
class Grid:
    """Environments of one id that differ only in two numeric settings, one for every pair of values."""

    env_id: str
    """Gymnasium id of the environments."""
    x: str
    """Name of the setting with the greater maximum, such as ``length``."""
    y: str
    """Name of the other setting, such as ``depth``."""
    labels: Mapping[tuple[float, float], str]
    """Label of the environment by the values of ``x`` and ``y``."""

    @property
    def xs(self) -> list[float]:
        """The values of ``x``, ascending."""
        return sorted({x for x, _ in self.labels})

    @property
    def ys(self) -> list[float]:
        """The values of ``y``, ascending."""
        return sorted({y for _, y in self.labels})


def expand(envs: Sequence[Mapping[str, Any]], grid: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Repeat every environment for every combination of the grid's values, which become part of its label.

    >>> [env["label"] for env in expand([{"id": "Needle"}], {"depth": [0, 1], "length": [4000]})]
    ['Needle depth=0 length=4000', 'Needle depth=1 length=4000']

    Args:
        envs: Environments as a plan's plain values, each with ``id`` and perhaps ``label`` and ``settings``.
        grid: Values by the name of a setting.

    Raises:
        ConfigError: an environment has a setting of the grid already.
    """
    expanded = []
    for env in envs:
        settings = dict(env.get("settings") or {})
        for name in grid.keys() & settings.keys():
            raise ConfigError(f"--grid {name} and {name}={settings[name]!r} contradict each other; give one of them")
        label = env.get("label") or resolve_env_id(str(env["id"])).removeprefix("AtomMem-").rpartition("-v")[0]
        for values in product(*grid.values()):
            chosen = dict(zip(grid, values, strict=True))
            name = " ".join([label, *(f"{key}={value}" for key, value in chosen.items())])
            expanded.append({**env, "label": name, "settings": {**settings, **chosen}})
    return expanded


def find_grids(envs: Sequence[EnvPlan]) -> list[Grid]:
    """The grids among the environments of a plan, at most one per id."""
    grids = []
    for env_id in dict.fromkeys(env.id for env in envs):
        own = [env for env in envs if env.id == env_id]
        names = dict.fromkeys(name for env in own for name in env.settings)
        varying = [name for name in names if len({repr(env.settings.get(name)) for env in own}) > 1]
        if len(varying) != 2 or not all(_number(env.settings.get(name)) for env in own for name in varying):
            continue
        y, x = sorted(varying, key=lambda name: max(float(env.settings[name]) for env in own))
        labels = {(float(env.settings[x]), float(env.settings[y])): env.label for env in own}
        if len(labels) == len({key[0] for key in labels}) * len({key[1] for key in labels}):
            grids.append(Grid(env_id, x, y, labels))
    return grids


def heat_maps(
    titles: Sequence[str],
    values: Sequence[Sequence[Sequence[float]]],
    x: str,
    y: str,
    xs: Sequence[float],
    ys: Sequence[float],
) -> Any:
    """A picture with a heat map for each title.

    Args:
        titles: One a map.
        values: ``[map][y][x]``, in [0, 1]; NaN where nothing was played.
        x: What the columns are.
        y: What the rows are, drawn from the top.
        xs: The columns' values.
        ys: The rows' values.
    """
    import matplotlib.pyplot as plt

    width = 1.6 + len(titles) * (0.9 + 0.55 * len(xs))
    figure, panels = plt.subplots(
        1, len(titles), figsize=(width, 1.6 + 0.42 * len(ys)), squeeze=False, sharey=True, layout="constrained"
    )
    image = None
    for axes, title, table in zip(panels[0], titles, values, strict=True):
        image = axes.imshow(np.asarray(table, np.float64), vmin=0, vmax=1, cmap="viridis", aspect="auto")
        axes.set_title(title)
        axes.set_xticks(range(len(xs)), [_short(value) for value in xs], rotation=45)
        axes.set_yticks(range(len(ys)), [_short(value) for value in ys])
        axes.set_xlabel(x)
        for row, line in enumerate(table):
            for column, value in enumerate(line):
                if not np.isnan(value):
                    colour = "black" if value > 0.6 else "white"
                    axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=7)
    panels[0][0].set_ylabel(y)
    figure.colorbar(image, ax=list(panels[0]), label="exact match")
    return figure


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _short(value: float) -> str:
    """A number as an axis shows it.

    >>> _short(0.25), _short(4000.0), _short(1e6)
    ('0.25', '4k', '1M')
    """
    for size, unit in ((1_000_000, "M"), (1_000, "k")):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"
