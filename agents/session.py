"""A training session: one episode in which every step is a prompt and a response of its own, in tokens.

What is trained is what was sampled: token ids go from the model's server into the rows untouched, and only a copy of
them is decoded, for the environment. Nothing here needs veRL; ``verl_loop.py`` is the bridge.
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
from atommem_gym.errors import ContextLengthError, LanguageModelError
from atommem_gym.prompts import PromptTemplate
from atommem_gym.readers.protocol import ReaderCosts
from atommem_gym.records.verl_rows import ItemReference
from atommem_gym.step import Observation

Messages: TypeAlias = list[dict[str, str]]
Encode: TypeAlias = Callable[[Messages], Awaitable[list[int]]]
"""Chat messages as the token ids of a prompt, generation prompt included, however many they are."""
Decode: TypeAlias = Callable[[list[int]], Awaitable[str]]
"""The text of a response, without special tokens."""
OverlongPrompt: TypeAlias = Literal["shorten", "error"]


@dataclass(frozen=True, slots=True)
class Generated:
    """What the model's server sampled."""

    token_ids: list[int]
    stop_reason: str | None
    """How the server ended it: veRL's ``completed``, or a finish reason of ``chat_reply.ENDINGS``."""
    log_probs: list[float] | None = None
    """One per token, or none at all."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """What the server says besides; it goes into the row."""


Generate: TypeAlias = Callable[[list[int]], Awaitable[Generated]]
"""Samples a response to a prompt."""


@dataclass(frozen=True, slots=True)
class SessionStep:
    """One row: a prompt, a response, and what came of it."""

    prompt_ids: list[int]
    generated: Generated
    facts: dict[str, Any]
    """Of this step: ``step``, ``phase``, ``operations`` and ``rejected`` (counts), ``entries``, ``evidence_recall``,
    ``prompt_shortened``, ``response_cut``."""
    generate_s: float
    env_s: float


@dataclass(frozen=True, slots=True)
class Session:
    """An episode that was played to its end."""

    steps: list[SessionStep]
    reward: float
    """The sum of all steps' rewards, shaping included."""
    totals: dict[str, float]
    """See :data:`TOTALS`; every session has all of them, in this order."""


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
"""What is known of a session. ``acc`` is ``em`` under the name that veRL puts into ``val-core``; ``env_reward`` is R1
(SPEC), ``shaping`` what was added to it; ``op_…`` are executed operations; ``cached_tokens`` are those of prompts that
the server found in its prefix cache, NaN if it does not tell; ``reader_…`` is what a frozen reader cost (SPEC E13), NaN
where nobody counts, 0 where the policy answers; ``env_s`` are seconds in the environment, of ``session_s`` in all."""


@dataclass(frozen=True, slots=True)
class TokenLimits:
    """How long prompts and responses may be, and what happens to longer ones."""

    prompt: int
    """Tokens of a prompt at most."""
    response: int
    """Tokens of a response at most; the server ends it there, and it is acted on as it is."""
    overlong_prompt: OverlongPrompt = "shorten"
    """``shorten`` drops from the end of the chunk, then entries, scratchpad and feedback, by the rule of
    ``shortening.Shortener``, and counts it; ``error`` ends the session with an error."""


async def play_session(
    env: PoolEnv,
    reference: ItemReference,
    shuffle_seed: int,
    prompt: PromptTemplate,
    *,
    encode: Encode,
    decode: Decode,
    generate: Generate,
    limits: TokenLimits,
) -> Session:
    """Play the item of a row to its end.

    Args:
        env: Of a pool, not in use by anyone else.
        reference: The item; it is checked.
        shuffle_seed: Its layout.
        prompt: Renders observations.
        encode: The policy's chat template and tokenizer.
        decode: Its inverse, as far as text goes.
        generate: The policy.
        limits: What is too long.

    Raises:
        ConfigError: the item is not the one of the row.
        ContextLengthError: a prompt is too long, and shortening it is not allowed or does not help.
        LanguageModelError: the model gave no token, or not one log-probability per token, or its server did not end
            the sample as a stop or at the length limit (SPEC A9).
        AtomMemError: the environment's I/O failed.
    """
    playing = Playing[str, Observation]("policy", reference.index, shuffle_seed)
    began = time.perf_counter()
    observation, info = await env.areset(options=playing.options)
    reset_s = time.perf_counter() - began
    reference.check(env.item)
    playing.show("", observation, info)
    steps: list[SessionStep] = []
    while not playing.over:
        prompt_ids, shortened = await _prompt(playing.observation, prompt, encode, limits)
        with playing.timed("agent"):
            generated = await generate(prompt_ids)
        check_generated(generated)
        action = await decode(generated.token_ids)
        with playing.timed("env"):
            result = await env.astep(action)
        info = result[-1]
        facts = {
            "step": playing.steps,
            "phase": int(playing.observation["phase"]),
            "operations": dict(info["applied"]),
            "rejected": len(info["rejected"]),
            "entries": info["entries"],
            "evidence_recall": env.episode.evidence_recall,
            "prompt_shortened": shortened,
            "response_cut": len(generated.token_ids) >= limits.response,
        }
        steps.append(SessionStep(prompt_ids, generated, facts, playing.seconds.agent, playing.seconds.env))
        playing.step(action, *result)
    record = playing.record()
    answers = [playing.info["episode_metrics"]["answers"][number] for number in env.episode.counted]
    totals = _totals(steps, record, answers, env.episode.state.reader)
    totals["env_s"] += reset_s
    totals["session_s"] = time.perf_counter() - began
    return Session(steps, record.reward, totals)


async def _prompt(
    observation: Observation, prompt: PromptTemplate, encode: Encode, limits: TokenLimits
) -> tuple[list[int], bool]:
    """The prompt's token ids, and whether anything had to be left out."""
    messages = prompt.messages(observation)
    ids = await encode(messages)
    shortener = Shortener(observation, max_tokens=1)
    shortened = False
    while len(ids) > limits.prompt:
        error = ContextLengthError(
            f"the prompt has {len(ids)} tokens, but at most {limits.prompt} are allowed: raise data.max_prompt_length, "
            "lower chunk_tokens, or let overlong_prompt be 'shorten'",
            len(ids),
            # The shortener's limit is that of prompt and response together, and it was promised one token for that.
            limits.prompt + 1,
        )
        if limits.overlong_prompt == "error":
            raise error
        shorter = shortener.next(error, sum(len(message["content"]) for message in messages))
        messages, shortened = prompt.messages(shorter.observation), True
        ids = await encode(messages)
    return ids, shortened


def check_generated(generated: Generated) -> None:
    """Refuse what cannot be trained on.

    Raises:
        LanguageModelError: see :func:`play_session`.
    """
    if ending(generated.stop_reason) is None:
        raise LanguageModelError(
            f"the model's server ended a sample of {len(generated.token_ids)} tokens with "
            f"stop_reason={generated.stop_reason!r}; only what ended as a stop or at the length limit is trained on"
        )
    if not generated.token_ids:
        raise LanguageModelError("the model's server sampled no token, so there is nothing to train on; see its log")
    if generated.log_probs is not None and len(generated.log_probs) != len(generated.token_ids):
        raise LanguageModelError(
            f"the model's server gave {len(generated.log_probs)} log-probabilities "
            f"for {len(generated.token_ids)} tokens; ask it for those of the sampled tokens"
        )


def _known(value: float | None) -> float:
    """A number for what is absent, which trainers average over: NaN is left out by those that can."""
    return float("nan") if value is None else value


def _totals(
    steps: Sequence[SessionStep],
    record: EpisodeRecord,
    answers: Sequence[Mapping[str, Any]],
    reader: ReaderCosts,
) -> dict[str, float]:
    env_reward = sum(answer["score"] for answer in answers) / max(1, len(answers))
    cached: list[Any] = [step.generated.extra.get("num_cached_tokens") for step in steps]
    totals = {
        "acc": _known(record.em),
        "env_reward": env_reward,
        "shaping": record.reward - env_reward,
        **{name: _known(getattr(record, name)) for name in TOTALS if hasattr(record, name)},
        **{f"op_{kind}": record.operations.get(kind, 0) for kind in KINDS},
        "prompts_shortened": sum(step.facts["prompt_shortened"] for step in steps),
        "responses_cut": sum(step.facts["response_cut"] for step in steps),
        "prompt_tokens": sum(len(step.prompt_ids) for step in steps),
        "response_tokens": sum(len(step.generated.token_ids) for step in steps),
        "cached_tokens": _known(None if None in cached else float(sum(cached))),
        **{f"reader_{name}": _known(value) for name, value in reader.counted().items()},
        "reader_seconds": reader.seconds,
        "env_s": sum(step.env_s for step in steps),
        "session_s": float("nan"),
    }
    return {name: float(totals[name]) for name in TOTALS}
