"""Grids over two settings of an environment, such as depth × length of needles, and their heat maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from atommem_gym.errors import ConfigError
from atommem_gym.evaluation.panels import MOST_INCHES, label, wrapped
from atommem_gym.evaluation.plan import EnvPlan
from atommem_gym.evaluation.statistics import LEVEL, Interval
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
    values: Sequence[Sequence[Sequence[Interval | None]]],
    x: str,
    y: str,
    xs: Sequence[float],
    ys: Sequence[float],
    *,
    note: str = "",
) -> Any:
    """A picture with a heat map for each title, side by side; many wrap into rows.

    Args:
        titles: One a map.
        values: ``[map][y][x]``, in [0, 1], each with its interval; ``None`` where nothing was played.
        x: What the columns are.
        y: What the rows are, drawn from the top.
        xs: The columns' values.
        ys: The rows' values.
        note: What else the label says, such as how many episodes a cell has.
    """
    from matplotlib.figure import Figure

    wide = min(0.5 + 0.62 * len(xs), MOST_INCHES - _BESIDE_INCHES)
    columns = max(1, min(len(titles), int((MOST_INCHES - _BESIDE_INCHES) / wide)))
    rows = -(-len(titles) // columns)
    figure = Figure(
        figsize=(wide * columns + _BESIDE_INCHES, (0.9 + 0.42 * len(ys)) * rows + 0.6), layout="constrained"
    )
    panels = list(figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flat)
    image: Any = None
    for axes, title, table in zip(panels, titles, values, strict=False):
        means = [[float("nan") if one is None else one.mean for one in line] for line in table]
        image = axes.imshow(np.asarray(means, np.float64), vmin=0, vmax=1, cmap="viridis", aspect="auto")
        axes.set_title(wrapped(title, int(wide / 0.08)), fontsize=10)
        axes.set_xticks(range(len(xs)), [_short(value) for value in xs], rotation=45)
        axes.set_yticks(range(len(ys)), [_short(value) for value in ys])
        axes.tick_params(labelsize=8, labelbottom=True)
        for row, line in enumerate(table):
            for column, one in enumerate(line):
                if one is not None and not np.isnan(one.mean):
                    _write(axes, column, row, one)
    for axes in panels[len(titles) :]:
        axes.set_axis_off()
    known = any(one is not None and one.known for table in values for line in table for one in line)
    more = [note, f"below {LEVEL * 100:g}\u00a0% intervals" if known else ""]
    label(figure, "; ".join([x, ", ".join(filter(None, more))]) if any(more) else x, y)
    figure.colorbar(image, ax=panels, label="exact match", fraction=0.05, aspect=30)
    return figure


_BESIDE_INCHES = 1.6
"""For the label of the rows and the scale of the colours."""


def _write(axes: Any, column: int, row: int, value: Interval) -> None:
    """The number in its cell, with its interval below."""
    at: dict[str, Any] = {"ha": "center", "color": "black" if value.mean > 0.6 else "white"}
    if not value.known:
        axes.text(column, row, f"{value.mean:.2f}", va="center", fontsize=7, **at)
        return
    axes.text(column, row - 0.16, f"{value.mean:.2f}", va="center", fontsize=7, **at)
    axes.text(column, row + 0.22, f"{value.low:.2f}\u2013{value.high:.2f}", va="center", fontsize=5, **at)


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
