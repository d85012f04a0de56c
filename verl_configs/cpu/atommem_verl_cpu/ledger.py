"""Writes an easy task: who has what, a document a person, one question, an answer of one word.

    python -m atommem_verl_cpu.ledger FOLDER [--train 4000] [--validation 256] [--documents 4]

The files have HotpotQA's shape, so `source=FOLDER/train.json` of AtomMem-HotpotQA-v0 plays them. Some facts (a person
with a thing) are held out: the documents of validation.json say none that train.json says, so knowing facts by heart
does not help there. Names and things are the same, since a model that never met a word cannot say it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from atommem_gym.records.layout import stable_rng

NAMES = (
    "Ada",
    "Ben",
    "Cleo",
    "Dora",
    "Emil",
    "Fay",
    "Gus",
    "Hana",
    "Ivo",
    "June",
    "Kai",
    "Lena",
    "Milo",
    "Nora",
    "Otto",
    "Pia",
    "Quin",
    "Rosa",
    "Sven",
    "Tara",
    "Ugo",
    "Vera",
)
THINGS = ("lamp", "drum", "kite", "coin", "rope", "bell", "harp", "mask", "boat", "crown", "sword", "vase")
HELD_OUT = 3
"""One of so many facts is for validation."""


def held_out(name: int, thing: int) -> bool:
    """Whether a fact is kept from training; every person and every thing has facts of both kinds.

    >>> [sum(held_out(name, thing) for thing in range(len(THINGS))) for name in range(3)]
    [4, 4, 4]
    """
    return (name + thing) % HELD_OUT == 0


def records(part: str, count: int, documents: int) -> list[dict[str, Any]]:
    """Records of HotpotQA's shape; the question is about the first document.

    Args:
        part: ``train`` or ``validation``.
        count: How many.
        documents: A record; each is about another person and another thing.
    """
    rng = stable_rng("ledger", part)
    found: list[dict[str, Any]] = []
    while len(found) < count:
        names = rng.permutation(len(NAMES))[:documents]
        things = rng.permutation(len(THINGS))[:documents]
        kept = [held_out(int(name), int(thing)) for name, thing in zip(names, things, strict=True)]
        if any(one != (part == "validation") for one in kept):
            continue
        context = [[NAMES[name], [f"{THINGS[thing]}."]] for name, thing in zip(names, things, strict=True)]
        found.append(
            {
                "_id": f"{part}-{len(found)}",
                "question": f"What has {NAMES[names[0]]}?",
                "answer": THINGS[things[0]],
                "type": "bridge",
                "level": "easy",
                "supporting_facts": [[NAMES[names[0]], 0]],
                "context": context,
            }
        )
    return found


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--train", type=int, default=4000)
    parser.add_argument("--validation", type=int, default=256)
    parser.add_argument("--documents", type=int, default=4)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    for part in ("train", "validation"):
        made = records(part, getattr(given, part), given.documents)
        (given.folder / f"{part}.json").write_text(json.dumps(made) + "\n", encoding="utf-8")
        print(f"{given.folder / part}.json: {len(made)} records")


if __name__ == "__main__":
    main()
