"""Rows for SkyRL: the same references as :mod:`~atommem_gym.records.verl_rows`, in the columns that SkyRL reads."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from atommem_gym.records import verl_rows
from atommem_gym.records.record import Item
from atommem_gym.records.verl_rows import ItemReference

ENV_CLASS = "atommem"
"""The name under which SkyRL groups the metrics of what plays the rows."""

SCHEMA = pa.schema(
    {
        "data_source": pa.string(),
        "prompt": verl_rows.SCHEMA.field("prompt").type,
        "env_class": pa.string(),
        "reward_spec": pa.struct({"method": pa.string(), "ground_truth": pa.string()}),
        "extra_info": verl_rows.SCHEMA.field("extra_info").type,
    }
)
"""What SkyRL's ``PromptDataset`` reads. ``env_keywords`` is JSON; ``prompt`` only names the item, for SkyRL's logs."""


def row(reference: ItemReference, item: Item, data_source: str) -> dict[str, Any]:
    """One row for SkyRL; its arguments are those of :func:`~atommem_gym.records.verl_rows.row`."""
    verl = verl_rows.row(reference, item, data_source)
    model = verl["reward_model"]
    return {
        "data_source": verl["data_source"],
        "prompt": verl["prompt"],
        "env_class": ENV_CLASS,
        "reward_spec": {"method": model["style"], "ground_truth": model["ground_truth"]},
        "extra_info": verl["extra_info"],
    }
