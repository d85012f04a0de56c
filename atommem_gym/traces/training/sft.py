"""Makes training examples of traces: one chat per step, selected question by question.

An example is a fresh context (system and user message) and the agent's response, as when the policy plays. The
selection depends on the scores of single *questions*, not on the episode's mean:

- a step of the answering phase belongs to the question that was open, and is kept if that question scored at least
  ``threshold``;
- a step of the reading phase serves all questions of the episode, and is kept if at least ``reading_share`` of them
  scored ``threshold``, since one of many questions may fail although the reading was right;
- an early answer (SPEC E5) belongs to both, and both rules must hold.

A step without operations is an example too, of the decision not to store; scripted agents say so in words.
Empty responses are never kept, nor are responses that ended at their token limit, because they
would teach to be cut short.
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
    """Which steps become examples, and in which form."""

    threshold: float = 1.0
    """The least score with which a question counts as passed."""
    reading_share: float = 0.5
    """Share of an episode's questions that must have passed for its reading steps to be kept."""
    scorer: str | None = None
    """The name of a rescoring whose scores are used; ``None``: the episode's own scores."""
    drop_rejected: bool = False
    """Whether to drop steps in which an operation was rejected or cut."""
    thinking: Thinking = "keep"
    """``strip`` removes the reasoning from responses, ``keep`` keeps it."""
    render: bool = False
    """Whether to render the prompts again even if the trace has the messages."""
    template: Path | None = None
    """A prompt template to use instead of the dialect's when prompts are rendered; one named in a trace is not read."""


@dataclass(frozen=True, slots=True)
class Example:
    """One chat, made of one step."""

    prompt: list[Message]
    """System and user message."""
    response: str
    """The response to learn."""
    item: str
    """The id of the item."""
    agent: str
    """The name of the agent."""
    step: int
    """The step, from 1."""
    phase: str
    """``reading`` or ``answering``."""
    question: int
    """The number of the open question, from 0; -1 in the reading phase."""
    score: float
    """The score of its question; in the reading phase the share of questions that passed."""

    @property
    def messages(self) -> list[Message]:
        """The prompt, then the response as the assistant's message."""
        return [*self.prompt, {"role": "assistant", "content": self.response}]


@dataclass(slots=True)
class Tally:
    """Counts of the steps that became examples, and of the reasons why others did not."""

    episodes: int = 0
    """Episodes."""
    steps: int = 0
    """Steps of all episodes."""
    kept: Counter[str] = field(default_factory=Counter)
    """Steps that became examples, by phase."""
    dropped: Counter[str] = field(default_factory=Counter)
    """Steps that did not, by reason."""
    silent: int = 0
    """Steps that became examples and have no operation."""
    unstripped: int = 0
    """Responses whose reasoning could not be removed without changing their operations; they are unchanged."""
    own_prompt: set[str] = field(default_factory=set)
    """Templates that the traces name and that were not read when prompts were rendered."""


def examples(trace: EpisodeTrace, selection: Selection, tally: Tally) -> Iterator[Example]:
    """Make the examples of an episode.

    >>> from atommem_gym.traces.examples import example_trace
    >>> tally = Tally()
    >>> list(examples(example_trace(), Selection(), tally)), tally.steps == tally.dropped["question failed"]
    ([], True)
    >>> [message["role"] for message in next(examples(example_trace(), Selection(threshold=0), tally)).messages]
    ['system', 'user', 'assistant']

    Args:
        trace: The record.
        selection: Which steps become examples.
        tally: Its counts are increased.

    Raises:
        TraceError: the trace has no scores of ``selection.scorer``, or names a custom dialect that neither
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
    """A response without its reasoning; ``None`` if removing it would change the operations.

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
        # Servers with a reasoning parser return reasoning separately; the model wrote it before the text.
        named = _config(_frozen(trace)).thinking if "thinking" in trace.env.keywords else None
        opening, closing = (named or KNOWN)[0]
        response = f"{opening}\n{step.completions[-1].reasoning.strip()}\n{closing}\n\n{response.lstrip()}"
    return _encodable(response)


def _unusable(step: StepTrace, response: str, selection: Selection) -> str:
    """Why a response cannot be an example; empty if it can."""
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
