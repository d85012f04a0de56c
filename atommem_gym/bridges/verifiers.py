"""verifiers 0.4 (v1): a taskset of items and a harness that plays them; ``bridges/verifiers`` exports both.

Each step is a separate request, so it is a branch of the trace and one sample for a trainer. The rollout has one
reward. The harness plays in the process of the evaluation. It needs no container, because a model cannot execute
anything.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncIterator, Iterator
from typing import Any

import openai
import verifiers.v1 as vf
from pydantic import Field

import atommem_gym  # noqa: F401  (registers the ids)
from atommem_gym.agents.players.openai_reply import reply_text, sdk_context_length_error
from atommem_gym.agents.session import Messages, Reply, Session, SessionStep, play_session
from atommem_gym.agents.shared_pools import shared_pool
from atommem_gym.chat_reply import read_chat
from atommem_gym.endpoints import OddReplyError, decoded
from atommem_gym.errors import ConfigError, LanguageModelError
from atommem_gym.records.verl_rows import ItemReference, references
from atommem_gym.registration import configure, load_items, resolve_env_id, task_of

INFO = "atommem"
"""Key of a trace's ``info`` under which the result of the episode stands."""


class AtomMemData(vf.TaskData):  # type: ignore[misc]  # verifiers is not installed where types are checked
    """A reference to one item, so that its documents are not copied into traces."""

    extra_info: dict[str, Any]
    """The reference, as :meth:`~atommem_gym.records.verl_rows.ItemReference.as_extra_info` returns it."""


class AtomMemTask(vf.Task[AtomMemData]):  # type: ignore[misc]
    """Scores an episode by what the harness has put into ``trace.info``."""

    @vf.reward  # type: ignore[untyped-decorator]
    async def atommem(self, trace: vf.Trace) -> float:
        """The sum of the rewards of the played steps."""
        return float(trace.info[INFO]["reward"])

    @vf.metric  # type: ignore[untyped-decorator]
    async def totals(self, trace: vf.Trace) -> dict[str, float]:
        """The known totals of the session; for a stopped episode only ``steps`` and ``truncated``."""
        return dict(trace.info[INFO]["totals"])


class AtomMemConfig(vf.TasksetConfig):  # type: ignore[misc]
    """The items to play: ``--env.taskset.…``."""

    env: str = "AtomMem-Synthetic-v0"
    """A Gymnasium id or the name of a task, such as ``HotpotQA``."""
    keywords: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of the environment, as JSON: ``'{"num_docs": 40}'``."""
    shuffle_seed: int = 0
    """Seed of the layout of all items."""


class AtomMemTaskset(vf.Taskset[AtomMemTask, AtomMemConfig]):  # type: ignore[misc]
    """The items of an environment, in their order; each is loaded when it is needed."""

    def load(self) -> Iterator[AtomMemTask]:
        """The tasks. Their prompts are the questions; the harness shows the environment's own prompts instead.

        Raises:
            ConfigError: there is no such environment, a keyword argument is wrong, or one holds a password or key,
                which must not be written to traces.
        """
        env_id, keywords = resolve_env_id(self.config.env), self.config.keywords
        task = task_of(env_id)
        if task is None:
            raise ConfigError(
                f"env={env_id!r} is not an environment of this package or of a registered task; "
                "`atommem envs` lists them"
            )
        items = load_items(task.name, configure(task.name, keywords))
        indices, seed = range(items.num_items), self.config.shuffle_seed
        for reference, item in references(env_id, keywords, items, indices, shuffle_seed=seed, part="validation"):
            yield AtomMemTask(
                AtomMemData(
                    id=item.id,
                    name=f"{task.name}/{item.id}",
                    prompt="\n".join(question.question for question in item.questions),
                    extra_info=reference.as_extra_info(),
                ),
                self.config.task,
            )


class AtomMemHarnessConfig(vf.HarnessConfig):  # type: ignore[misc]
    """How items are played: ``--env.agent.harness.…``."""

    capacity: int = Field(64, ge=1)
    """Episodes at a time in this process, which share their embedding and store calls; further episodes wait."""
    tries: int = Field(4, ge=1)
    """Requests for one reply, at most; only errors that may pass are tried again, with growing waits."""


class AtomMemHarness(vf.Harness[AtomMemHarnessConfig]):  # type: ignore[misc]
    """Plays an item by :func:`~atommem_gym.agents.session.play_session`, with a fresh context in every step.

    A stop by the framework (``max_turns``, a limit of tokens, a ``@stop``) ends the episode at once. Its reward is that
    of the steps so far, so an open question earns nothing.
    """

    APPENDS_SYSTEM_PROMPT = True
    EXECUTES_CODE = False
    NEEDS_CONTAINER = False

    async def launch(
        self,
        ctx: vf.ModelContext,
        trace: vf.Trace,
        runtime: vf.Runtime,
        endpoint: str,
        secret: str,
        mcp_urls: dict[str, str],
        data: AtomMemData,
    ) -> vf.ProgramResult:
        """Play the task's item to its end; see :class:`verifiers.v1.Harness`.

        Raises:
            AtomMemError: ``play_session`` raised it; verifiers records it as the rollout's error.
        """
        reference = ItemReference.from_extra_info(data.extra_info)
        shared = await shared_pool(reference.env_id, reference.env_keywords, capacity=self.config.capacity)
        played: list[SessionStep] = []

        def on_step(step: SessionStep) -> None:
            played.append(step)
            trace.info[INFO] = _stopped(played)

        trace.info[INFO] = _stopped(played)
        async with _client(endpoint, secret, self.config.tries) as client, shared.pool.env() as env:
            try:
                session = await play_session(
                    env,
                    reference,
                    _Asking(client, ctx.model, trace),
                    shuffle_seed=reference.shuffle_seed,
                    prompt=shared.prompt,
                    on_step=on_step,
                )
            except _StoppedError:
                return vf.ProgramResult(exit_code=0, stdout="", stderr="")
        trace.info[INFO] = _finished(session)
        return vf.ProgramResult(exit_code=0, stdout="", stderr="")


class _StoppedError(Exception):
    """The framework has stopped this rollout and answers no further request."""


class _Asking:
    """The policy: the model at the framework's endpoint, which records every request as a turn."""

    def __init__(self, client: openai.AsyncOpenAI, model: str, trace: vf.Trace) -> None:
        self._client, self._model, self._trace = client, model, trace

    async def __call__(self, messages: Messages) -> Reply:
        try:
            # The framework adds the sampling settings.
            raw = await self._client.chat.completions.with_raw_response.create(model=self._model, messages=messages)
        except openai.APIStatusError as error:
            if self._trace.stop_condition is not None:
                raise _StoppedError from error
            too_long = sdk_context_length_error(error, self._model)
            if too_long is not None:
                raise too_long from error
            raise
        try:
            reply = read_chat(decoded(raw.http_response.content))
        except (ValueError, OddReplyError) as error:
            raise LanguageModelError(f"the model {self._model!r} sent a reply that cannot be used: {error}") from error
        return Reply(
            reply_text(reply, ()),
            reply.ended,
            prompt_tokens=reply.prompt_tokens,
            response_tokens=reply.completion_tokens,
        )


@contextlib.asynccontextmanager
async def _client(endpoint: str, secret: str, tries: int) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=endpoint, api_key=secret, max_retries=tries - 1) as client:
        yield client


def _stopped(played: list[SessionStep]) -> dict[str, Any]:
    """The result of an episode that has not ended."""
    rewards = [step.reward for step in played]
    return {
        "finished": False,
        "reward": math.fsum(rewards),
        "rewards": rewards,
        "totals": {"steps": float(len(played)), "truncated": 1.0},
    }


def _finished(session: Session) -> dict[str, Any]:
    return {
        "finished": True,
        "reward": session.reward,
        "rewards": [step.reward for step in session.steps],
        # verifiers averages these; NaN stands for an unknown number, such as evidence recall without evidence.
        "totals": {name: value for name, value in session.totals.items() if not math.isnan(value)},
        "metrics": dict(session.metrics),
    }


class AtomMemEnvConfig(vf.SingleAgentEnvConfig):  # type: ignore[misc]
    """The environment's defaults; those of verifiers would start a sandbox in its cloud."""

    agent: vf.AgentConfig = vf.AgentConfig(runtime=vf.SubprocessConfig())
    """The agent, in a process on this machine."""


class AtomMemSingleAgentEnv(vf.Env[AtomMemEnvConfig]):  # type: ignore[misc]
    """One agent plays one task, in this process."""

    async def run(self, task: AtomMemTask, agents: vf.Agents) -> None:
        """See :class:`verifiers.v1.Env`."""
        await agents.agent.run(task)
