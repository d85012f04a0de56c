"""``atommem data skyrl``: rows in SkyRL's columns name the same items as those for veRL."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.pools import SMALL

from atommem_gym.cli import FAILED, main
from atommem_gym.records.verl_rows import ItemReference
from atommem_gym.registration import configure, load_items, task_of


def write(trainer: str, folder: Path, *more: str) -> int:
    settings = [f"{name}={value}" for name, value in SMALL.items()]
    sizes = ["--train", "6", "--validation", "3"]
    return main(["data", trainer, "Synthetic", "-o", str(folder), *sizes, "--set", *settings, *more])


def test_the_columns_are_those_that_skyrl_reads(tmp_path: Path) -> None:
    assert write("skyrl", tmp_path) == 0
    table = pq.read_table(tmp_path / "train.parquet")
    assert table.schema.names == ["data_source", "prompt", "env_class", "reward_spec", "extra_info"]
    # SkyRL hands a prompt to the chat template: messages with a role and a content, both texts.
    assert table.schema.field("prompt").type == pa.list_(pa.struct({"role": pa.string(), "content": pa.string()}))
    assert set(table["env_class"].to_pylist()) == {"atommem"}
    for one in table.to_pylist():
        (message,) = one["prompt"]
        assert message["role"] == "user"
        assert one["extra_info"]["item"] in message["content"]


def test_the_rows_reference_the_items_that_those_for_verl_do(tmp_path: Path) -> None:
    assert write("skyrl", tmp_path / "skyrl") == write("verl", tmp_path / "verl") == 0
    task = task_of("AtomMem-Synthetic-v0")
    assert task is not None
    for part, count in (("train", 6), ("validation", 3)):
        skyrl, verl = (pq.read_table(tmp_path / name / f"{part}.parquet").to_pylist() for name in ("skyrl", "verl"))
        assert len(skyrl) == count
        for one, other in zip(skyrl, verl, strict=True):
            assert one["extra_info"] == other["extra_info"]
            reference = ItemReference.from_extra_info(one["extra_info"])
            item = load_items(task.name, configure(task.name, reference.env_keywords)).item(reference.index)
            reference.check(item)
            assert one["reward_spec"]["method"] == "environment"
            assert json.loads(one["reward_spec"]["ground_truth"]) == [q.answer for q in item.questions]
    about = json.loads((tmp_path / "skyrl" / "skyrl.json").read_text())
    assert about == json.loads((tmp_path / "verl" / "verl.json").read_text())


def test_D3_validation_that_shares_questions_with_training_is_refused(tmp_path: Path) -> None:
    assert write("skyrl", tmp_path, "--validation-set", "split=train") == FAILED
    assert not list(tmp_path.glob("*.parquet"))


def test_the_bridge_says_in_one_line_what_it_needs() -> None:
    if sys.version_info >= (3, 12) and find_spec("skyrl") is not None:
        pytest.skip("SkyRL is here")
    ran = subprocess.run(
        [sys.executable, "-m", "atommem_gym.bridges.skyrl"], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1
    (line,) = ran.stderr.splitlines()
    assert "Python 3.12" in line
    assert 'pip install "atommem-gym[skyrl]"' in line
