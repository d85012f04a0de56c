"""A model's reply without its reasoning, by the rules that hold for actions (SPEC A2, A3)."""

from __future__ import annotations

from atommem_gym.actions.tags import TAG, THINKS


def without_thinking(text: str) -> str:
    """What is left of a text without ``<think>…</think>`` (in any of its spellings, ``THINKS``), stripped.

    An unclosed ``<think>`` takes all that follows with it, a ``</think>`` that none opens all before it. Other tags are
    not looked at, so ``<think>`` inside an operation's text, which is part of that text in an action, goes as well.

    >>> without_thinking("<think>Paris or Rome?</think> Rome")
    'Rome'
    >>> without_thinking("reasoning that began in the prompt</think>Rome <think>and so")
    'Rome'
    """
    kept: list[str] = []
    thinking, position = False, 0
    for tag in TAG.finditer(text):
        if tag[2].lower() not in THINKS:
            continue
        if tag[1]:
            if not thinking:
                kept.clear()
            thinking, position = False, tag.end()
        elif not thinking:
            kept.append(text[position : tag.start()])
            # <think/> encloses nothing.
            thinking, position = not tag[3].endswith("/"), tag.end()
    if not thinking:
        kept.append(text[position:])
    return "".join(kept).strip()
