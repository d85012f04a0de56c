"""Inspect 0.3: a task for every environment, such as ``inspect eval atommem_gym/hotpotqa``, by an entry point.

A sample is an item. Its solver plays the item with a fresh context in every step, and its scores come from the
environment: exact match, F1, evidence recall and the reward. Task arguments (``-T``) are the environment's keyword
arguments.
"""

from __future__ import annotations

import math
from typing import Any

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import (
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageUser,
    Model,
    ModelOutput,
    get_model,
)
from inspect_ai.scorer import Score, Scorer, Target, mean, scorer, stderr
from inspect_ai.solver import Generate, Solver, TaskState, solver

import atommem_gym  # noqa: F401  (registers the ids)
from atommem_gym.agents.players.openai_reply import sdk_context_length_error
from atommem_gym.agents.session import Messages, Policy, Reply, play_session
from atommem_gym.agents.shared_pools import shared_pool
from atommem_gym.errors import ConfigError, ContextLengthError, check_integer
from atommem_gym.records.verl_rows import ItemReference, references
from atommem_gym.registration import TASKS, configure, load_items, resolve_env_id, task_of

PLAYED = "atommem"
"""Key of a sample's metadata under which the result of the episode stands."""
SCORES = ("em", "f1", "evidence_recall")
"""The totals of the session that are scores of the sample; ``reward`` is another one."""


def environment_task(
    env: str, *, samples: int = 100, shuffle_seed: int = 0, capacity: int = 64, **keywords: Any
) -> Task:
    """An environment as a task of Inspect.

    Args:
        env: A Gymnasium id or the name of a task, such as ``HotpotQA``.
        samples: Number of items, from the first; at most all. Inspect makes every sample before it applies ``--limit``,
            and a generated item takes some 10 ms.
        shuffle_seed: Seed of the items' layout.
        capacity: Episodes at a time, which share their embedding and store calls; ``--max-samples`` sets how many
            Inspect plays at a time.
        **keywords: Keyword arguments of the environment.

    Returns:
        The task, with a sample for each item.

    Raises:
        ConfigError: there is no such environment, an argument is wrong, or an argument holds a password or key, which
            must not be written to logs.
    """
    env_id = resolve_env_id(env)
    known = task_of(env_id)
    if known is None:
        raise ConfigError(
            f"env={env_id!r} is not an environment of this package or of a registered task; `atommem envs` lists them"
        )
    loaded = load_items(known.name, configure(known.name, keywords))
    number = min(check_integer("samples", samples, 1), loaded.num_items)
    listed = [
        Sample(
            id=item.id,
            input="\n".join(question.question for question in item.questions),
            target=["; ".join(question.answers) or "(no answer)" for question in item.questions],
            metadata={"reference": reference.as_extra_info()},
        )
        for reference, item in references(
            env_id, keywords, loaded, range(number), shuffle_seed=shuffle_seed, part="validation"
        )
    ]
    return Task(
        dataset=MemoryDataset(listed, name=env_id, location=env_id),
        solver=play(capacity=check_integer("capacity", capacity, 1)),
        scorer=episode_scores(),
        name=known.name.lower(),
    )


@solver  # type: ignore[untyped-decorator]
def play(capacity: int = 64) -> Solver:
    """A solver that plays the sample's item by :func:`~atommem_gym.agents.session.play_session`.

    Every step is one call of the model in the transcript. The messages of the sample are those of all steps in order.

    Args:
        capacity: Episodes of one environment that are played at a time, with one store and embedder.
    """

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        reference = ItemReference.from_extra_info(state.metadata["reference"])
        shared = await shared_pool(reference.env_id, reference.env_keywords, capacity=capacity)
        state.messages = []
        async with shared.pool.env() as env:
            session = await play_session(
                env,
                reference,
                _policy(get_model(), state),
                shuffle_seed=reference.shuffle_seed,
                prompt=shared.prompt,
            )
        state.metadata[PLAYED] = {
            "reward": session.reward,
            "rewards": [step.reward for step in session.steps],
            "metrics": dict(session.metrics),
            "totals": {name: value for name, value in session.totals.items() if not math.isnan(value)},
        }
        state.completed = True
        return state

    return solve


def _policy(model: Model, state: TaskState) -> Policy:
    """The evaluated model as a policy; prompts and replies are added to the sample's messages."""

    async def policy(messages: Messages) -> Reply:
        system, user = messages
        shown = [ChatMessageSystem(content=system["content"]), ChatMessageUser(content=user["content"])]
        try:
            output = await model.generate(shown)
        except Exception as error:
            too_long = sdk_context_length_error(error, model.name)
            if too_long is None:
                raise
            raise too_long from error
        if output.stop_reason == "model_length":
            # Inspect puts the server's error message in place of the reply.
            raise ContextLengthError(f"the prompt does not fit the context of {model.name}: {output.completion[:200]}")
        if output.error:
            raise RuntimeError(f"{model.name} gave no reply: {output.error}")
        state.messages += [*shown, ChatMessageAssistant(content=output.completion, model=output.model)]
        state.output = output
        return _reply(output)

    return policy


def _reply(output: ModelOutput) -> Reply:
    usage = output.usage
    if usage is None:
        return Reply(output.completion, output.stop_reason)
    prompt = usage.input_tokens + (usage.input_tokens_cache_read or 0) + (usage.input_tokens_cache_write or 0)
    return Reply(output.completion, output.stop_reason, prompt_tokens=prompt, response_tokens=usage.output_tokens)


@scorer(metrics={name: [mean(), stderr()] for name in (*SCORES, "reward")}, name="episode")  # type: ignore[untyped-decorator]
def episode_scores() -> Scorer:
    """A scorer with the environment's scores of the episode; NaN, which means leaves out, for unknown ones."""

    async def score(state: TaskState, target: Target) -> Score:
        if PLAYED not in state.metadata:
            # A limit of Inspect (messages, tokens, time) ended the sample before the end of the episode.
            return Score.unscored(explanation="the episode was not played to its end", reason="scoring_failed")
        played = state.metadata[PLAYED]
        answers = [answer["answer"] for answer in played["metrics"]["answers"]]
        return Score(
            value={**{name: played["totals"].get(name, math.nan) for name in SCORES}, "reward": played["reward"]},
            answer="; ".join("(none)" if answer is None else answer for answer in answers),
        )

    return score


def _register(name: str, env_id: str, summary: str) -> None:
    """Register an environment as a task of Inspect, under its name in lower case."""

    def make(**keywords: Any) -> Task:
        return environment_task(env_id, **keywords)

    make.__doc__ = f"{summary} See ``environment_task``."
    task(name=name.lower())(make)


for _known in tuple(TASKS.values()):
    _register(_known.name, _known.env_id, _known.summary)
