"""The comparison of two runs as the viewer shows it in front, with the items at which one is better."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from atommem_gym.errors import counted
from atommem_gym.evaluation.folder import EvaluationError, read_run
from atommem_gym.evaluation.paired import Comparison, Pair, compare, item_pairs
from atommem_gym.evaluation.statistics import LEVEL, RESAMPLES, p_text


def comparison_front(
    comparison: Comparison,
    pairs: list[tuple[tuple[str, str], Pair]],
    names: tuple[str, str],
    places: tuple[int, int] = (0, 1),
) -> dict[str, Any]:
    """What the page is told of a comparison.

    Args:
        comparison: Of two runs.
        pairs: Its items.
        names: Of the runs, as the page calls them.
        places: Of the runs in the page.
    """
    return {
        "metric": comparison.metric,
        "names": names,
        "runs": places,
        "warnings": comparison.warnings,
        "rows": [
            {
                **{name: getattr(row, name) for name in ("env", "agents", "pairs", "a", "b")},
                "docs": row.size,
                **{name: getattr(row, name) for name in ("wins", "losses", "ties")},
                "difference": row.difference.text(3),
                "p": p_text(row.permutation_p),
            }
            for row in comparison.rows
        ],
        "items": [
            {
                "env": pair.unit.env,
                "docs": pair.unit.docs,
                "agents": agents,
                "index": pair.unit.index,
                "layout": pair.unit.shuffle_seed,
                "a": pair.a,
                "b": pair.b,
            }
            for agents, pair in pairs
        ],
        "notes": [
            f"{counted(comparison.pairs, 'pair')}, matched by environment, documents, item, layout and questions; "
            f"seeds are averaged first. In brackets {LEVEL:.0%} percentile bootstrap intervals over items "
            f"({RESAMPLES:,} resamples); better, worse and equal count items."
        ],
    }


def runs_compared(a: Path, b: Path, names: tuple[str, str]) -> dict[str, Any]:
    """The front of two runs' comparison by exact match; where they cannot be compared it says why.

    Raises:
        ConfigError: a plan is wrong.
    """
    try:
        runs = read_run(a), read_run(b)
        return comparison_front(compare(*runs), item_pairs(*runs), names)
    except EvaluationError as error:
        empty: dict[str, Any] = {name: [] for name in ("warnings", "rows", "items", "notes")}
        return {"metric": "em", "names": names, "runs": (0, 1), "why": str(error), **empty}
