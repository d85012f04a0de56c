"""Sessions: episodes in which every step is one prompt and one reply. Trainers and evaluators play them.

Each step has a fresh context: a system and a user message go to the policy, and its reply is the action. Of earlier
steps the prompt shows only what the memory holds. A policy that answers with text is a coroutine function:

    async def policy(messages: Messages) -> Reply:
        answer = await client.chat.completions.create(model="m", messages=messages)
        return Reply(answer.choices[0].message.content or "", answer.choices[0].finish_reason)

    async with AtomMemPool("AtomMem-Synthetic-v0", capacity=64, num_docs=40) as pool, pool.env() as env:
        session = await play_session(env, 3, policy)
    session.reward, session.totals["f1"]

A policy that answers with tokens is a :class:`~atommem_gym.agents.token_policy.TokenPolicy`; the token ids of prompts
and replies then stand in the steps.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from atommem_gym.actions import KINDS
from atommem_gym.agents.players.shortening import Shortener
from atommem_gym.agents.playing import EpisodeRecord, Playing
from atommem_gym.chat_reply import ending
from atommem_gym.envs.pool.pool_env import PoolEnv
from atommem_gym.errors import ConfigError, ContextLengthError, LanguageModelError
from atommem_gym.prompts import PromptTemplate
from atommem_gym.readers.protocol import ReaderCosts
from atommem_gym.records.verl_rows import ItemReference
from atommem_gym.step import Observation

Messages: TypeAlias = list[dict[str, str]]
"""A system and a user message, each with ``role`` and ``content``."""
OverlongPrompt: TypeAlias = Literal["shorten", "error"]
"""What happens to a prompt that does not fit the model's context."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A policy's answer to one prompt."""

    text: str
    """The action text for the environment."""
    stop_reason: str | None
    """How the reply ended, in the server's word: a finish reason of ``chat_reply.ENDINGS``, such as ``stop`` or
    ``length``. A reply that ended in another way raises ``LanguageModelError`` and is not acted on (SPEC A9)."""
    prompt_tokens: int | None = None
    """Tokens of the prompt; ``None`` if unknown."""
    response_tokens: int | None = None
    """Tokens of the reply; ``None`` if unknown."""
    prompt_ids: Sequence[int] = ()
    """Token ids of the prompt as the model saw it; empty where the policy answers with text."""
    token_ids: Sequence[int] = ()
    """Sampled token ids, special ones included; empty where the policy answers with text."""
    log_probs: Sequence[float] | None = None
    """Log-probability of each sampled token; ``None`` if the server gave none."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Other fields that the server returned; ``num_cached_tokens`` is added up in the totals."""


Policy: TypeAlias = Callable[[Messages], Awaitable[Reply]]
"""Answers a prompt. If it raises ``ContextLengthError``, it is asked again with a shorter prompt; any other error ends
the session."""


@dataclass(frozen=True, slots=True)
class SessionStep:
    """One step: the prompt, the reply, and its effects."""

    messages: Messages
    """The prompt that the policy answered, after shortening."""
    reply: Reply
    """The policy's answer."""
    reward: float
    """Reward of this step, shaping included."""
    facts: dict[str, Any]
    """Facts of this step: its number ``step`` (from 0), its ``phase``, ``operations`` (executed, by kind), ``rejected``
    (a count), ``entries`` in memory after it, ``evidence_recall`` so far, ``prompt_shortened`` and ``response_cut``."""
    generate_s: float
    """Seconds in the policy, prompts that did not fit included."""
    env_s: float
    """Seconds in the environment."""


@dataclass(frozen=True, slots=True)
class Session:
    """An episode played to its end; ``totals["truncated"]`` says whether it ended at its step limit."""

    steps: list[SessionStep]
    """The steps in order."""
    reward: float
    """The sum of all steps' rewards, shaping included."""
    totals: dict[str, float]
    """Numbers of the session by name; every session has all of :data:`TOTALS`, in their order."""
    metrics: Mapping[str, Any]
    """``info["episode_metrics"]`` of the last step: JSON values, with the answer and score of every question."""


TOTALS = (
    "acc",
    "em",
    "f1",
    "env_reward",
    "shaping",
    "evidence_recall",
    "evidence_recall_exact",
    "steps",
    "truncated",
    *(f"op_{kind}" for kind in KINDS),
    "rejected",
    "peak_entries",
    "final_entries",
    "prompts_shortened",
    "responses_cut",
    "prompt_tokens",
    "response_tokens",
    "cached_tokens",
    *(f"reader_{name}" for name in ("questions", "calls", "prompt_tokens", "completion_tokens", "seconds")),
    "env_s",
    "session_s",
)
"""The names in ``Session.totals``; a number that is unknown is NaN.

- ``acc`` is ``em`` under the name that veRL puts into ``val-core``.
- ``env_reward`` is the reward of the environment (SPEC R1), and ``shaping`` what wrappers added to it.
- ``op_…`` are executed operations by kind.
- ``cached_tokens`` are the prompt tokens that the server found in its prefix cache.
- ``reader_…`` is the cost of a frozen reader (SPEC E13), 0 where the policy answers.
- ``env_s`` are the seconds in the environment, reset included, and ``session_s`` those of the whole session.
"""


def check_overlong_prompt(value: str, name: str = "overlong_prompt") -> None:
    """Check that ``value`` is an :data:`OverlongPrompt`.

    Args:
        value: The user's setting.
        name: The user's name of the setting, for the message.

    Raises:
        ConfigError: it is neither ``shorten`` nor ``error``.
    """
    if value not in ("shorten", "error"):
        raise ConfigError(f"{name}={value!r} must be 'shorten' or 'error'")


async def play_session(
    env: PoolEnv,
    item: ItemReference | int,
    policy: Policy,
    *,
    shuffle_seed: int = 0,
    prompt: PromptTemplate | None = None,
    overlong_prompt: OverlongPrompt = "shorten",
    on_step: Callable[[SessionStep], None] | None = None,
) -> Session:
    """Play one episode to its end.

    Args:
        env: An environment of a pool that no other coroutine uses.
        item: The item: its index, ``0 <= item < env.num_items``, or the reference in a training row, whose id is
            checked.
        policy: Awaited with the messages of each step; returns the reply.
        shuffle_seed: Seed of the item's layout: order of documents and questions, drawn distractors.
        prompt: Renders observations; by default the template of the environment's dialect. Sessions of one pool may
            share it.
        overlong_prompt: What happens when the policy raises ``ContextLengthError``. ``shorten`` drops the end of the
            chunk, then entries, scratchpad and feedback, by the rule of ``shortening.Shortener``, and asks again;
            ``error`` ends the session with that error.
        on_step: Called with each step once it is played, so that the caller of an interrupted session has its steps.

    Returns:
        The steps with their rewards, totals and metrics.

    Raises:
        ConfigError: the item of a reference is missing or has another id, or ``overlong_prompt`` is neither
            ``shorten`` nor ``error``.
        IndexError: ``item`` is an index without an item.
        ContextLengthError: a prompt is too long, and ``overlong_prompt`` is ``error`` or shortening was not enough.
        LanguageModelError: a reply did not end with a stop, at the length limit or with a tool call (SPEC A9).
        AtomMemError: the environment's I/O failed.
        Exception: whatever the policy raises. The environment may be used for the next session.
    """
    check_overlong_prompt(overlong_prompt)
    prompt = PromptTemplate(env.config) if prompt is None else prompt
    index = item.index if isinstance(item, ItemReference) else item
    if isinstance(item, ItemReference) and not 0 <= index < env.num_items:
        raise ConfigError(
            f"a row names item {index} of {item.env_id}, which has {env.num_items}: the source or a keyword argument "
            "has changed; write the data again with `atommem data verl` or `atommem data skyrl`"
        )
    playing = Playing[str, Observation]("policy", index, shuffle_seed)
    began = time.perf_counter()
    observation, info = await env.areset(options=playing.options)
    reset_s = time.perf_counter() - began
    if isinstance(item, ItemReference):
        item.check(env.item)
    playing.show("", observation, info)
    steps: list[SessionStep] = []
    while not playing.over:
        messages, reply, shortened = await _asked(playing, prompt, policy, overlong_prompt)
        with playing.timed("env"):
            result = await env.astep(reply.text)
        info = result[-1]
        facts = {
            "step": playing.steps,
            "phase": int(playing.observation["phase"]),
            "operations": dict(info["applied"]),
            "rejected": len(info["rejected"]),
            "entries": info["entries"],
            "evidence_recall": env.episode.evidence_recall,
            "prompt_shortened": shortened,
            "response_cut": ending(reply.stop_reason) == "length",
        }
        seconds = playing.seconds
        steps.append(SessionStep(messages, reply, float(result[1]), facts, seconds.agent, seconds.env))
        playing.step(reply.text, *result)
        if on_step is not None:
            on_step(steps[-1])
    record = playing.record()
    metrics = playing.info["episode_metrics"]
    answers = [metrics["answers"][number] for number in env.episode.counted]
    totals = _totals(steps, record, answers, env.episode.state.reader)
    totals["env_s"] += reset_s
    totals["session_s"] = time.perf_counter() - began
    return Session(steps, record.reward, totals, metrics)


async def _asked(
    playing: Playing[str, Observation], prompt: PromptTemplate, policy: Policy, overlong_prompt: OverlongPrompt
) -> tuple[Messages, Reply, bool]:
    """The prompt that was answered, the reply, and whether the prompt had to be shortened."""
    observation = playing.observation
    messages = prompt.messages(observation)
    shortener = Shortener(observation, max_tokens=1)
    shortened = False
    while True:
        try:
            with playing.timed("agent"):
                reply = await policy(messages)
        except ContextLengthError as error:
            if overlong_prompt == "error":
                raise
            shorter = shortener.next(error, sum(len(message["content"]) for message in messages))
            messages, shortened = prompt.messages(shorter.observation), True
            continue
        check_ending(reply.stop_reason, f"a reply of {len(reply.text)} characters")
        return messages, reply, shortened


def check_ending(stop_reason: object, what: str) -> None:
    """Check that a reply ended with a stop, at the length limit or with a tool call (SPEC A9).

    Args:
        stop_reason: The server's word for how the reply ended.
        what: Describes the reply, for the message.

    Raises:
        LanguageModelError: it ended in another way, or the server does not say how.
    """
    if ending(stop_reason) is None:
        raise LanguageModelError(
            f"the model's server ended {what} with stop_reason={stop_reason!r}; only what ended as a stop, at the "
            "length limit or with a tool call is acted on and trained on"
        )


def _known(value: float | None) -> float:
    """The value, or NaN for ``None``: trainers average over these numbers, and those that can leave NaN out."""
    return float("nan") if value is None else value


def _sum(counts: Sequence[int | None]) -> float:
    """The sum; NaN if a count is unknown."""
    known = [count for count in counts if count is not None]
    return float(sum(known)) if len(known) == len(counts) else float("nan")


def _totals(
    steps: Sequence[SessionStep],
    record: EpisodeRecord,
    answers: Sequence[Mapping[str, Any]],
    reader: ReaderCosts,
) -> dict[str, float]:
    env_reward = sum(answer["score"] for answer in answers) / max(1, len(answers))
    cached: list[Any] = [step.reply.extra.get("num_cached_tokens") for step in steps]
    totals = {
        "acc": _known(record.em),
        "env_reward": env_reward,
        "shaping": record.reward - env_reward,
        **{name: _known(getattr(record, name)) for name in TOTALS if hasattr(record, name)},
        **{f"op_{kind}": record.operations.get(kind, 0) for kind in KINDS},
        "prompts_shortened": sum(step.facts["prompt_shortened"] for step in steps),
        "responses_cut": sum(step.facts["response_cut"] for step in steps),
        "prompt_tokens": _sum([step.reply.prompt_tokens for step in steps]),
        "response_tokens": _sum([step.reply.response_tokens for step in steps]),
        "cached_tokens": _sum(cached),
        **{f"reader_{name}": _known(value) for name, value in reader.counted().items()},
        "reader_seconds": reader.seconds,
        "env_s": sum(step.env_s for step in steps),
        "session_s": float("nan"),
    }
    return {name: float(totals[name]) for name in TOTALS}
