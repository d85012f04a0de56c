"""Plays episodes for veRL's trainer as an agent loop, without changes to veRL (veRL 0.9)."""

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
"""Whose calls go to one replica of the model."""


class AtomMemAgentLoop(AgentLoopBase):  # type: ignore[misc]  # veRL has no types
    """Plays the episode that a row of ``atommem data verl`` names; each step becomes one row for the trainer.

    veRL makes an object of this class for every session. All sessions of a worker process that play the same
    environment share one :class:`~atommem_gym.envs.pool.pool.AtomMemPool`, so their embeddings and writes are batched.
    Name the class in ``agent_loop_config_path`` only. veRL's decorator ``register`` would discard the settings of that
    file when the first session imports the class.

    **Reward.** The sum of the step rewards (SPEC R1, plus ``shaping``) stands on the last output; veRL copies it to the
    others and computes GRPO's advantages from it. The session's totals
    (:data:`~atommem_gym.agents.session.TOTALS`) are its ``reward_extra_info``.

    **Errors.** A failed call of the model's server is repeated with growing pauses, ``tries`` calls in all. A sample
    that the server aborted, or did not report as completed (SPEC A9), counts as a failed call. An error of the last
    call, or of the environment, ends the session: veRL logs it, and
    :class:`~atommem_gym.agents.learn.verl_sampler.GroupSampler` drops the prompt's group. A cancelled session returns
    its environment to the pool and removes its rows from the store.

    **Replicas.** veRL's router sends calls with one request id to one replica, whose prefix cache then holds the common
    beginning of a group's prompts; ``template="shared_prefix"`` makes it longest. The request id is the group's. A
    repeated call gets another id, because the replica may have caused the failure. With ``rollout.full_determinism``
    veRL passes the request id on to vLLM, which needs a different id for every call; then calls are spread over all
    replicas.

    Args:
        env_keywords: Keyword arguments that win over those of the rows. They say where things are (``store``,
            ``embedder``), not what the items are. What a row names is opened or called only if it is named here too.
        imports: Modules to import first: they register tasks, or hold what the rows name as ``"module:name"``. A row
            alone cannot cause an import.
        shaping: Wrappers that add to the reward, such as ``{"MemoryCost": {"per_operation": 0.01}}``.
        template: A Jinja2 file in place of the dialect's prompt, or ``shared_prefix``.
        capacity: Episodes at a time per worker process.
        overlong_prompt: See :func:`~atommem_gym.agents.session.play_session`.
        routing: Whose calls go to one replica: those of a ``group``, or those of a ``session``, which keeps more
            replicas busy if a step has fewer prompts than there are replicas.
        tries: Calls of the model's server for one response, at most.
        log: A JSONL file with one line per session (step, item, layout, reward, totals), which all worker processes
            share. veRL's own tables show only the totals of validation sessions.
        run: Names this start of the training in the log; a run that resumes from a checkpoint plays some steps again.
        **base: veRL's arguments.

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
        """Play the episode of a row.

        Args:
            sampling_params: veRL's sampling settings, for training or validation.
            **row: The columns of the row, and ``global_steps``.

        Returns:
            One output per step, in order; the last has the reward and the totals.

        Raises:
            AtomMemError: the row may not be played, the environment's I/O failed, or a call of the model failed
                ``tries`` times; or the log cannot be written.
            Exception: the last call of the model's server raised it.
        """
        reference = ItemReference.from_extra_info(row["extra_info"])
        reference.check_trust(self.imports, self.env_keywords, self.template)
        global_step = int(row.get("global_steps", 1))
        shuffle_seed = reference.layout(global_step)
        shared = await pool_of(
            reference, self.env_keywords, capacity=self.capacity, shaping=self.shaping, template=self.template
        )

        # A row without a group comes from a direct call of the loop.
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
                # JSON has no NaN, which stands for an unknown number, such as evidence recall without evidence.
                **{name: None if math.isnan(value) else value for name, value in session.totals.items()},
            }
            await asyncio.to_thread(_append, self.log, line)
        return outputs(session)

    async def _encode(self, messages: list[dict[str, str]]) -> list[int]:
        # Not veRL's ct_build_initial_tokens, which cuts long prompts on the left.
        ids = await asyncio.to_thread(self.continuous_token_builder.build_initial_tokens, messages)
        return [int(one) for one in ids]

    async def _decode(self, ids: list[int]) -> str:
        return str(await asyncio.to_thread(self.tokenizer.decode, ids, skip_special_tokens=True))

    def _request_ids(self, group: str, member: int, call: int) -> Iterator[str]:
        """The request ids of a call: the first, then one for each repetition."""
        if getattr(self.rollout_config, "full_determinism", False):
            yield from (f"{group}-{member}-{call}-{attempt}" for attempt in count())
        sticky = group if self.routing == "group" else f"{group}-{member}"
        yield sticky
        while True:
            yield f"{sticky}-{uuid4().hex}"

    async def _generate(
        self, prompt_ids: list[int], sampling_params: Mapping[str, Any], request_ids: Iterator[str]
    ) -> Generated:
        """Sample one response, with ``tries`` calls of the server at most."""

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
    """A session as veRL takes it: one output per step, with reward and totals on the last."""
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
    """Plain Python containers in place of OmegaConf's, which Hydra passes; empty for ``None``."""
    if value is None:
        return {}
    plain: dict[str, Any] = OmegaConf.to_container(OmegaConf.create(value), resolve=True)
    return plain


def _append(path: Path, line: Mapping[str, Any]) -> None:
    """Append a line to the file that all worker processes of a machine share."""
    path.parent.mkdir(parents=True, exist_ok=True)
    JsonLines(path, AtomMemError, "go on, or name another file as log", shared=True).append(line)
