"""Plays hand-made episodes for the tests of the rules, without a data set and without Gymnasium."""

from __future__ import annotations

from typing import Any

from atommem_gym.config import EnvConfig
from atommem_gym.envs.backend import Backend
from atommem_gym.records.record import Document, Evidence, Item, Record
from atommem_gym.step import StepResult

DOCUMENTS = (
    Document("Ada", "Ada was born in Bern. She kept bees."),
    Document("Bern", "Bern lies on the Aare. It has a bear park."),
    Document("Zoe", "Zoe was born in Graz. She built boats."),
    Document("Graz", "Graz lies on the Mur. It has a clock tower."),
)
QUESTIONS = (
    Record(
        id="q1",
        question="On which river lies the town in which Ada was born?",
        answer="Aare",
        aliases=("the Aar",),
        documents=DOCUMENTS,
        gold=(0, 1),
        evidence=(
            Evidence("Ada", "Ada was born in Bern.", "Bern"),
            Evidence("Bern", "Bern lies on the Aare.", "Aare"),
        ),
        type="bridge",
    ),
    Record(
        id="q2",
        question="On which river lies the town in which Zoe was born?",
        answer="Mur",
        documents=DOCUMENTS,
        gold=(2, 3),
        evidence=(
            Evidence("Zoe", "Zoe was born in Graz.", "Graz"),
            Evidence("Graz", "Graz lies on the Mur.", "Mur"),
        ),
        type="bridge",
    ),
    Record(
        id="q3",
        question="Were Ada and Zoe born in the same town?",
        answer="no",
        documents=DOCUMENTS,
        gold=(0, 2),
        evidence=(
            Evidence("Ada", "Ada was born in Bern.", "Bern"),
            Evidence("Zoe", "Zoe was born in Graz.", "Graz"),
        ),
        type="comparison",
        options=("yes", "no"),
    ),
)
STREAM_TOKENS = 60
"""Length of the stream of ``DOCUMENTS`` in tokens of the tokenizer ``words``."""


class Game:
    """One episode over the four documents; ``step`` plays an action, ``seen`` is the current observation."""

    def __init__(self, *, questions: int = 1, chunks: int | None = None, **keywords: Any) -> None:
        keywords.setdefault("store", "numpy")
        if chunks is not None:
            keywords["chunk_tokens"] = -(-STREAM_TOKENS // chunks)
        self.config = EnvConfig.from_keywords(keywords)
        self.backend = Backend(self.config)
        item = Item("game/0", 0, 0, QUESTIONS[:questions], DOCUMENTS)
        self.running = self.backend.new_episode(item)
        self.episode = self.running.episode
        self.result = self.backend.run([(self.running, self.episode.open())])[0]

    def step(self, action: str) -> StepResult:
        self.result = self.backend.run([(self.running, self.episode.begin(action))])[0]
        return self.result

    def read_through(self, first: str = "") -> StepResult:
        """Play ``first``, then empty actions, until the answering phase."""
        self.step(first)
        while self.seen["phase"] == 0:
            self.step("")
        return self.result

    @property
    def seen(self) -> dict[str, Any]:
        return self.result.observation

    @property
    def reasons(self) -> list[tuple[str, int, str]]:
        return [(r["operation"], r["position"], r["reason"]) for r in self.result.info["rejected"]]

    @property
    def entries(self) -> dict[int, str]:
        return {i: entry.text for i, entry in self.episode.state.memory.entries.items()}

    @property
    def shown(self) -> list[int]:
        return [m["id"] for m in self.seen["memories"]]


def released(**keywords: Any) -> Game:
    """A game of ``preset="released"``."""
    return Game(preset="released", **{"chunks": 4, "chunk_overlap": 0, **keywords})
