"""What the page needs of a trace: a small row for the list of episodes, and the steps without what is said twice."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, TypeGuard

Json: TypeAlias = Any
Trace: TypeAlias = Mapping[str, Json]
"""A trace record as JSON values, see ``docs/traces.md``."""
Share: TypeAlias = Callable[[str], Json]


def row(trace: Trace) -> dict[str, Json]:
    """The row of an episode: all that the list shows, sorts and filters by, and no long text."""
    metrics = trace["metrics"]
    steps = trace["steps"]
    completions = [one for step in steps for one in step["completions"]]
    return {
        "env": trace["env"]["id"],
        # What tells cells apart, and what was played: a task may have a setting of its own for the length (Needle's).
        "docs": _count(trace["env"]["keywords"].get("num_docs")),
        "documents": len(trace["documents"]),
        "agent": trace["agent"]["name"],
        "model": _model(trace["agent"]["settings"]),
        **{name: _count(trace["agent"]["settings"].get(name)) for name in ("iteration", "group", "session")},
        "id": trace["id"],
        "branch": trace["branch"],
        "item": trace["item"],
        "index": trace["index"],
        "layout": trace["shuffle_seed"],
        "seed": trace["seed"],
        "em": metrics["em"],
        "f1": metrics["f1"],
        "reward": trace["reward"],
        "steps": len(steps),
        "entries": metrics["peak_entries"],
        "rejected": metrics["rejected"],
        "recall": metrics["evidence_recall"],
        "seconds": trace["seconds"],
        "tokens": sum((one["prompt_tokens"] or 0) + (one["completion_tokens"] or 0) for one in completions),
        "rescores": [{"scorer": one["scorer"], "reward": one["reward"]} for one in trace["rescores"]],
        "truncated": steps[-1]["truncated"],
        # Where no answer is known, as in `atommem ask`, nothing can be said to have failed.
        "causes": [
            (cause or "") if _gold(question) or not answer.get("answerable", True) else ""
            for question, cause, answer in zip(trace["questions"], trace["causes"], metrics["answers"], strict=True)
        ],
        "questions": [
            {
                "question": question["question"],
                "gold": _gold(question) if answer.get("answerable", True) else [NO_ANSWER],
                **{name: answer[name] for name in ("answer", "closed", "em", "f1", "score")},
            }
            for question, answer in zip(trace["questions"], metrics["answers"], strict=True)
        ],
    }


def detail(trace: Trace, share: Share) -> dict[str, Json]:
    """What is shown of an episode once it is chosen.

    Args:
        trace: The record.
        share: Replaces a text by what stands for it in the page.
    """
    earned = _credits(trace["steps"][-1]["info"].get("credit"))
    return {
        "started": trace["started"],
        "versions": trace["versions"],
        "keywords": {**trace["env"]["keywords"], **_named("shaping", trace["env"]["shaping"])},
        "settings": trace["agent"]["settings"],
        "evidence": [
            [{name: piece[name] for name in ("title", "text", "hop_answer")} for piece in question["evidence"]]
            for question in trace["questions"]
        ],
        "initial": [{"id": one["id"], "text": share(one["text"])} for one in trace["initial_memory"]["entries"]],
        "steps": [_step(step, share, earned.get(number, {})) for number, step in enumerate(trace["steps"])],
        "final": _observation(trace["final_observation"], share),
    }


NO_ANSWER = "(none: the right answer is an abstention)"
"""What stands for the gold answer of a question that has none (SPEC R5)."""


def is_number(value: Json) -> TypeGuard[int | float]:
    """Whether a value of a stranger's file is a number to calculate with; bools, and what a sum may not hold, are not.

    >>> [is_number(value) for value in (1, 0.5, True, 10**400, 1e301, float("nan"), "1", None)]
    [True, True, False, False, False, False, False, False]
    """
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= _MOST


_MOST = 1e300
"""So many that a file has room for still have a sum; NaN is not below it."""


def _count(value: Json) -> int | None:
    """A record may hold anything where keyword arguments and settings stand."""
    return value if type(value) is int else None


def _model(settings: Trace) -> str | None:
    model = settings.get("model")
    return model if isinstance(model, str) else None


def _named(name: str, value: Json) -> dict[str, Json]:
    return {name: value} if value else {}


def _gold(question: Trace) -> list[str]:
    return [gold for gold in (question["answer"], *question["aliases"]) if gold]


def _credits(told: Json) -> dict[int, dict[int, float]]:
    """What each operation earned, by step and position, where the last step's info says it (``HindsightCredit``)."""
    found: dict[int, dict[int, float]] = {}
    operations = told.get("operations") if isinstance(told, Mapping) else None
    # An info may hold anything.
    for one in operations if isinstance(operations, Sequence) and not isinstance(operations, str) else ():
        if not isinstance(one, Mapping):
            continue
        step, position, credit = one.get("step"), one.get("position"), one.get("credit")
        if type(step) is int and type(position) is int and is_number(credit):
            found.setdefault(step, {})[position] = float(credit)
    return found


def _step(step: Trace, share: Share, earned: Mapping[int, float]) -> dict[str, Json]:
    action, response, memory, messages = step["action"], step["response"], step["memory"], step["messages"]
    return {
        "seen": _observation(step["observation"], share),
        "messages": messages and [{"role": one["role"], "content": share(one["content"])} for one in messages],
        "action": share(action),
        # A scripted agent's response is its action; a model's may hold more, such as its reasoning.
        "response": share(response) if response and response != action else None,
        "operations": [
            {
                **{name: share(value) if isinstance(value, str) else value for name, value in one.items()},
                **({"credit": earned[one["position"]]} if one["position"] in earned else {}),
            }
            for one in step["operations"]
        ],
        "created": [{"id": one["id"], "text": share(one["text"])} for one in memory["created"]],
        "updated": [
            {"id": one["id"], "before": share(one["before"]), "after": share(one["after"])} for one in memory["updated"]
        ],
        "deleted": [{"id": one["id"], "text": share(one["text"])} for one in memory["deleted"]],
        "scratchpad": _scratchpad(memory["scratchpad"], share),
        "reward": step["reward"],
        "over": "terminated" if step["terminated"] else "truncated" if step["truncated"] else None,
        "completions": [{**one, "reasoning": share(one["reasoning"])} for one in step["completions"]],
        "dropped": step["dropped"],
        "seconds": step["seconds"],
        **_readings(step.get("reader") or (), share),
    }


def _readings(readings: Sequence[Trace], share: Share) -> dict[str, Json]:
    """What a frozen reader saw and said (SPEC E13), where one answered."""
    shown = [
        {
            "question": share(one["question"]),
            "ids": [entry["id"] for entry in one["memories"]],
            "answer": share(one["answer"]),
        }
        for one in readings
    ]
    return {"reader": shown} if shown else {}


def _observation(observation: Trace, share: Share) -> dict[str, Json]:
    return {
        "phase": observation["phase"],
        "progress": observation["progress"],
        "question": observation["question"],
        "chunk": share(observation["chunk"]),
        "scratchpad": share(observation["scratchpad"]),
        "query": observation["query"],
        "memories": [
            {"id": one["id"], "text": share(one["text"]), "score": one["score"]} for one in observation["memories"]
        ],
        "feedback": observation["feedback"],
        "reads_left": observation["reads_left"],
        "steps_left": observation["steps_left"],
    }


def _scratchpad(change: Trace | None, share: Share) -> dict[str, Json] | None:
    return None if change is None else {"before": share(change["before"]), "after": share(change["after"])}
