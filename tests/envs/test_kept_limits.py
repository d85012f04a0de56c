"""Going on with a kept memory under limits that it exceeds raises, and names the limit (SPEC M16)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from atommem_gym.envs import SyntheticEnv
from atommem_gym.errors import ConfigError


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"max_entries": 1}, "has 2 entries, which exceeds max_entries=1"),
        ({"max_entry_tokens": 3}, "has 4 tokens in an entry, which exceeds max_entry_tokens=3"),
        # `make` itself refuses a read limit below the entry limit.
        ({"max_entry_tokens": 2, "max_memory_tokens": 3}, "max_entry_tokens=2"),
        ({"max_scratchpad_tokens": 2}, "has 3 tokens in the scratchpad, which exceeds max_scratchpad_tokens=2"),
    ],
)
def test_M16_finding_3_7_a_memory_over_a_limit_is_not_gone_on_with(
    tmp_path: Path, limits: dict[str, Any], said: str
) -> None:
    store = f"milvus://{tmp_path}/kept.db"
    env = SyntheticEnv(num_docs=20, store=store)
    env.reset(seed=0)
    env.step("<create>one two three four</create><create>five</create><scratchpad>a b c</scratchpad>")
    key = env.memory_key
    env.close()
    small = SyntheticEnv(num_docs=20, store=store, **limits)
    with pytest.raises(ConfigError, match=said) as raised:
        small.reset(seed=0, options={"memory": key})
    assert "or more" in str(raised.value)
    small.close()
    # At the limit it goes on, and the refused reset has left the memory free.
    exact = SyntheticEnv(
        num_docs=20, store=store, max_entries=2, max_entry_tokens=4, max_memory_tokens=4, max_scratchpad_tokens=3
    )
    observation, info = exact.reset(seed=0, options={"memory": key})
    assert (info["entries"], observation["scratchpad"]) == (2, "a b c")
    assert exact.step("<read>one two</read>")[0]["memories"][0]["text"] == "one two three four"
    exact.close()
