"""Batches infos in the form of Gymnasium's vector environments, column by column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def batch_infos(infos: Sequence[Mapping[str, Any]], numbers: Sequence[int], num_envs: int) -> dict[str, Any]:
    """The result of ``gymnasium.vector.VectorEnv._add_info`` for each info in turn, several times as fast.

    Args:
        infos: Infos of single environments; numbers in them are Python's.
        numbers: The number of the environment of each, ``[len(infos)]``.
        num_envs: Number of environments.

    >>> infos = batch_infos([{"entries": 3}, {"entries": 5, "item": "a/1"}], [0, 2], 3)
    >>> infos["entries"].tolist(), infos["_entries"].tolist(), infos["item"].tolist()
    ([3, 0, 5], [True, False, True], [None, None, 'a/1'])
    """
    batch: dict[str, Any] = {}
    for key in dict.fromkeys(key for info in infos for key in info):
        rows = [number for number, info in zip(numbers, infos, strict=True) if key in info]
        values = [info[key] for info in infos if key in info]
        mask = np.zeros(num_envs, np.bool_)
        mask[rows] = True
        batch[key], batch[f"_{key}"] = _column(key, values, rows, num_envs), mask
    return batch


def _column(key: str, values: Sequence[Any], rows: Sequence[int], num_envs: int) -> Any:
    kind = type(values[0])
    if kind is dict and key != "final_obs":
        return batch_infos(values, rows, num_envs)
    # A count may be None.
    if kind in (float, bool) or (kind is int and all(type(value) is int for value in values)):
        numbers = np.zeros(num_envs, kind)
        numbers[rows] = values
        return numbers
    column = np.full(num_envs, None, object)
    for row, value in zip(rows, values, strict=True):
        column[row] = value
    return column
