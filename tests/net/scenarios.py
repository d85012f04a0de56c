"""The forty scenarios: dialects, presets, stores, forms and sources, with the keyword arguments that change rules."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

STORES: dict[str, dict[str, Any]] = {
    "numpy": {"store": "numpy"},
    "milvus": {"store": "milvus"},
    "answering": {"store": "milvus", "store_reads": "milvus"},
}
_SMALL = {"num_docs": 12, "chunk_tokens": 220, "max_entry_tokens": 60, "max_scratchpad_tokens": 50}
SOURCES: dict[str, tuple[str, dict[str, Any]]] = {
    "synthetic": ("AtomMem-Synthetic-v0", {**_SMALL, "questions_per_episode": [1, 3]}),
    "hotpotqa": ("AtomMem-HotpotQA-v0", {**_SMALL, "source": "synthetic", "questions_per_episode": [1, 3]}),
    "2wiki": ("AtomMem-2WikiMultiHopQA-v0", {**_SMALL, "source": "synthetic", "questions_per_episode": 2}),
    "musique": (
        "AtomMem-MuSiQue-v0",
        {**_SMALL, "source": "synthetic", "split": "validation", "questions_per_episode": 1},
    ),
    "needle": (
        "AtomMem-Needle-v0",
        {"kind": "multi_query", "haystack": "noise", "length": 900, "chunk_tokens": 220, "questions_per_episode": 1},
    ),
    "values": ("AtomMem-Needle-v0", {"kind": "multi_value", "length": 900, "chunk_tokens": 300, "value_type": "words"}),
    "drift": ("AtomMem-Drift-v0", {"num_docs": 30, "chunk_tokens": 150, "questions_per_episode": 3}),
}


@dataclass(frozen=True)
class Scenario:
    """One episode, or a few at a time."""

    form: str
    """``single``, ``vector``, ``pool``, ``team`` or ``aec``."""
    dialect: str
    preset: str
    store: str
    source: str
    style: str
    changes: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments besides those of the source."""
    wrappers: tuple[tuple[str, dict[str, Any]], ...] = ()
    """Public wrappers by name, from the innermost outwards; recording is outside of all."""
    autoreset: str = "NextStep"
    """Of a vector environment."""
    readers: int = 2
    """Of a team."""

    @property
    def env_id(self) -> str:
        return SOURCES[self.source][0]

    @property
    def keywords(self) -> dict[str, Any]:
        given = {**SOURCES[self.source][1], **STORES[self.store], "dialect": self.dialect}
        if self.preset != "paper":
            # The preset's own values are what is to be seen, but for sizes.
            given = {**given, "preset": self.preset, "chunk_overlap": 20, "max_steps": 16}
        return {**given, **self.changes}


def _all() -> list[Scenario]:
    chat, prompt = ("ChatObservation", {}), ("PromptObservation", {})
    # Binary fractions: their sums are exact, and Python's `sum` rounds others differently from 3.12 on.
    cost = ("MemoryCost", {"per_entry": 1 / 1024, "per_operation": 1 / 128})
    shaped = ("ShapedReward", {"shaping": {"FormatPenalty": {"penalty": 0.125}, "EvidenceReward": {"weight": 0.25}}})
    one, many, pool, team = "single", "vector", "pool", "team"
    return [
        # One environment
        Scenario(one, "crud", "paper", "numpy", "synthetic", "keeper", {"max_entry_tokens": 200}),
        Scenario(one, "crud", "paper", "milvus", "synthetic", "careless", {"question_visible": "end"}),
        Scenario(one, "crud", "paper", "answering", "drift", "keeper", {"max_reads_per_question": 1, "top_k": 2}),
        Scenario(one, "crud", "paper", "numpy", "needle", "hasty", {"early_answer": True}),
        Scenario(
            one, "crud", "paper", "milvus", "hotpotqa", "busy", {"sticky_query": True, "initial_query": "who"}, (chat,)
        ),
        Scenario(one, "crud", "released", "numpy", "2wiki", "busy", {"max_entries": 3}),
        Scenario(one, "crud", "released", "answering", "synthetic", "hasty", {"early_answer": False}, (cost,)),
        Scenario(one, "released", "paper", "milvus", "synthetic", "careless", {"reward": "released"}),
        Scenario(
            one,
            "released",
            "paper",
            "numpy",
            "values",
            "reader",
            {"sticky_query": True, "max_entry_tokens": 40, "max_memory_tokens": 60},
        ),
        Scenario(one, "released", "released", "numpy", "synthetic", "mute", {}, (prompt,)),
        Scenario(one, "released", "released", "milvus", "needle", "hasty", {"operations": ["create", "read"]}),
        Scenario(one, "released", "released", "answering", "drift", "careless"),
        Scenario(one, "tools", "paper", "numpy", "musique", "careless", {"addressing": "visible"}, (chat, cost)),
        Scenario(one, "tools", "paper", "answering", "synthetic", "busy", {"advance": "on_write", "max_steps": 12}),
        Scenario(one, "tools", "paper", "milvus", "drift", "hasty", {"storage": False, "reward": "f1"}),
        Scenario(
            one,
            "tools",
            "released",
            "numpy",
            "hotpotqa",
            "reader",
            {"num_docs": 20, "questions_per_episode": "released", "scratchpad": False},
        ),
        Scenario(
            one, "tools", "paper", "numpy", "synthetic", "keeper", {"order": "gold_last", "max_action_chars": 400}
        ),
        Scenario(one, "crud", "paper", "numpy", "drift", "reader", {"difficulty": 0.4}, (shaped,)),
        Scenario(
            one, "crud", "paper", "numpy", "2wiki", "mute", {"chunk_overlap": 30, "max_steps": 6}, (prompt, shaped)
        ),
        Scenario(
            one,
            "crud",
            "paper",
            "numpy",
            "synthetic",
            "careless",
            {"difficulty": 0.5},
            (("Curriculum", {"start": 0.2}),),
        ),
        # Several in step
        Scenario(many, "crud", "paper", "numpy", "synthetic", "keeper", {"max_entry_tokens": 200}),
        Scenario(many, "crud", "paper", "milvus", "needle", "hasty", {"early_answer": True}, (), "SameStep"),
        Scenario(many, "crud", "released", "answering", "hotpotqa", "careless", {}, (chat,), "Disabled"),
        Scenario(many, "released", "released", "milvus", "synthetic", "reader", {}, (cost,)),
        Scenario(many, "released", "paper", "answering", "2wiki", "mute", {"max_entries": 2}, (), "SameStep"),
        Scenario(many, "tools", "paper", "milvus", "drift", "careless", {"question_visible": "end"}, (), "Disabled"),
        Scenario(many, "tools", "released", "numpy", "musique", "hasty", {"top_k": 1}, (prompt, shaped), "SameStep"),
        # Several at their own pace
        Scenario(pool, "crud", "paper", "numpy", "synthetic", "keeper", {"max_entry_tokens": 150}),
        Scenario(pool, "crud", "released", "milvus", "drift", "busy"),
        Scenario(pool, "released", "released", "answering", "synthetic", "hasty"),
        Scenario(pool, "released", "paper", "numpy", "hotpotqa", "careless", {}, (cost,)),
        Scenario(pool, "tools", "paper", "answering", "needle", "busy", {"operations": ["create", "read", "delete"]}),
        Scenario(
            pool,
            "tools",
            "released",
            "milvus",
            "synthetic",
            "reader",
            {"question_visible": "end", "early_answer": False},
        ),
        # Teams
        Scenario(team, "crud", "paper", "numpy", "synthetic", "keeper"),
        Scenario(team, "crud", "paper", "milvus", "drift", "mute", {"parts": "round_robin"}, readers=3),
        Scenario(team, "crud", "paper", "answering", "needle", "hasty", {"scratchpad": False}, readers=1),
        Scenario(team, "tools", "paper", "numpy", "hotpotqa", "reader", {"max_entries": 4}),
        Scenario(team, "tools", "paper", "milvus", "synthetic", "busy", {"sticky_query": True, "early_answer": True}),
        Scenario(team, "released", "paper", "answering", "synthetic", "careless", {"max_cycles": 7}),
        Scenario("aec", "crud", "paper", "numpy", "2wiki", "busy"),
    ]


SCENARIOS: dict[str, Scenario] = {
    f"{number:02}-{one.form}-{one.dialect}-{one.preset}-{one.store}-{one.source}-{one.style}": one
    for number, one in enumerate(_all())
}
