"""What scripted agents do when somebody asks that something be erased: by the words of the request, and no more."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import pytest
from support.fixed_items import OneItem

from atommem_gym.agents import make_agent
from atommem_gym.policies.requests import asked_to_erase, names, without
from atommem_gym.records.record import Document, Evidence, Item, Record


def spoken(*lines: str, date: str = "2031-05-12T09:00") -> Document:
    return Document("Harrow Depot", "\n".join(lines), date, ("Ada", "Assistant"))


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("Ada: Please erase the gate code of Harrow Depot from your notes.", ["gate code of Harrow Depot"]),
        ("Ada: Please forget the gate code of Harrow Depot; keep nothing of it.", ["gate code of Harrow Depot"]),
        ("Ada: I want you to delete the gate code of Harrow Depot.", ["gate code of Harrow Depot"]),
        (
            "Ada: please remove the safe code of A, and please erase the gate code of B!",
            ["safe code of A", "gate code of B"],
        ),
        ("Ada: I shall never forget the gate code of Harrow Depot.", []),
        ("Ada: They will erase the old drawings tomorrow.", []),
        ("Ada: Please erase .", []),
    ],
)
def test_a_request_is_known_by_its_words(line: str, what: list[str]) -> None:
    assert asked_to_erase([spoken(line)]) == what


def test_only_what_somebody_says_is_a_request() -> None:
    assert asked_to_erase([Document("A song", "Please forget the rain of May.", "2031-05-12")]) == []


def test_lines_that_name_it_go_whatever_their_case() -> None:
    text = "Harrow Depot\nThe gate code of Harrow Depot is 1.\nThe safe code of Harrow Depot is 2."
    assert names(text, ["GATE CODE of Harrow Depot"])
    assert without(text, ["gate code of harrow depot"]) == "Harrow Depot\nThe safe code of Harrow Depot is 2."


TOLD = spoken("Ada: The gate code of Harrow Depot is 7QK2-M4XP.", "Ada: The safe code of Harrow Depot is B3FD-ZZ7T.")
ASKED = spoken(
    "Ada: Please erase the gate code of Harrow Depot from your notes.", "Assistant: Noted.", date="2031-05-20"
)


def played(**keywords: Any) -> tuple[dict[int, str], list[dict[str, Any]]]:
    """The last memory of a tidy agent that was told two codes and asked to erase one, and what its answers came to."""
    question = Record(
        "q", "What is the safe code of Harrow Depot?", "B3FD-ZZ7T", (TOLD, ASKED), (0,),
        (Evidence("Harrow Depot", "Ada: The safe code of Harrow Depot is B3FD-ZZ7T.", "B3FD-ZZ7T"),),
    )  # fmt: skip
    items = OneItem(
        Item("requests/0", 0, 0, (question,), (TOLD, spoken("Ada: A.", date="2031-05-15"), ASKED), ("7QK2-M4XP",))
    )
    env: Any = gym.make(
        "AtomMem-Drift-v0", items=items, store="numpy", order="given", chunk_tokens=40, scratchpad=False, **keywords
    )
    agent = make_agent("tidy")
    observation, _ = env.reset(options={"index": 0})
    agent.reset(env.unwrapped.episode, 0)
    over = False
    while not over:
        observation, _, terminated, truncated, info = env.step(agent.act(observation))
        over = terminated or truncated
    entries = {i: entry.text for i, entry in env.unwrapped.episode.state.memory.entries.items()}
    env.close()
    return entries, info["episode_metrics"]["answers"]


def test_D9_tidy_deletes_the_entry_that_names_it_and_keeps_the_rest() -> None:
    entries, [answer] = played()
    assert (answer["closed"], answer["em"]) == ("answered", 1.0)
    assert 1 not in entries
    assert not any("gate code" in text for text in entries.values())
    assert any("safe code of Harrow Depot is B3FD-ZZ7T" in text for text in entries.values())


def test_D9_without_delete_tidy_rewrites_the_entry_which_is_not_enough() -> None:
    entries, [answer] = played(operations=["create", "read", "update"])
    assert (answer["closed"], answer["em"]) == ("not_erased", 0.0)
    assert not any("gate code" in text for text in entries.values())
    assert "safe code of Harrow Depot is B3FD-ZZ7T" in entries[1]
