"""Training examples out of records: one chat per step, thrown away question by question.

A step is a fresh context (system and user message) and the agent's response, as the policy meets it when it plays. What
is kept depends on how the *questions* went, not on the episode's mean:

- a step of the answering phase belongs to the question that was open, and is kept if that question scored at least
  ``threshold``;
- a step of the reading phase serves all questions of the episode, and is kept if at least ``reading_share`` of them
  scored ``threshold``: of many questions one may fail for no fault of the reading;
- an early answer (SPEC E5) belongs to both, and both rules must hold.

A step without operations is an example like any other, of the decision not to store; scripted agents spell it in words.
Never kept are empty responses, which say nothing to learn from, and those that ended at their token limit, because they
teach to be cut short.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from json import dumps, loads
from pathlib import Path
from typing import Literal

from atommem_gym.actions import parse
from atommem_gym.chat_reply import ending
from atommem_gym.config import EnvConfig
from atommem_gym.plugins.loading import is_plugin, module_of
from atommem_gym.prompts import PromptTemplate
from atommem_gym.registration import task_of
from atommem_gym.replies.thinking import KNOWN, Pairs, without_thinking
from atommem_gym.step import Phase
from atommem_gym.traces.causes import closings
from atommem_gym.traces.record import EpisodeTrace, Message, StepTrace, TraceError
from atommem_gym.traces.rescore import recorded_scores
from atommem_gym.trust import is_built_in_template, is_module_said

Thinking = Literal["keep", "strip"]
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Selection:
    """Which steps become examples, and how they are written."""

    threshold: float = 1.0
    """The score from which a question counts as passed."""
    reading_share: float = 0.5
    """Share of an episode's questions that must have passed for its reading steps to be kept."""
    scorer: str | None = None
    """Whose scores: the episode's own, or those of a rescoring of this name."""
    drop_rejected: bool = False
    """Throw away steps in which an operation was rejected or cut."""
    thinking: Thinking = "keep"
    """``strip`` takes the reasoning out of responses."""
    render: bool = False
    """Render the prompts anew, also where the record has the messages."""
    template: Path | None = None
    """A prompt template in place of the dialect's, where prompts are rendered; one that a record names is not read."""


@dataclass(frozen=True, slots=True)
class Example:
    """One chat."""

    prompt: list[Message]
    """System and user message."""
    response: str
    item: str
    agent: str
    step: int
    """From 1."""
    phase: str
    question: int
    """The open one, from 0; -1 for a step of the reading phase."""
    score: float
    """What its question got, or for reading steps the share of questions that passed."""

    @property
    def messages(self) -> list[Message]:
        """The prompt, then the response as the assistant's message."""
        return [*self.prompt, {"role": "assistant", "content": self.response}]


@dataclass(slots=True)
class Tally:
    """How many steps became examples, and why the others did not."""

    episodes: int = 0
    steps: int = 0
    kept: Counter[str] = field(default_factory=Counter)
    """By phase."""
    dropped: Counter[str] = field(default_factory=Counter)
    """By reason."""
    silent: int = 0
    """Steps kept in which nothing was to be done: their responses hold no operation."""
    unstripped: int = 0
    """Responses whose reasoning could not be taken out without changing their operations; they are kept whole."""
    own_prompt: set[str] = field(default_factory=set)
    """Templates that the records name and that were not read, where prompts were rendered."""


def examples(trace: EpisodeTrace, selection: Selection, tally: Tally) -> Iterator[Example]:
    """The examples of an episode.

    >>> from atommem_gym.traces.examples import example_trace
    >>> tally = Tally()
    >>> list(examples(example_trace(), Selection(), tally)), tally.steps == tally.dropped["question failed"]
    ([], True)
    >>> [message["role"] for message in next(examples(example_trace(), Selection(threshold=0), tally)).messages]
    ['system', 'user', 'assistant']

    Args:
        trace: The record.
        selection: What is wanted.
        tally: Is counted up.

    Raises:
        TraceError: the record has no scores of ``selection.scorer``, or names a dialect of somebody's own that neither
            the command line nor the program has named.
        ConfigError: the template cannot be used.
    """
    scores = recorded_scores(trace, selection.scorer)
    passed = [score >= selection.threshold for score in scores]
    share = sum(passed) / len(passed)
    tally.episodes += 1
    tally.steps += len(trace.steps)
    first_open = 0
    for number, step in enumerate(trace.steps, 1):
        reading = step.observation["phase"] == Phase.READING
        closed = closings(step)
        concerned = range(first_open, min(first_open + (closed if reading else max(closed, 1)), len(scores)))
        first_open += closed
        phase = "reading" if reading else "answering"
        if not all(passed[question] for question in concerned) or (reading and share < selection.reading_share):
            tally.dropped["question failed"] += 1
            continue
        response = _response(step, trace, selection, tally)
        reason = _unusable(step, response, selection)
        if reason:
            tally.dropped[reason] += 1
            continue
        tally.kept[phase] += 1
        tally.silent += not parse(response, _config(_frozen(trace)).dialect)
        yield Example(
            prompt=_prompt(step, trace, selection, tally),
            response=response,
            item=_encodable(trace.item),
            agent=_encodable(trace.agent.name),
            step=number,
            phase=phase,
            question=-1 if reading else concerned[0],
            score=share if reading else min(scores[question] for question in concerned),
        )


def stripped(response: str, dialect: str, thinking: Pairs | None = None) -> str | None:
    """A response without its reasoning, ``None`` if taking it out would change the operations.

    >>> stripped("<think>Who is she?</think> <answer>Ada</answer>", "crud")
    '<answer>Ada</answer>'
    >>> stripped("<create>how to use <think>tags</think></create>", "crud") is None
    True
    """
    said = without_thinking(response, thinking)
    return said if parse(said, dialect, thinking) == parse(response, dialect, thinking) else None


def _response(step: StepTrace, trace: EpisodeTrace, selection: Selection, tally: Tally) -> str:
    response = step.response
    if selection.thinking == "strip":
        config = _config(_frozen(trace))
        said = stripped(response, config.dialect, config.thinking)
        tally.unstripped += said is None
        response = response if said is None else said
    elif step.completions and step.completions[-1].reasoning:
        # Servers with a reasoning parser return it apart; the model wrote it before its text.
        named = _config(_frozen(trace)).thinking if "thinking" in trace.env.keywords else None
        opening, closing = (named or KNOWN)[0]
        response = f"{opening}\n{step.completions[-1].reasoning.strip()}\n{closing}\n\n{response.lstrip()}"
    return _encodable(response)


def _unusable(step: StepTrace, response: str, selection: Selection) -> str:
    """Why a response is no example, empty if it is one."""
    if not response.strip():
        return "empty response"
    ended = ending(step.completions[-1].finish_reason) if step.completions else "stop"
    if ended is None:
        return "not ended by a stop"
    if ended == "length":
        return "cut at the token limit"
    if selection.drop_rejected and any(operation.outcome != "applied" for operation in step.operations):
        return "operation rejected"
    return ""


def _prompt(step: StepTrace, trace: EpisodeTrace, selection: Selection, tally: Tally) -> list[Message]:
    messages = step.messages
    if messages is None or selection.render:
        named = trace.env.keywords.get("template")
        if named is not None and not is_built_in_template(named) and selection.template is None:
            tally.own_prompt.add(str(named))
        messages = _template(_frozen(trace), selection.template).messages(step.observation)
    return [{name: _encodable(text) for name, text in message.items()} for message in messages]


def _frozen(trace: EpisodeTrace) -> str:
    """Id and keyword arguments as a text that can be remembered by."""
    return dumps([trace.env.id, trace.env.keywords], sort_keys=True)


@lru_cache(maxsize=64)
def _config(env: str) -> EnvConfig:
    env_id, keywords = loads(env)
    # A record may come from a stranger: its template is somebody's program, and its path may be any file's.
    if not is_built_in_template(keywords.get("template")):
        keywords.pop("template", None)
    dialect = keywords.get("dialect")
    if is_plugin("dialect", dialect) and not (is_module_said(module_of(dialect)) or module_of(dialect) in sys.modules):
        raise TraceError(
            f"the records name dialect={dialect!r}, whose module is not imported only because they say so; if you "
            f"trust its code, add --import {module_of(dialect)} (in Python: import it first)"
        )
    task = task_of(env_id)
    return EnvConfig.from_keywords(keywords) if task is None else task.config(keywords)


@lru_cache(maxsize=64)
def _template(env: str, path: Path | None) -> PromptTemplate:
    return PromptTemplate(_config(env), path)


def _encodable(text: str) -> str:
    """Text that UTF-8 can hold; models cannot be trained on half a surrogate pair either."""
    return _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text)
