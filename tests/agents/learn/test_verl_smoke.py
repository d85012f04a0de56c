"""The scripts around veRL that need no veRL: the check of a smoke run, the preflight, the shell scripts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

CONFIGS = Path(__file__).resolve().parents[3] / "verl_configs"


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(CONFIGS / "cpu"))
    import atommem_verl_cpu.check

    return atommem_verl_cpu.check


def session(step: int, uid: str, reward: float, **changes: Any) -> dict[str, Any]:
    one = {"part": "train", "global_step": step, "uid": uid, "item": uid, "shuffle_seed": 0, "reward": reward}
    return {**one, "em": 0.0, "rejected": 1.0, "op_create": 2.0, "op_read": 1.0, **changes}


def run_of(steps: int = 2) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    sessions = [session(s, f"{s}{p}", 0.1 * m) for s in range(1, steps + 1) for p in "ab" for m in range(2)]
    metrics = [{"step": s, "data": {"actor/pg_loss": 0.1, "critic/score/mean": 0.05}} for s in range(1, steps + 1)]
    return [*sessions, session(0, "v", 0.0, part="validation")], metrics


def test_a_good_run_has_no_problems(check: ModuleType) -> None:
    assert check.problems(*run_of(), steps=2, each=4) == []
    assert "| 2 | 0.050 | 0.000 | 3.00 | 1.00 | 0.00 |" in check.table(run_of()[0])


def test_what_went_wrong_is_named(check: ModuleType) -> None:
    sessions, metrics = run_of()
    assert "not 3 x 4" in check.problems(sessions, metrics, steps=3, each=4)[0]
    other = [{**sessions[0], "shuffle_seed": 1}, *sessions[1:]]
    assert check.problems(other, metrics, steps=2, each=4) == ["members of a group met different episodes"]
    lost = [metrics[0], {"step": 2, "data": {"actor/pg_loss": float("nan"), "critic/score/mean": 0.5}}]
    found = check.problems(sessions, lost, steps=2, each=4)
    assert [one.split()[0] for one in found] == ["losses", "step"]


def test_finding_5_2_what_a_run_logs_is_compared_with_what_was_told(check: ModuleType) -> None:
    numbers = SimpleNamespace(
        rows_least=12, rows_most=20, updates_least=1, updates_most=2, tokens_most=900, mini_batch_rows=16
    )
    asked: list[list[str]] = []

    def told(items: list[str]) -> Any:
        asked.append(items)
        return numbers

    def found(**changes: Any) -> list[str]:
        sessions = [{**one, "steps": 4.0} for one in check.latest(run_of(steps=1)[0])]
        data = {"training/rows": 16, "training/updates": 1, "perf/total_num_tokens": 800, **changes}
        problems: list[str] = check.number_problems(
            sessions, [{"step": 0, "data": {}}, {"step": 1, "data": data}], told
        )
        return problems

    assert found() == []
    assert asked == [["1a", "1a", "1b", "1b"]]
    assert found(**{"training/rows": 15}) == ["step 1: 15 rows, but sessions with 16 steps in all"]
    assert found(**{"training/updates": 3}) == ["step 1: training/updates is 3, told were 1 to 2"]
    assert found(**{"perf/total_num_tokens": 901}) == ["step 1: perf/total_num_tokens is 901, told were 1 to 900"]
    assert len(found(**{"training/rows": 21})) == 2


def test_the_loss_of_sft_must_fall(check: ModuleType) -> None:
    def lines(*losses: float) -> list[dict[str, Any]]:
        return [{"step": i, "data": {"train/loss": loss}} for i, loss in enumerate(losses)]

    assert check.sft_problems([*lines(7.5, 7.7, 4.0), {"step": 3, "data": {"val/loss": 5.0}}]) == []
    for losses in ((), (7.5,), (7.5, 7.6), (7.5, float("nan"), 4.0)):
        (found,) = check.sft_problems(lines(*losses))
        assert found.startswith("losses of SFT")


def test_the_preflight_says_what_is_missing(tmp_path: Path) -> None:
    script = CONFIGS / "launch" / "preflight.py"
    command = [sys.executable, str(script), "--host-gib", "1e6", "--file", str(tmp_path / "train.parquet")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "FAIL" in done.stdout
    assert "train.parquet does not exist" in done.stdout
    assert "(wanted 1000000)" in done.stdout


def test_the_throughput_table_leaves_the_first_step_out(tmp_path: Path) -> None:
    def step(number: int, gen: float, whole: float) -> str:
        timing = {"timing_s/gen": gen, "timing_s/update_actor": 1.0, "timing_s/step": whole}
        lengths = {"perf/total_num_tokens": 400, "prompt_length/mean": 30.0, "response_length/mean": 10.0}
        return json.dumps({"step": number, "data": timing | lengths}) + "\n"

    log = tmp_path / "metrics.jsonl"
    log.write_text(json.dumps({"step": 0, "data": {"val-core/acc": 0.1}}) + "\n" + step(1, 90.0, 99.0))
    command = [sys.executable, str(CONFIGS / "launch" / "throughput.py"), str(log)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert "no training step after the first 1" in done.stderr
    with log.open("a") as file:
        file.writelines(step(number, 2.0, 4.0) for number in (2, 3))
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    assert "2 steps of 4.0 s" in said
    for row in ("| gen | 2.00 | 50% |", "| update_actor | 1.00 | 25% |", "| the rest | 1.00 | 25% |"):
        assert row in said
    # A quarter of the tokens are sampled.
    assert "generation and environments | 50 |" in said
    assert "the time for updates | 400 |" in said
    assert "the whole step | 100 |" in said


SCRIPTS = sorted([*CONFIGS.rglob("*.sh"), *(CONFIGS.parent / "benchmarks").glob("*.sh")])


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shell_scripts_parse_and_say_what_they_need(script: Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True, timeout=30)
    if script.name in ("environment.sh", "embedding_server.sh"):  # sourced by others
        return
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ATOMMEM")}
    done = subprocess.run(
        ["bash", str(script)], capture_output=True, text=True, timeout=30, env=environment, check=False
    )
    assert done.returncode != 0
    assert "usage" in done.stderr or "folder" in done.stderr


def test_the_facts_of_the_easy_task_are_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(CONFIGS / "cpu"))
    from atommem_verl_cpu.ledger import NAMES, THINGS, records

    facts: dict[str, set[tuple[str, str]]] = {}
    for part in ("train", "validation"):
        made = records(part, 300, documents=6)
        assert made == records(part, 300, documents=6)
        for record in made:
            people = [title for title, _ in record["context"]]
            things = [sentences[0].removesuffix(".") for _, sentences in record["context"]]
            assert (len(set(people)), len(set(things))) == (6, 6)
            assert record["question"] == f"What has {people[0]}?"
            assert record["answer"] == things[0]
            facts.setdefault(part, set()).update(zip(people, things, strict=True))
    assert not facts["train"] & facts["validation"]
    for seen in facts.values():
        assert {name for name, _ in seen} == set(NAMES)
        assert {thing for _, thing in seen} == set(THINGS)


def test_the_tokenizer_of_whole_words_keeps_tags_and_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers", reason="needs torch and transformers: pip install 'atommem-gym[llm]'")
    pytest.importorskip("torch")
    import pyarrow as pa
    import pyarrow.parquet as pq

    from atommem_gym.actions import Create, parse

    monkeypatch.syspath_prepend(str(CONFIGS / "cpu"))
    from atommem_verl_cpu.tiny_model import whole_words

    said = "<create>Ada\nlamp.</create>"
    chat = [{"role": "user", "content": "What has Ada?\n[1] Ben"}, {"role": "assistant", "content": said}]
    pq.write_table(pa.table({"messages": [chat]}), tmp_path / "chats.parquet")
    tokenizer = whole_words([tmp_path / "chats.parquet"])
    ids = tokenizer(said)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == ["<create>", "Ada", "lamp", ".", "</create>"]
    assert parse(tokenizer.decode([*ids, tokenizer.eos_token_id], skip_special_tokens=True)) == [Create("Ada lamp .")]
    assert tokenizer.tokenize("\n") == ["\n"]
    assert tokenizer.tokenize("What is it") == ["What", "<unk>", "<unk>"]
