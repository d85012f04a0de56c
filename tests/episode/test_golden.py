"""Golden traces (``golden``): whole episodes worked out by hand, replayed on every store, compared as a diff."""

from __future__ import annotations

import copy
import difflib
import sys
from pathlib import Path
from typing import Any

import pytest
from support.fixed_items import fixed_gym

from atommem_gym.records.record import Document, Record

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it along

FOLDER = Path(__file__).parent / "golden"
TRACES = sorted(FOLDER.glob("*.toml"))
STORES: dict[str, dict[str, Any]] = {
    "numpy": {"store": "numpy"},
    "milvus": {"store": "milvus"},
    "milvus answering": {"store": "milvus", "store_reads": "milvus"},
}
LASTING = ("chunk", "question", "scratchpad", "query", "shown", "entries", "reads_left")
"""What a step does not mention is as it was before."""
PASSING: dict[str, Any] = {"applied": {}, "rejected": [], "feedback": [], "reward": 0.0, "ends": ""}
"""What a step does not mention did not happen."""
OPTIONAL = ("chunk_text", "shown_texts")
KEYS = {"action", "times", *LASTING, *PASSING, *OPTIONAL}


def load(path: Path) -> dict[str, Any]:
    trace: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    return trace


def lines(facts: dict[str, Any]) -> list[str]:
    """One line a fact; texts, ids and numbers as Python writes them."""
    return [f"  {name}: {facts[name]!r}" for name in sorted(facts)]


def expected(trace: dict[str, Any]) -> list[str]:
    """The trace as text, everything that steps leave out filled in."""
    start = dict(trace["start"])
    steps_left = start.pop("steps_left")
    now = {"chunk": 0, "scratchpad": "", "query": "", "shown": [], "entries": {}, **start}
    unknown = set(start) - KEYS
    text = ["start", *lines({**PASSING, **now, "steps_left": steps_left})]
    for number, step in enumerate(trace["steps"], 1):
        unknown |= set(step) - KEYS
        now = {name: now[name] for name in LASTING} | {
            name: step[name] for name in step if name not in ("action", "times")
        }
        for i in range(step.get("times", 1)):
            steps_left -= 1
            facts = {**PASSING, **now, "steps_left": steps_left}
            facts["entries"] = {int(key): value for key, value in facts["entries"].items()}
            facts["reward"] = round(facts["reward"], 12)
            text += [f"step {number}{f' ({i + 1})' if i else ''}: {step['action']!r}", *lines(facts)]
    assert not unknown, f"unknown keys {sorted(unknown)}; known are {sorted(KEYS)}"
    return text


def played(trace: dict[str, Any], **store: Any) -> list[str]:
    """The same text from a real environment."""
    documents = [Document(**document) for document in trace["documents"]]
    questions = [
        Record(str(i), q["question"], q["answers"][0], tuple(documents), (), (), tuple(q["answers"][1:]))
        for i, q in enumerate(trace["questions"])
    ]
    env = fixed_gym(questions, documents, **trace["settings"], **store)
    optional = [[name for name in OPTIONAL if name in trace["start"]]]
    observation, info = env.reset(seed=0)
    text = ["start", *lines(seen(env, observation, info, 0.0, "", optional[0]))]
    for number, step in enumerate(trace["steps"], 1):
        for i in range(step.get("times", 1)):
            observation, reward, terminated, truncated, info = env.step(step["action"])
            ends = "terminated" * terminated + "truncated" * truncated
            text.append(f"step {number}{f' ({i + 1})' if i else ''}: {step['action']!r}")
            text += lines(seen(env, observation, info, float(reward), ends, [n for n in OPTIONAL if n in step]))
    env.close()
    return text


def seen(
    env: Any, observation: dict[str, Any], info: dict[str, Any], reward: float, ends: str, optional: list[str]
) -> dict[str, Any]:
    memories = observation["memories"]
    chunk, chunks = observation["progress"].tolist()
    assert observation["phase"] == (chunk == chunks)
    entries = {i: entry.text for i, entry in sorted(env.unwrapped.episode.state.memory.entries.items())}
    assert info["entries"] == len(entries)
    facts = {
        "applied": {kind: count for kind, count in info["applied"].items() if count},
        "rejected": [[r["operation"], r["position"], r["reason"]] for r in info["rejected"]],
        "feedback": observation["feedback"].split("\n") if observation["feedback"] else [],
        "reward": round(reward, 12),
        "ends": ends,
        "chunk": chunk,
        "question": observation["question"],
        "scratchpad": observation["scratchpad"],
        "query": observation["query"],
        "shown": [m["id"] for m in memories],
        "entries": entries,
        "reads_left": observation["reads_left"],
        "steps_left": observation["steps_left"],
    }
    also = {"chunk_text": observation["chunk"], "shown_texts": [m["text"] for m in memories]}
    return facts | {name: also[name] for name in optional}


def difference(path: Path, ours: list[str], theirs: list[str]) -> str:
    found = "\n".join(difflib.unified_diff(ours, theirs, str(path.name), "the environment", lineterm="", n=14))
    return f"the environment no longer does what {path.name} says (see tests/episode/golden/README.md):\n{found}"


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("path", TRACES, ids=lambda path: path.stem)
def test_golden_trace(path: Path, store: str) -> None:
    trace = load(path)
    said, done = expected(trace), played(trace, **STORES[store])
    if said != done:
        pytest.fail(difference(path, said, done), pytrace=False)


def test_there_are_traces_of_both_presets() -> None:
    presets = [load(path)["settings"].get("preset", "paper") for path in TRACES]
    assert presets.count("released") >= 5
    assert presets.count("paper") >= 3


def test_a_difference_is_shown_as_a_readable_diff() -> None:
    path = FOLDER / "released_reading.toml"
    trace = load(path)
    other = copy.deepcopy(trace)
    other["settings"]["sticky_query"] = False
    said, done = expected(trace), played(other)
    assert said != done
    text = difference(path, said, done)
    assert "-  shown: [2, 3, 1]" in text
    assert "+  shown: []" in text
    assert "step 3: '<add_memory>boats</add_memory>" in text
