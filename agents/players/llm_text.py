"""What of a model's reply is meant for others: its operations, and the answer in it."""

from __future__ import annotations

import re

from atommem_gym.actions import Answer, Operation, parse, without_thinking
from atommem_gym.policies.writing import UNKNOWN

_LABEL = re.compile(r"^(?:the |final )*answer\s*(?:is)?\s*:\s*", re.IGNORECASE)


def operations_in(text: str, dialect: str) -> list[Operation]:
    """The well-formed operations of a reply, in the environment's dialect; where it has none, in ``crud``.

    The prompts of the baselines ask for tags of ``crud`` whatever the dialect is.
    """
    for name in dict.fromkeys((dialect, "crud")):
        found = [op for op in parse(text, name) if isinstance(op, Operation)]
        if found:
            return found
    return []


def final_answer(text: str, dialect: str) -> str:
    r"""The answer in a reply: that of its answer tag, else the first line that is not reasoning, else ``unknown``.

    >>> final_answer("It was <answer>Ada</answer>", "crud"), final_answer("Answer: Ada\nShe was a countess.", "crud")
    ('Ada', 'Ada')
    """
    for op in operations_in(text, dialect):
        if isinstance(op, Answer):
            return op.text
    lines = (_LABEL.sub("", line.strip()).strip() for line in without_thinking(text).splitlines())
    return next((line for line in lines if line), UNKNOWN)
