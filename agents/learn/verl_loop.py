"""Plays episodes for veRL's trainer, so that training a memory policy takes one class and no fork (veRL 0.9)."""

from __future__ import annotations

import asyncio
import importlib
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any, Literal, TypeAlias
from uuid import uuid4

from omegaconf import OmegaConf
from verl.experimental.agent_loop.agent_loop import AgentLoopBase, AgentLoopMetrics, AgentLoopOutput

import atommem_gym  # noqa: F401  (registers the ids)
from atommem_gym.agents.session import OverlongPrompt, Session, check_overlong_prompt, play_session
from atommem_gym.agents.shared_pools import pool_of
from atommem_gym.agents.token_policy import Generated, TokenLimits, TokenPolicy, sample_with_retries
from atommem_gym.errors import AtomMemError, ConfigError, check_integer
from atommem_gym.files.json_lines import JsonLines
from atommem_gym.records.verl_rows import ItemReference

Routing: TypeAlias = Literal["group", "session"]


class AtomMemAgentLoop(AgentLoopBase):  # type: ignore[misc]  # veRL has no types
    """One session: an episode of a row of ``atommem data verl``, each step a row of its own for the trainer.

    veRL makes an object of this class for every session. All sessions of a worker process that play the same
    environment share one :class:`~atommem_gym.envs.pool.pool.AtomMemPool`, so their embeddings and writes are batched.
    veRL finds it through ``agent_loop_config_path`` alone: its decorator ``register`` would replace the settings that
    were read from that file by none, at the import for the first session.

    **Reward.** The sum of the step rewards (R1 of the SPEC plus ``shaping``) stands on the last output, whence veRL
    copies it to the others; GRPO's advantages come from there. The session's totals
    (:data:`~atommem_gym.agents.session.TOTALS`) are its ``reward_extra_info``.

    **Errors.** A failed call of the model's server is repeated ``tries`` times in all, with growing pauses; so is one
    whose sample the server aborted, or of which it does not say that it was completed (SPEC A9). What still fails, or
    fails in the environment, ends the session with the error: veRL logs it, and
    :class:`~atommem_gym.agents.learn.verl_sampler.GroupSampler` drops the prompt's group.
    Cancelling a session gives its environment back, with its rows.

    **Replicas.** veRL's router sends calls with one request id to one replica, whose prefix cache then holds what the
    prompts of a group have in common; most of it with ``template="shared_prefix"``. The id is that of the prompt's
    group, and another one for a repeated call, since the replica may be what failed. vLLM itself is given an id of
    its own for each call by veRL; under ``rollout.full_determinism`` it is given ours, so there every call has
    another, and calls are spread.

    Args:
        env_keywords: Over those of the rows: where things are (``store``, ``embedder``), not what the items are. What
            a row names is opened or called only if it is named here too.
        imports: Modules of your own, which are imported first: they register tasks, or hold what the rows name as
            ``"module:name"``. A row's word alone imports nothing.
        shaping: Added to the reward, such as ``{"MemoryCost": {"per_operation": 0.01}}``.
        template: A Jinja2 file in place of the dialect's prompt, or ``shared_prefix``.
        capacity: Episodes at a time in a worker process.
        overlong_prompt: See :func:`~atommem_gym.agents.session.play_session`.
        routing: Whose calls go to one replica: those of a ``group``, or of a ``session``, which keeps more replicas
            busy where a step has fewer prompts than there are replicas.
        tries: Calls of the model's server for one response at most.
        log: A JSONL file (one line a session: step, item, layout, reward, totals), which all worker processes share;
            veRL's own tables show the totals of validation sessions only.
        run: Names this start of the training in the log; a run that goes on from a checkpoint plays some steps again.
        **base: What veRL gives.

    Raises:
        ConfigError: an argument is wrong.
    """

    def __init__(
        self,
        *,
        env_keywords: Mapping[str, Any] | None = None,
        imports: Sequence[str] = (),
        shaping: Mapping[str, Mapping[str, Any]] | None = None,
        template: str | None = None,
        capacity: int = 64,
        overlong_prompt: OverlongPrompt = "shorten",
        routing: Routing = "group",
        tries: int = 3,
        log: str | None = None,
        run: str = "",
        **base: Any,
    ) -> None:
        super().__init__(**base)
        check_overlong_prompt(overlong_prompt)
        if routing not in ("group", "session"):
            raise ConfigError(f"routing={routing!r} must be 'group' or 'session'")
        self.routing = routing
        self.env_keywords: dict[str, Any] = _plain(env_keywords)
        self.imports = tuple(imports)
        for module in self.imports:
            importlib.import_module(module)
        self.shaping: dict[str, Any] = _plain(shaping)
        self.template = template or None
        self.capacity = capacity
        self.tries = check_integer("tries", tries, 1)
        self.log = Path(log) if log else None
        self.start = run
        self.overlong_prompt = overlong_prompt
        self.limits = TokenLimits(self.rollout_config.prompt_length, self.rollout_config.response_length)

    async def run(self, sampling_params: dict[str, Any], **row: Any) -> list[AgentLoopOutput]:
        """Play the episode of a row; the outputs are its steps, in order.

        Args:
            sampling_params: veRL's, for training or validation.
            **row: The columns of the row, with ``global_steps``.

        Raises:
            AtomMemError: see the class.
        """
        reference = ItemReference.from_extra_info(row["extra_info"])
        reference.check_trust(self.imports, self.env_keywords, self.template)
        global_step = int(row.get("global_steps", 1))
        shuffle_seed = reference.layout(global_step)
        shared = await pool_of(
            reference, self.env_keywords, capacity=self.capacity, shaping=self.shaping, template=self.template
        )

        # Rows of no group are those of somebody who calls the loop directly.
        group, member = str(row.get("uid") or uuid4().hex), int(row.get("session_id", 0))
        calls = count()

        async def generate(prompt_ids: list[int]) -> Generated:
            return await self._generate(prompt_ids, sampling_params, self._request_ids(group, member, next(calls)))

        async with shared.pool.env() as env:
            session = await play_session(
                env,
                reference,
                TokenPolicy(self._encode, self._decode, generate, self.limits),
                shuffle_seed=shuffle_seed,
                prompt=shared.prompt,
                overlong_prompt=self.overlong_prompt,
            )
        if self.log is not None:
            line = {
                "run": self.start,
                "global_step": global_step,
                "uid": str(row.get("uid", "")),
                "session": member,
                "part": reference.part,
                "item": reference.item,
                "shuffle_seed": shuffle_seed,
                "reward": session.reward,
                # JSON has no NaN, which stands for what a task does not say, such as evidence.
                **{name: None if math.isnan(value) else value for name, value in session.totals.items()},
            }
            await asyncio.to_thread(_append, self.log, line)
        return outputs(session)

    async def _encode(self, messages: list[dict[str, str]]) -> list[int]:
        # Not veRL's ct_build_initial_tokens: that cuts long prompts from the left.
        ids = await asyncio.to_thread(self.continuous_token_builder.build_initial_tokens, messages)
        return [int(one) for one in ids]

    async def _decode(self, ids: list[int]) -> str:
        return str(await asyncio.to_thread(self.tokenizer.decode, ids, skip_special_tokens=True))

    def _request_ids(self, group: str, member: int, call: int) -> Iterator[str]:
        """The request id of a session's call, and those of its repetitions."""
        if getattr(self.rollout_config, "full_determinism", False):
            yield from (f"{group}-{member}-{call}-{attempt}" for attempt in count())
        sticky = group if self.routing == "group" else f"{group}-{member}"
        yield sticky
        while True:
            yield f"{sticky}-{uuid4().hex}"

    async def _generate(
        self, prompt_ids: list[int], sampling_params: Mapping[str, Any], request_ids: Iterator[str]
    ) -> Generated:
        """One response of the server; it may have failed ``tries - 1`` times before."""

        async def call() -> Generated:
            answer = await self.server_manager.generate(
                request_id=next(request_ids),
                prompt_ids=prompt_ids,
                sampling_params={**sampling_params, "max_tokens": self.limits.response},
            )
            log_probs = list(answer.log_probs) if answer.log_probs else None
            return Generated(list(answer.token_ids), answer.stop_reason, log_probs, dict(answer.extra_fields))

        return await sample_with_retries(call, self.tries)


def outputs(session: Session) -> list[AgentLoopOutput]:
    """A session as veRL takes it: one output a step, reward and totals on the last."""
    rows = [
        AgentLoopOutput(
            prompt_ids=list(step.reply.prompt_ids),
            response_ids=list(step.reply.token_ids),
            response_mask=[1] * len(step.reply.token_ids),
            response_logprobs=None if step.reply.log_probs is None else list(step.reply.log_probs),
            num_turns=len(session.steps),
            metrics=AgentLoopMetrics(generate_sequences=step.generate_s, tool_calls=step.env_s),
            extra_fields={**step.reply.extra, "atommem": step.facts},
        )
        for step in session.steps
    ]
    rows[-1].reward_score = session.reward
    rows[-1].extra_fields["reward_extra_info"] = session.totals
    return rows


def _plain(value: Mapping[str, Any] | None) -> dict[str, Any]:
    """Python containers in place of OmegaConf's, which Hydra passes."""
    if value is None:
        return {}
    plain: dict[str, Any] = OmegaConf.to_container(OmegaConf.create(value), resolve=True)
    return plain


def _append(path: Path, line: Mapping[str, Any]) -> None:
    """Append a line; the worker processes of a machine write one file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    JsonLines(path, AtomMemError, "go on, or name another file as log", shared=True).append(line)
