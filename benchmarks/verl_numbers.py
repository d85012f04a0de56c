"""What the documented training runs are made of: rows, updates, tokens, memory, disk. No run, only arithmetic.

    python benchmarks/verl_numbers.py    # in the environment of `make verl-environment`: its veRL composes the runs

Streams are cut as the environment cuts them; the folder of real records is named by ATOMMEM_DATA. Model sizes come from
the published config.json of each model.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tyro
from reports.machine import provenance

from atommem_gym.agents.learn.training_numbers import (
    GIB,
    ModelShape,
    SessionSteps,
    TrainingNumbers,
    one_update,
    training_numbers,
)
from atommem_gym.registration import configure, load_items

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "verl_configs" / "launch"))

QWEN3_8B: Mapping[str, Any] = {
    "model_type": "qwen3",
    "num_hidden_layers": 36,
    "hidden_size": 4096,
    "vocab_size": 151_936,
    "intermediate_size": 12_288,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "tie_word_embeddings": False,
}
QWEN3_06B: Mapping[str, Any] = {
    **QWEN3_8B,
    "num_hidden_layers": 28,
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_attention_heads": 16,
    "tie_word_embeddings": True,
}
RUNS = (
    ("grpo_qwen3_8b", (), QWEN3_8B, {"num_docs": 200}),
    ("grpo_qwen3_8b", (), QWEN3_8B, {"num_docs": 400}),
    ("grpo_qwen3_8b", (), QWEN3_8B, {"num_docs": 800}),
    ("grpo_qwen3_8b", ("recipe=paper",), QWEN3_8B, {"num_docs": 200}),
    ("grpo_qwen3_8b_multinode", (), QWEN3_8B, {"num_docs": 200}),
    ("grpo_qwen3_0.6b_1gpu", (), QWEN3_06B, {"num_docs": 200, "chunk_tokens": 1000}),
    ("grpo_qwen3_0.6b_1gpu", ("adapter=lora",), QWEN3_06B, {"num_docs": 200, "chunk_tokens": 1000}),
)
"""Configuration, overrides, model, and what is played: HotpotQA with these keyword arguments."""


@dataclass
class Options:
    """Write benchmarks/results/verl_numbers.md and .json."""

    items: int = 64
    """Items whose streams are cut."""
    out: Path = ROOT / "benchmarks" / "results"
    """Folder of the results."""


def numbers_of(
    config: str, overrides: tuple[str, ...], model: Mapping[str, Any], keywords: Mapping[str, Any], items: int
) -> tuple[SessionSteps, TrainingNumbers]:
    """Steps and numbers of one run, its mini-batch chosen as ``launch/grpo.sh`` does."""
    from training_numbers import composed  # type: ignore[import-not-found]  # of verl_configs/launch, needs veRL

    source = str(Path(os.environ["ATOMMEM_DATA"]) / "hotpotqa.jsonl")
    resolved = configure("HotpotQA", {"source": source, **keywords})
    steps = SessionSteps.of(load_items("HotpotQA", resolved), resolved, range(items))
    os.environ.pop("ATOMMEM_MINI_BATCH", None)
    os.environ["ATOMMEM_MINI_BATCH"] = str(one_update(steps, composed(config, overrides)))
    return steps, training_numbers(steps, ModelShape.of(model), composed(config, overrides))


def row(name: str, steps: SessionSteps, numbers: TrainingNumbers) -> str:
    """One run as a row of the table."""
    cells = [
        name,
        f"{steps.chunks:.1f}",
        f"{steps.least:.1f}–{steps.most:.1f}",
        f"{numbers.sessions}",
        f"{numbers.rows_least:,}–{numbers.rows_most:,}",
        f"{numbers.mini_batch_rows:,}",
        f"{numbers.updates_most}",
        f"{numbers.tokens_most / 1e6:.1f} M",
        f"{numbers.flop_most:.1e}",
        f"{numbers.training_gpu / GIB:.1f}",
        f"{numbers.host / GIB:.0f}",
        f"{numbers.checkpoints / GIB:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


HEADER = (
    "| run | chunks | steps a session | sessions | rows | rows a mini-batch | updates | tokens at most | "
    "operations at most | GiB a GPU | GiB a node | GiB of disk |"
)


def main(options: Options) -> int:
    """Compute and write; the exit status."""
    if "ATOMMEM_DATA" not in os.environ:
        print("name the folder of hotpotqa.jsonl: ATOMMEM_DATA=…", file=sys.stderr)
        return 1
    for name in ("AGENT_LOOP", "STORE", "EMBEDDER", "SESSIONS", "RUN", "TEMPLATE", "OUT"):
        os.environ.setdefault(f"ATOMMEM_{name}", "unused")
    os.environ.setdefault("VERL_FILE_LOGGER_PATH", "unused")
    found, lines = [], []
    for config, overrides, model, keywords in RUNS:
        steps, numbers = numbers_of(config, overrides, model, keywords, options.items)
        name = " ".join([f"`{config}`", *(f"`{one}`" for one in overrides)])
        played = f"{keywords['num_docs']} documents" + (
            f", chunks of {keywords['chunk_tokens']:,}" if "chunk_tokens" in keywords else ""
        )
        lines.append(row(f"{name}, {played}", steps, numbers))
        found.append(
            {
                "config": config,
                "overrides": list(overrides),
                "keywords": dict(keywords),
                "steps": steps.as_json(),
                "numbers": asdict(numbers),
            }
        )
    about = provenance("python benchmarks/verl_numbers.py", ("atommem-gym", "verl"))
    text = [
        "# What the documented training runs are made of",
        "",
        "Arithmetic, not measured on a GPU: a training step of GRPO on HotpotQA, one question an episode, with the",
        "mini-batch that makes it one optimizer update. Memory of a GPU is that while it trains (weights, gradients,",
        "moments, logits, checkpointed activations); that of a node is for what is offloaded.",
        "",
        HEADER,
        "|---|" + "--:|" * 11,
        *lines,
        "",
        f"`{about['command']}`, {about['date']}, {about['versions']}, Python {about['python']}; {options.items} items "
        "of the records that ATOMMEM_DATA names.",
    ]
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "verl_numbers.md").write_text("\n".join(line.rstrip() for line in text) + "\n", encoding="utf-8")
    (options.out / "verl_numbers.json").write_text(
        json.dumps({"about": about, "runs": found}, indent=1) + "\n", encoding="utf-8"
    )
    print("\n".join([HEADER, *lines]))
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options)))
