"""TRL 1.16: a rollout worker that plays rows of ``atommem data verl`` for TRL's asynchronous GRPO.

args = AsyncGRPOConfig(num_generations=8, …)
rows = Dataset.from_parquet("data/train.parquet")
worker = AtomMemRolloutWorker(rows, args, tokenizer, model="Qwen/Qwen3-0.6B", max_prompt_length=4096)
AsyncGRPOTrainer("Qwen/Qwen3-0.6B", args=args, train_dataset=rows, rollout_worker=worker).train()
"""

from __future__ import annotations

import asyncio
import importlib
import itertools
import logging
import math
import queue
import random
import statistics
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import httpx
import numpy as np

from atommem_gym.agents.learn.extras import without_extra

try:
    import torch
    from transformers import PreTrainedTokenizerBase
    from trl.experimental.async_grpo import AsyncGRPOConfig
    from trl.experimental.async_grpo.async_rollout_worker import RolloutSample
except ModuleNotFoundError as error:
    raise without_extra(error, "trl") from error

import atommem_gym  # noqa: F401  (registers the ids)
from atommem_gym.agents.learn.grpo import Advantages, group_advantages
from atommem_gym.agents.session import (
    Messages,
    OverlongPrompt,
    Session,
    SessionStep,
    check_overlong_prompt,
    play_session,
)
from atommem_gym.agents.shared_pools import close_pools, pool_of
from atommem_gym.agents.token_policy import Generated, TokenLimits, TokenPolicy, sample_with_retries
from atommem_gym.endpoints import decoded, shown
from atommem_gym.errors import AtomMemError, ConfigError, LanguageModelError, check_integer
from atommem_gym.records.verl_rows import ItemReference

Metric: TypeAlias = float | tuple[float, float]
"""A metric for TRL's trainer: a number, reduced by its name, or numerator and denominator of a rate."""

_TICK_S = 0.25
_STOPS_WITHIN_S = 60.0
_logger = logging.getLogger(__name__)


class AtomMemRolloutWorker:
    """Plays episodes for ``AsyncGRPOTrainer(rollout_worker=…)``, in a thread of the trainer's main process.

    **Groups.** ``args.num_generations`` sessions play the item of a row in one layout; they are a group. Rows are
    played in their order, again from the first after the last, ``args.max_inflight_tasks`` sessions at a time. Every
    step of a session is one sample with a fresh context, and has the session's advantage.

    **Tokens** go from the vLLM server into the samples unchanged, with their log-probabilities. The requests are those
    of TRL's own worker, with its sampling settings (``args``).

    **Versions.** The samples of a group carry the version of the weights that the server had when the group's first
    session began. The trainer drops each sample that is stale (``args.max_staleness``) when it takes it, so it may drop
    only the later samples of a group. While the trainer sends weights it pauses the server, where requests then wait.

    **Failures.** A failed call of the server is repeated, ``tries`` calls in all. A sample that the server aborted, or
    did not report as completed (SPEC A9), counts as a failed call. An error of the last call, or of the environment,
    fails the session, and its whole group is dropped, because the mean over the remaining sessions would be a different
    one. After ``most_failures`` failed groups in a row, or a wrong row, the worker ends, and the trainer with it. A
    group without variance is trained on, with advantages of zero.

    **Metrics.** ``reward``, ``reward_std`` (of the group) and ``atommem/…``, the
    :data:`~atommem_gym.agents.session.TOTALS`, stand in the last sample of each session, so that a session counts once.

    Args:
        rows: Rows of ``atommem data verl``, as mappings. The trainer must get the same rows, because it counts epochs
            by them.
        args: The trainer's arguments. ``max_inflight_tasks`` is read at the start, after the trainer has set it.
        tokenizer: The model's tokenizer, with a chat template.
        model: The model's name at the server.
        max_prompt_length: Tokens of a prompt, at most.
        overlong_prompt: What happens to a longer prompt, see :func:`~atommem_gym.agents.session.play_session`.
        lora_name: ``trl-policy`` if the trainer sends adapters, which the server then serves as ``trl-policy-v1`` and
            so on. It does so for a PEFT model with a server that was started with ``--enable-lora``.
        advantages: Computes the advantages of sessions; see :data:`~atommem_gym.agents.learn.grpo.Advantages`.
        env_keywords: Keyword arguments that win over those of the rows. They say where things are (``store``,
            ``embedder``), not what the items are. What a row names is opened or called only if it is named here too.
        imports: Modules to import first: they register tasks, or hold what the rows name as ``"module:name"``. A row
            alone cannot cause an import.
        shaping: Wrappers that add to the reward, such as ``{"MemoryCost": {"per_operation": 0.01}}``.
        template: A Jinja2 file in place of the dialect's prompt, or ``shared_prefix``.
        tries: Calls of the server for one response, at most.
        most_failures: Failed groups in a row after which the worker ends.

    Raises:
        ConfigError: an argument or a row is wrong.
    """

    def __init__(
        self,
        rows: Iterable[Mapping[str, Any]],
        args: AsyncGRPOConfig,
        tokenizer: PreTrainedTokenizerBase,
        *,
        model: str,
        max_prompt_length: int,
        overlong_prompt: OverlongPrompt = "shorten",
        lora_name: str | None = None,
        advantages: Advantages = group_advantages,
        env_keywords: Mapping[str, Any] | None = None,
        imports: Sequence[str] = (),
        shaping: Mapping[str, Mapping[str, Any]] | None = None,
        template: str | None = None,
        tries: int = 3,
        most_failures: int = 8,
    ) -> None:
        check_overlong_prompt(overlong_prompt)
        # In a group of one the advantage is always 0.
        check_integer("args.num_generations", args.num_generations, 2)
        self.args, self.tokenizer, self.model, self.lora_name = args, tokenizer, model, lora_name
        self.limits = TokenLimits(check_integer("max_prompt_length", max_prompt_length, 1), args.max_completion_length)
        self.tries = check_integer("tries", tries, 1)
        self.most_failures = check_integer("most_failures", most_failures, 1)
        self.overlong_prompt, self.advantages = overlong_prompt, advantages
        self.env_keywords, self.shaping, self.template = dict(env_keywords or {}), dict(shaping or {}), template
        for module in imports:
            importlib.import_module(module)
        self._references = [ItemReference.from_extra_info(row.get("extra_info") or {}) for row in rows]
        if not self._references:
            raise ConfigError("there are no rows to play; write them with `atommem data verl`")
        for reference in self._references:
            reference.check_trust(imports, self.env_keywords, template)
        self.rollout_buffer: queue.Queue[RolloutSample] = queue.Queue(args.queue_maxsize)
        """The samples for the trainer."""
        self.metrics_queue: queue.Queue[dict[str, Metric]] = queue.Queue()
        """Further metrics for the trainer's log; one item per group."""
        self.model_version = 0
        """Version of the weights that the server has."""
        self._numbers = itertools.count()
        self._failures_in_a_row = 0
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._heartbeat = 0.0
        self._failure: BaseException | None = None

    # -- TRL's RolloutWorkerProtocol

    def start(self) -> None:
        """Start to play, in a thread. A second call does nothing; after ``stop`` it continues with the next row.

        Raises:
            ConfigError: ``args.max_inflight_tasks`` is not set.
        """
        if self._thread is not None:
            _logger.warning("the rollout worker is running already")
            return
        sessions = self.args.max_inflight_tasks
        if sessions < 1:
            raise ConfigError(
                f"args.max_inflight_tasks={sessions} must be at least 1: it is how many sessions are played at a time. "
                "The trainer fills it in if it has the same args as the worker; without one set it yourself"
            )
        self._stop.clear()
        self._failure, self._failures_in_a_row, self._heartbeat = None, 0, time.monotonic()
        self._thread = threading.Thread(target=self._run, args=(sessions,), name="atommem-rollouts", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End all sessions and return their environments to the pool. The samples in ``rollout_buffer`` stay there."""
        if self._thread is None:
            return
        self._stop.set()
        self._thread.join(_STOPS_WITHIN_S)
        if self._thread.is_alive():
            _logger.warning("the rollout worker did not end in %.0f s; it ends with this process", _STOPS_WITHIN_S)
            return
        self._thread = None

    def update_model_version(self, model_version: int) -> None:
        """Set the version of the weights that the server has from now on; groups that begin later carry it."""
        self.model_version = model_version

    def check_health(self, stale_after_s: float) -> None:
        """Check that the worker is running.

        Args:
            stale_after_s: Seconds that the worker may be stuck.

        Raises:
            AtomMemError: the worker has failed, is stuck, or was not started.
        """
        if self._failure is not None:
            raise AtomMemError(f"the rollout worker has failed: {self._failure}") from self._failure
        if self._thread is None:
            raise AtomMemError("the rollout worker is not running, so no sample will come: call its start()")
        age = time.monotonic() - self._heartbeat
        if age > stale_after_s:
            raise AtomMemError(
                f"the rollout worker has been stuck for {age:.0f} s, and {stale_after_s:.0f} s are allowed: look at "
                "what its thread atommem-rollouts waits for (py-spy dump), or raise args.heartbeat_stale_after_s"
            )

    # -- the thread

    def _run(self, sessions: int) -> None:
        try:
            asyncio.run(self._play_groups(sessions))
        except BaseException as error:  # check_health raises it in the trainer
            _logger.exception("the rollout worker has failed")
            self._failure = error

    async def _play_groups(self, sessions: int) -> None:
        slots = asyncio.Semaphore(sessions)
        # Twice as many groups as fit: while one waits for its last session or for room in the buffer, others play.
        at_most = 2 * math.ceil(sessions / self.args.num_generations)
        playing: set[asyncio.Task[None]] = set()
        url = self.args.vllm_server_base_url.rstrip("/")
        async with httpx.AsyncClient(
            base_url=url, timeout=self.args.request_timeout, limits=httpx.Limits(max_connections=sessions)
        ) as client:
            try:
                while not self._stop.is_set():
                    self._heartbeat = time.monotonic()
                    while len(playing) < at_most:
                        group = _Group(next(self._numbers), client, slots)
                        playing.add(asyncio.create_task(self._play_group(group, sessions)))
                    done, playing = await asyncio.wait(playing, timeout=_TICK_S, return_when=asyncio.FIRST_COMPLETED)
                    for one in done:
                        one.result()
            finally:
                for one in playing:
                    one.cancel()
                await asyncio.gather(*playing, return_exceptions=True)
                await close_pools()

    async def _play_group(self, group: _Group, sessions: int) -> None:
        """Play all sessions of an item, and put their samples into the buffer."""
        members = (self._session(group, sessions) for _ in range(self.args.num_generations))
        outcomes = await asyncio.gather(*members, return_exceptions=True)
        played = [one for one in outcomes if isinstance(one, Session)]
        errors = [one for one in outcomes if isinstance(one, BaseException)]
        for error in errors:
            if isinstance(error, ConfigError) or not isinstance(error, Exception):
                raise error
        if errors:
            self._failed(group, errors)
            return
        self._failures_in_a_row = 0
        rewards = [session.reward for session in played]
        flat = all(reward == rewards[0] for reward in rewards)
        self.metrics_queue.put(_group_metrics(flat=flat, failed=0))
        worth = self.advantages(torch.tensor(rewards), torch.zeros(len(rewards), dtype=torch.long)).tolist()
        std = statistics.pstdev(rewards)
        for session, advantage in zip(played, worth, strict=True):
            for sample in samples(session, advantage, group.number, group.version, reward_std=std):
                await self._put(sample)

    def _failed(self, group: _Group, errors: Sequence[BaseException]) -> None:
        self._failures_in_a_row += 1
        self.metrics_queue.put(_group_metrics(flat=None, failed=len(errors)))
        last = errors[-1]
        text = f"{len(errors)} of {self.args.num_generations} sessions failed, the last with {_said(last)}"
        _logger.error("group %d is not trained on: %s", group.number, text, exc_info=last)
        if self._failures_in_a_row >= self.most_failures:
            raise AtomMemError(
                f"{self._failures_in_a_row} groups failed in a row; of the last one {text}. Check the server at "
                f"{self.args.vllm_server_base_url}, or raise most_failures or tries"
            ) from last

    async def _session(self, group: _Group, sessions: int) -> Session:
        async with group.slots:
            if group.version < 0:
                group.version = self.model_version
            reference = self._references[group.number % len(self._references)]
            shared = await pool_of(
                reference, self.env_keywords, capacity=sessions, shaping=self.shaping, template=self.template
            )

            async def generate(prompt_ids: list[int]) -> Generated:
                return await sample_with_retries(lambda: self._ask(group.client, prompt_ids), self.tries)

            async with shared.pool.env() as env:
                return await play_session(
                    env,
                    reference,
                    TokenPolicy(self._encode, self._decode, generate, self.limits),
                    # Another layout in every epoch, if the rows ask for it.
                    shuffle_seed=reference.layout(group.number // len(self._references)),
                    prompt=shared.prompt,
                    overlong_prompt=self.overlong_prompt,
                )

    async def _put(self, sample: RolloutSample) -> None:
        while True:
            sample.enqueued_at = time.time()
            try:
                self.rollout_buffer.put_nowait(sample)
                return
            except queue.Full:
                # The trainer is slower; meanwhile no further groups begin.
                await asyncio.sleep(_TICK_S)

    # -- the model

    async def _ask(self, client: httpx.AsyncClient, prompt_ids: list[int]) -> Generated:
        """Send one request, in the form of TRL's own worker."""
        args = self.args
        payload = {
            "model": self.model if self.lora_name is None else f"{self.lora_name}-v{self.model_version}",
            "prompt": prompt_ids,
            "max_tokens": args.max_completion_length,
            "temperature": args.temperature,
            "top_p": args.top_p,
            "top_k": args.top_k,
            "repetition_penalty": args.repetition_penalty,
            "n": 1,
            "return_token_ids": True,
            "logprobs": 0,
            # Without a seed, replicas of a server sample the same texts for one prompt.
            "seed": random.getrandbits(63),
        }
        if args.min_p is not None:
            payload["min_p"] = args.min_p
        response = await client.post("/v1/completions", json=payload)
        if response.status_code != httpx.codes.OK:
            raise LanguageModelError(
                f"{response.url} answered {response.status_code}: {response.text[:500]} "
                f"(asked for {payload['model']!r} with {len(prompt_ids)} + {args.max_completion_length} tokens: the "
                "server's --max-model-len must hold max_prompt_length and args.max_completion_length together)"
            )
        choice = _first_choice(response)
        logged = choice.get("logprobs")
        token_ids = _numbers(choice.get("token_ids"), int)
        log_probs = _numbers(logged.get("token_logprobs") if isinstance(logged, dict) else None, int, float)
        if token_ids is None or log_probs is None or len(token_ids) != len(log_probs):
            raise LanguageModelError(
                f"{response.url} gave no token_ids or no logprobs.token_logprobs, one number for each, without which "
                "there is nothing to train on; serve the model with a vLLM that knows return_token_ids, as TRL's "
                "trainer needs it"
            )
        return Generated(token_ids, choice.get("finish_reason"), log_probs)

    async def _encode(self, messages: Messages) -> list[int]:
        # TRL also accepts JSON from a command line, which it has parsed by now.
        keywords = self.args.chat_template_kwargs or {}
        ids = self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False, **keywords)
        return [int(one) for one in ids]

    async def _decode(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))


@dataclass(slots=True)
class _Group:
    """The sessions of one item."""

    number: int
    """Number of the group, from 0."""
    client: httpx.AsyncClient
    """Connections to the server."""
    slots: asyncio.Semaphore
    """One place for each session that may be under way."""
    version: int = -1
    """Version of the weights when the first session began; -1 before."""


def samples(
    session: Session, advantage: float, group_id: int, model_version: int, *, reward_std: float
) -> list[RolloutSample]:
    """A session as TRL takes it: one sample per step, with metrics in the last.

    Args:
        session: A session that was played with a ``TokenPolicy``.
        advantage: The session's advantage.
        group_id: Number of its group.
        model_version: Version of the weights that played it.
        reward_std: Standard deviation of the rewards in its group.
    """
    made = [_sample(step, advantage, group_id, model_version) for step in session.steps]
    # NaN stands for an unknown number, such as evidence recall without evidence.
    known = {f"atommem/{name}": value for name, value in session.totals.items() if not math.isnan(value)}
    made[-1].metrics = {"reward": session.reward, "reward_std": reward_std, **known}
    return made


def _sample(step: SessionStep, advantage: float, group_id: int, model_version: int) -> RolloutSample:
    prompt_ids, token_ids = list(step.reply.prompt_ids), list(step.reply.token_ids)
    context = [0] * len(prompt_ids)
    # _ask returns no reply without log-probabilities.
    assert step.reply.log_probs is not None
    return RolloutSample(
        prompt=step.messages,
        completion=[{"role": "assistant", "content": step.reply.text}],
        input_ids=np.asarray(prompt_ids + token_ids, dtype=np.int64),
        completion_mask=np.asarray(context + [1] * len(token_ids), dtype=np.int64),
        old_log_probs=np.asarray(context + list(step.reply.log_probs), dtype=np.float32),
        advantage=advantage,
        model_version=model_version,
        group_id=group_id,
        metrics={},
    )


def _group_metrics(*, flat: bool | None, failed: int) -> dict[str, Metric]:
    """Metrics of a group; TRL's trainer adds up numbers with "total" in their name, and divides the sums of pairs."""
    return {
        "atommem/groups_without_variance": (float(bool(flat)), float(flat is not None)),
        "atommem/failed_sessions_total": float(failed),
        "atommem/dropped_groups_total": float(failed > 0),
    }


def _first_choice(response: httpx.Response) -> dict[str, Any]:
    """The first choice of a completion.

    Raises:
        LanguageModelError: the reply has another form.
    """
    try:
        body = decoded(response.content)
    except ValueError as error:
        raise LanguageModelError(f"{response.url} sent no JSON ({str(error)[:200]}); is it vLLM's server?") from error
    choices = body.get("choices") if isinstance(body, dict) else None
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, dict):
        raise LanguageModelError(f"{response.url} sent {shown(body)}, which holds no choices[0]; is it vLLM's server?")
    return choice


def _numbers(values: Any, *kinds: type) -> list[Any] | None:
    """A list of finite numbers of these types; ``None`` for anything else."""
    right = isinstance(values, list) and all(type(one) in kinds and abs(one) < 2**63 for one in values)
    return values if right else None


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
