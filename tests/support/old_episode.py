"""The episode over which the snapshot and the database in ``golden/formats`` were taken; do not change it."""

from __future__ import annotations

from typing import Any

from support.fixed_items import fixed_env

from atommem_gym.envs import AtomMemEnv
from atommem_gym.records.record import Document, Evidence, Record

DOCUMENTS = (
    Document("Ada", "Ada keeps bees in Skive. She sells honey on Mondays."),
    Document("Skive", "Skive is a town on the Lim. It has a small harbour."),
    Document("Bo", "Bo builds boats. The boats are red."),
    Document("Cy", "Cy cooks soup. The soup is green."),
)
QUESTIONS = (
    Record(
        id="river",
        question="Which water lies by the town where Ada keeps bees?",
        answer="Lim",
        documents=DOCUMENTS[:2],
        gold=(0, 1),
        evidence=(
            Evidence("Ada", "Ada keeps bees in Skive.", "Skive"),
            Evidence("Skive", "Skive is a town on the Lim.", "Lim"),
        ),
        aliases=("the Lim fjord",),
        type="bridge",
    ),
    Record(
        id="colour",
        question="What colour are Bo's boats?",
        answer="red",
        documents=DOCUMENTS[2:],
        gold=(0,),
        evidence=(Evidence("Bo", "The boats are red.", "red"),),
        type="bridge",
    ),
)
PAST = (
    "<create>Ada keeps bees in Skive.</create><create>nothing</create><scratchpad>Ada: bees</scratchpad>",
    '<create>Skive is a town on the Lim.</create><delete id="2"/><read>bees</read>',
)
FUTURE = (
    '<create>The boats are red.</create><update id="1">Ada keeps bees in Skive, a town.</update>',
    "<read>town on the Lim</read>",
    "<answer>the Lim fjord</answer><read>boats</read>",
    "<read>colour of the boats</read>",
    "<answer>red</answer>",
)
STABLE = ("phase", "progress", "question", "chunk", "scratchpad", "query", "memories", "feedback")
"""What of an observation no later version may change."""


def old_env(store: str = "numpy", **changes: Any) -> AtomMemEnv:
    """An environment over the two questions and four documents, in chunks of 20 tokens."""
    return fixed_env(
        changes.pop("questions", QUESTIONS),
        changes.pop("documents", DOCUMENTS),
        store=store,
        embedder="hashing",
        chunk_tokens=20,
        **changes,
    )


def seen(observation: dict[str, Any]) -> dict[str, Any]:
    """An observation in JSON's types."""
    picked = {name: observation[name] for name in STABLE}
    memories = [{**one, "score": float(one["score"])} for one in picked["memories"]]
    return {
        **picked,
        "progress": [int(n) for n in picked["progress"]],
        "phase": int(picked["phase"]),
        "memories": memories,
    }


def played(env: AtomMemEnv, actions: tuple[str, ...]) -> list[Any]:
    """Observation, reward and end of every step, in JSON's types."""
    results = []
    for action in actions:
        observation, reward, terminated, truncated, _ = env.step(action)
        results.append([seen(observation), float(reward), bool(terminated), bool(truncated)])
    return results
