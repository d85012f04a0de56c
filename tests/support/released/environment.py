"""The environment of the paper's released code once more, from its description: a dict and a list.

Made to be compared with ``preset="released"``, so it shares nothing with it. What section 3 leaves out of the whole
(a store shared by all, an index below 1, rewards that are not aligned with the questions) is not in here either.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from support.released import score as described

TOP_K = 6
QUERIES_IN_A_ROW = 3
RESPONSES = 41


class ReleasedModel:
    """One trajectory; ``respond`` is one response of the model, all attributes are what the next prompt is made of."""

    def __init__(
        self,
        answers: Sequence[Sequence[str]],
        chunks: int,
        query: str,
        similarity: Callable[[str, str], float],
    ) -> None:
        self.answers = answers
        self.chunks = chunks
        self.chunk = 0
        self.memories: dict[int, str] = {}
        self.next_id = 1
        self.scratchpad = ""
        self.query = query
        self.queries_in_a_row = 0
        self.question = 0
        self.responses = 0
        self.scores = [0.0] * len(answers)
        self.final = False
        self.similarity = similarity
        self.shown: list[int] = []

    @property
    def cut(self) -> bool:
        return not self.final and self.responses >= RESPONSES

    @property
    def reward(self) -> float:
        return sum(self.scores) / len(self.scores)

    def respond(self, response: str) -> None:
        found = paired_tags(response)
        answered = sum(name == "final_answer" for name, _ in found)
        frozen = [self.memories[i] for i in self.shown]
        move_on = False
        for name, content in found:
            if name == "add_memory":
                self.add(content)
                move_on = True
            elif name == "modify_memory":
                address = re.match(r"Memory\s+([0-9]+)\s*:(.*)", content, re.DOTALL)
                if address is None:
                    move_on = False
                    break
                place = int(address[1])
                if 1 <= place <= len(frozen):
                    self.remove(frozen[place - 1])
                    self.add(address[2].strip())
                move_on = True
            elif name == "delete_memory":
                address = re.match(r"Memory\s+([0-9]+)", content)
                if address is None:
                    move_on = False
                    break
                place = int(address[1])
                if 1 <= place <= len(frozen):
                    self.remove(frozen[place - 1])
            elif name == "update_memory":
                self.scratchpad = content
            elif name == "update_query":
                self.read(content)
            elif name == "final_answer" and not self.final:
                if answered == 1:
                    self.scores[self.question] = described.score(content, self.answers[self.question])
                self.next_question()
            if name in ("add_memory", "modify_memory", "delete_memory", "update_memory"):
                self.queries_in_a_row = 0
        if move_on and self.chunk < self.chunks:
            self.chunk += 1
        self.responses += 1
        self.search()

    def add(self, text: str) -> None:
        if text:
            self.memories[self.next_id] = text
            self.next_id += 1

    def remove(self, text: str) -> None:
        for i, one in self.memories.items():
            if one == text:
                del self.memories[i]
                return

    def read(self, query: str) -> None:
        if self.final:
            return
        if self.queries_in_a_row >= QUERIES_IN_A_ROW:
            self.next_question()
            return
        if query:
            self.query = query
        self.queries_in_a_row += 1

    def next_question(self) -> None:
        self.question += 1
        self.queries_in_a_row = 0
        self.final = self.question == len(self.answers)

    def search(self) -> None:
        ranked = sorted(self.memories, key=lambda i: (-self.similarity(self.query, self.memories[i]), i))
        self.shown = ranked[:TOP_K]


def paired_tags(text: str) -> list[tuple[str, str]]:
    """Names in lower case and stripped contents of the outermost ``<name …>…</name>``, in their order."""
    found = []
    position = 0
    while (opening := re.compile(r"<(\w+)[^>]*>").search(text, position)) is not None:
        closing = re.compile(rf"</{opening[1]}>", re.IGNORECASE).search(text, opening.end())
        if closing is None:
            position = opening.start() + 1
        else:
            found.append((opening[1].lower(), text[opening.end() : closing.start()].strip()))
            position = closing.end()
    return found
