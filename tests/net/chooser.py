"""A scripted policy: what it does depends on its seed, the number of the step and what it is shown, on nothing else."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping
from typing import Any

STYLES: dict[str, dict[str, int]] = {
    "busy": {"create": 6, "read": 3, "update": 3, "delete": 2, "scratchpad": 2, "broken": 1, "long": 1, "think": 1},
    "careless": {
        "create": 3,
        "read": 1,
        "update": 2,
        "delete": 2,
        "scratchpad": 1,
        "broken": 8,
        "empty": 2,
        "think": 2,
    },
    "reader": {"create": 4, "read": 7, "update": 1, "delete": 1, "scratchpad": 1, "long": 1},
    "hasty": {"create": 5, "read": 2, "update": 2, "delete": 1, "scratchpad": 1, "answer": 4, "empty": 1},
    "keeper": {"keep": 12, "read": 3, "update": 1, "delete": 2, "scratchpad": 1},
    "mute": {"keep": 3, "create": 2, "read": 2, "update": 2, "delete": 1, "scratchpad": 1},
}
"""How often each style does what; all but the mute one answer more and more often once they are asked."""

_UGLY = "naïve 東京 😀 \x00 \ud800 </x> & &amp; \u2028 “quoted” \\n"
BROKEN: dict[str, tuple[str, ...]] = {
    "crud": (
        "<create>never closed",
        "<creat>nearly a tag</creat>",
        '<update id="one">no number</update>',
        "<update>no id</update>",
        '<delete id="99"/>',
        '<delete id="1"></delete>',
        "<CREATE>upper case</CREATE>",
        "<create>outer <create>inner</create>",
        "<create>holds <read>another tag</read></create>",
        "<think><create>only a thought</create></think>",
        "</think><create>after a thought begun elsewhere</create>",
        '<update id="123456789012345678901234567890">too many digits</update>',
        "<add_memory>of another dialect</add_memory>",
        f"<create>{_UGLY}</create>",
        "<think>never closed <answer>so this is none</answer>",
    ),
    "tools": (
        '<tool_call>{"name": "create"}</tool_call>',
        "<tool_call>no JSON</tool_call>",
        '<tool_call>{"name": "creat", "arguments": {"text": "nearly"}}</tool_call>',
        '<tool_call>{"name": "update", "arguments": {"id": "1", "text": "an id in quotes"}}</tool_call>',
        '<tool_call>{"name": "update", "arguments": {"id": 1.5, "text": "no integer"}}</tool_call>',
        '<tool_call>{"name": "delete", "arguments": {"id": 99}}</tool_call>',
        '<tool_call>{"name": "create", "arguments": "{\\"text\\": \\"arguments in a string\\"}"}</tool_call>',
        '<tool_call>{"name": "create", "arguments": {"text": 3}}</tool_call>',
        '<tool_call>["create"]</tool_call>',
        '<tool_call>{"name": "create", "arguments": {"text": "never closed"}}',
        f"<tool_call>{json.dumps({'name': 'create', 'arguments': {'text': _UGLY}})}</tool_call>",
    ),
    "released": (
        "<add_memory></add_memory>",
        "<add_memory>never closed",
        "<modify_memory>Memory x: no number</modify_memory>",
        "<modify_memory>Memory 1 without a colon</modify_memory>",
        "<delete_memory>Memory 99</delete_memory>",
        "<delete_memory>the first one</delete_memory>",
        "<final_answer>no box</final_answer>",
        "<unknown><add_memory>hidden in another tag</add_memory></unknown>",
        "<ADD_MEMORY>upper case</ADD_MEMORY>",
        f"<add_memory>{_UGLY}</add_memory>",
        "<think><add_memory>a thought?</add_memory></think>",
    ),
}
"""Malformed and impossible operations, and some that only look so."""

_RELEASED = {"create": "add_memory", "read": "update_query", "scratchpad": "update_memory"}


def written(dialect: str, kind: str, text: str = "", number: int = 0) -> str:
    """One operation in a dialect."""
    if dialect == "crud":
        if kind == "delete":
            return f'<delete id="{number}"/>'
        return f'<update id="{number}">{text}</update>' if kind == "update" else f"<{kind}>{text}</{kind}>"
    if dialect == "tools":
        arguments: dict[str, object] = {"id": number} if kind in ("update", "delete") else {}
        if kind != "delete":
            arguments["query" if kind == "read" else "text"] = text
        return f"<tool_call>{json.dumps({'name': kind, 'arguments': arguments}, ensure_ascii=False)}</tool_call>"
    if kind in _RELEASED:
        return f"<{_RELEASED[kind]}>{text}</{_RELEASED[kind]}>"
    if kind == "answer":
        return rf"<final_answer>\boxed{{{text}}}</final_answer>"
    return (
        f"<modify_memory>Memory {number}: {text}</modify_memory>"
        if kind == "update"
        else f"<delete_memory>Memory {number}</delete_memory>"
    )


class Chooser:
    """Plays one episode.

    Args:
        seed: Any text.
        dialect: How actions are written.
        style: One of ``STYLES``.
        answers: The right answer to every question, as far as it is known.
    """

    def __init__(self, seed: str, dialect: str, style: str, answers: Mapping[str, str]) -> None:
        self._seed, self._dialect, self._style, self._answers = seed, dialect, style, answers
        self._steps = 0

    def act(self, observation: Mapping[str, Any]) -> str:
        """The action for an observation, as the environment returns it."""
        # Numbers and strings seed the same generator in every process and every Python.
        dice = random.Random(f"{self._seed}/{self._steps}")
        self._steps += 1
        answering = bool(observation["phase"])
        weights = dict(STYLES[self._style])
        if answering:
            if self._style != "mute":
                weights["answer"] = weights.get("answer", 0) + 2 + self._steps
                weights["several"] = 1
            if self._style in ("reader", "keeper"):
                weights["read"] += 20
        kinds = dice.choices(list(weights), list(weights.values()), k=dice.choice([0, 1, 1, 2, 3, 5]))
        parts = [self._part(kind, observation, dice) for kind in kinds]
        return dice.choice(["\n", " and then ", ""]).join(parts)

    def _part(self, kind: str, observation: Mapping[str, Any], dice: random.Random) -> str:
        dialect = self._dialect
        if kind == "broken":
            return dice.choice(BROKEN[dialect])
        if kind == "empty":
            return written(
                dialect, dice.choice(["create", "read", "update", "scratchpad", "answer"]), dice.choice(["", "  "]), 1
            )
        if kind == "think":
            return f"<think>What about {written(dialect, 'create', 'a thought')}?</think>"
        if kind == "long":
            return written(
                dialect, dice.choice(["create", "scratchpad", "update"]), observation["chunk"] * 3 or "long " * 90, 1
            )
        if kind == "keep":
            documents = re.split(r"(?=Document \d+)", observation["chunk"])
            return "".join(written(dialect, "create", one.strip()) for one in documents if one.strip())
        if kind == "several":
            return "".join(written(dialect, "answer", self._answer(observation, dice)) for _ in range(2)) + written(
                dialect, "read", "after the answer"
            )
        if kind == "answer":
            return written(dialect, "answer", self._answer(observation, dice))
        return written(dialect, kind, self._text(kind, observation, dice), self._number(observation, dice))

    def _text(self, kind: str, observation: Mapping[str, Any], dice: random.Random) -> str:
        source = observation["chunk"] or observation["scratchpad"] or observation["question"] or "nothing to say"
        if kind == "read":
            source = observation["question"] or source
        sentences = [one for one in re.split(r"(?<=[.!?:])\s+", source.strip()) if one]
        return " ".join(dice.choice(sentences) for _ in range(dice.choice([1, 1, 2])))[:400]

    def _number(self, observation: Mapping[str, Any], dice: random.Random) -> int:
        shown = [memory["id"] for memory in observation["memories"]]
        if self._dialect == "released":
            return dice.randint(1, len(shown) + 1)
        return int(dice.choice(shown)) if shown and dice.random() < 0.6 else dice.randint(1, 2 + self._steps)

    def _answer(self, observation: Mapping[str, Any], dice: random.Random) -> str:
        right = [answer for question, answer in self._answers.items() if question in observation["question"]]
        return right[0] if right and dice.random() < 0.7 else dice.choice(["no idea", "the Blue Lantern", "yes"])
