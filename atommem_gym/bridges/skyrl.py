"""SkyRL 0.3: a generator that plays rows of ``atommem data skyrl``, one sample per step, and a command that trains.

``python -m atommem_gym.bridges.skyrl data.train_data="['data/train.parquet']" …`` trains with SkyRL's own trainer. It
takes SkyRL's options and those of :class:`AtomMemConfig` (``atommem.…``), and needs
``generator.step_wise_trajectories=true``.
"""
# No `from __future__ import annotations`: SkyRL reads the types of its configurations' fields.

import asyncio
import importlib
import math
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Optional
from uuid import uuid4

if __name__ == "__main__" and (sys.version_info < (3, 12) or find_spec("skyrl") is None):
    sys.exit('SkyRL is not here: it needs Python 3.12 and `pip install "atommem-gym[skyrl]"`; see docs/use_from.md')

import ray
from loguru import logger
from skyrl.backends.skyrl_train.inference_servers.base import InferenceEngineInput
from skyrl.backends.skyrl_train.inference_servers.utils import resolve_policy_model_name
from skyrl.train.config import SkyRLTrainConfig
from skyrl.train.entrypoints.main_base import BasePPOExp
from skyrl.train.generators.base import GeneratorInput, GeneratorOutput, TrajectoryID
from skyrl.train.generators.skyrl_gym_generator import SkyRLGymGenerator, StepWiseOutput, TrajectoryOutput
from skyrl.train.generators.utils import get_rollout_metrics
from skyrl.train.utils import validate_cfg
from skyrl.train.utils.utils import initialize_ray
from skyrl_gym.core import Env
from skyrl_gym.envs.registration import register, registry
from skyrl_gym.metrics import default_aggregate_metrics

import atommem_gym  # noqa: F401  (registers the ids)
from atommem_gym.agents.session import Messages, Session, check_overlong_prompt, play_session
from atommem_gym.agents.shared_pools import pool_of
from atommem_gym.agents.token_policy import Generated, TokenLimits, TokenPolicy, sample_with_retries
from atommem_gym.errors import AtomMemError, ConfigError, LanguageModelError, check_integer
from atommem_gym.records.verl_rows import SKYRL_ENV_CLASS as ENV_CLASS
from atommem_gym.records.verl_rows import ItemReference

FAILED = "failed"
"""Name of a session's metric that is 1 if the session failed, else 0."""
_STEP = "atommem_global_step"
_LOST_CALLS = 8
"""After this many calls of ``generate`` in a row in which every session failed, nothing can be played: an error."""
_SESSIONS: ContextVar[list["asyncio.Task[StepWiseOutput]"]] = ContextVar("atommem_sessions")
"""The sessions of the running call of ``generate``."""


@dataclass
class AtomMemConfig:
    """How sessions are played: ``atommem.…`` on the command line."""

    env_keywords: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments that win over those of the rows. They say where things are (``store``, ``embedder``), not what
    the items are. What a row names is opened or called only if it is named here too."""
    imports: list[str] = field(default_factory=list)
    """Modules to import first: they register tasks, or hold what the rows name as ``"module:name"``. A row alone cannot
    cause an import."""
    shaping: dict[str, Any] = field(default_factory=dict)
    """Wrappers that add to the reward, such as ``{MemoryCost: {per_operation: 0.01}}``."""
    template: Optional[str] = None  # noqa: UP045  (SkyRL reads the form of it)
    """A Jinja2 file in place of the dialect's prompt, or ``shared_prefix``."""
    capacity: int = 64
    """Episodes at a time, which share their embedding and store calls; further sessions wait."""
    overlong_prompt: str = "shorten"
    """See :func:`~atommem_gym.agents.session.play_session`."""
    tries: int = 3
    """Calls of the inference engine for one response, at most."""


@dataclass
class AtomMemSkyRLConfig(SkyRLTrainConfig):  # type: ignore[misc]  # SkyRL is not installed where types are checked
    """SkyRL's configuration, and the settings of the environment."""

    atommem: AtomMemConfig = field(default_factory=AtomMemConfig)
    """How sessions are played."""


class AtomMemMetrics(Env):  # type: ignore[misc]
    """Tells SkyRL how to average the metrics of sessions; the generator plays the sessions."""

    @staticmethod
    def aggregate_metrics(metrics: list[dict[str, Any]]) -> dict[str, Any]:
        """Means over the sessions that have a metric, and the number of failed sessions.

        Args:
            metrics: One mapping per step, empty for all but the last step of a session.
        """
        played = [one for one in metrics if one.get(FAILED) == 0.0]
        means = default_aggregate_metrics([{name: one[name] for name in one if name != FAILED} for one in played])
        # SkyRL's asynchronous trainer averages metrics with "mean" in their name over groups; it adds up others.
        return {
            **{f"mean_{name}": value for name, value in means.items()},
            "failed_sessions": float(sum(one.get(FAILED, 0.0) for one in metrics)),
        }


class AtomMemGenerator(SkyRLGymGenerator):  # type: ignore[misc]
    """Plays episodes for SkyRL's trainers: a trajectory is a session, and each of its steps is a sample.

    **Tokens** go from the inference engine into the samples unchanged. Every sampled token has the loss mask 1, and its
    log-probability if the sampling parameters ask for log-probabilities.

    **Reward.** The sum of the step rewards (SPEC R1, plus ``shaping``) stands on the last token of the last step. SkyRL
    computes the advantage of a trajectory from it and gives it to all steps.

    **Failures.** A failed call of the engine is repeated, ``tries`` calls in all. A sample that the engine aborted, or
    did not report as completed (SPEC A9), counts as a failed call. An error of the last call, or of the environment,
    fails the session.

    - In training, a group with a failed session has no loss. Of its other sessions the output has only the last step,
      with its reward and the loss mask 0; of the failed ones it has nothing. If all sessions of a group failed, one
      sample with the reward 0 and without loss stands for the group, and SkyRL's averages of rewards count it.
    - In evaluation, failed sessions are left out. If all sessions of a batch failed, each of its prompts counts as a
      score of 0, because SkyRL needs an output for every batch.
    - Failures of all groups of a training batch with several groups, or of all sessions in 8 calls in a row, are an
      error, and so is a wrong configuration or row.

    Args:
        atommem: The environment's settings.
        **base: Arguments of :class:`SkyRLGymGenerator`.

    Raises:
        ConfigError: a setting is wrong.
    """

    def __init__(self, *, atommem: AtomMemConfig | None = None, **base: Any) -> None:
        super().__init__(**base)
        self.atommem = AtomMemConfig() if atommem is None else atommem
        self._lost_calls = 0
        check_settings(self.generator_cfg, self.atommem)
        for module in self.atommem.imports:
            importlib.import_module(module)
        if ENV_CLASS not in registry:
            register(id=ENV_CLASS, entry_point=AtomMemMetrics)

    async def generate(self, input_batch: GeneratorInput, disable_tqdm: bool = False) -> GeneratorOutput:
        """Play the episodes of a batch of rows; see the class for failed sessions.

        Raises:
            AtomMemError: too many sessions failed, see the class.
            ConfigError: a row is not from `atommem data skyrl`, names what the settings do not name, or its item has
                changed.
        """
        metadata = input_batch.get("batch_metadata")
        # An evaluation outside of training has no step.
        step = 0 if metadata is None else metadata.global_step or 0
        number = len(input_batch["prompts"])
        extras = input_batch.get("env_extras") or [{}] * number
        batch = {
            **input_batch,
            "env_classes": [ENV_CLASS] * number,
            "env_extras": [{**extra, _STEP: step} for extra in extras],
        }
        sessions: list[asyncio.Task[StepWiseOutput]] = []
        token = _SESSIONS.set(sessions)
        try:
            output = await super().generate(batch, disable_tqdm)
        finally:
            _SESSIONS.reset(token)
            # If one session raises or the call is cancelled, SkyRL leaves the others running in the pool.
            for session in sessions:
                session.cancel()
            await asyncio.gather(*sessions, return_exceptions=True)
        lost = all(one.get(FAILED) == 1.0 for one in output["env_metrics"])
        self._lost_calls = self._lost_calls + 1 if lost else 0
        if self._lost_calls >= _LOST_CALLS:
            raise AtomMemError(
                f"all sessions of {self._lost_calls} calls in a row failed, the last with "
                f"{output['env_metrics'][-1]['error']}; the log has all errors"
            )
        return without_failures(output, training=metadata is None or metadata.training_phase == "train")

    def agent_loop(self, *args: Any, **keywords: Any) -> "asyncio.Task[StepWiseOutput]":
        """Play the episode of a row; see :class:`SkyRLGymGenerator`. A failed session is one step without loss."""
        session = asyncio.get_running_loop().create_task(self._session(*args, **keywords))
        _SESSIONS.get([]).append(session)
        return session

    async def _session(
        self,
        prompt: Messages,
        env_class: str,
        env_extras: dict[str, Any],
        max_tokens: int,
        max_input_length: int,
        sampling_params: dict[str, Any] | None = None,
        trajectory_id: TrajectoryID | None = None,
        cache_salt: str | None = None,
    ) -> StepWiseOutput:
        began = time.monotonic()
        # The calls of one id go to one replica, and stand together in its logs.
        session_id = uuid4().hex if trajectory_id is None else trajectory_id.to_string()
        sampling = {} if sampling_params is None else sampling_params
        default = self.generator_cfg.sampling_params.logprobs
        log_probs = (default if sampling_params is None else sampling.get("logprobs")) is not None

        async def call(prompt_ids: list[int]) -> Generated:
            asked = InferenceEngineInput(
                prompt_token_ids=[prompt_ids],
                session_ids=[session_id],
                sampling_params=sampling_params,
                cache_salt=cache_salt,
            )
            answer = await self.inference_engine_client.generate(asked, model=self.policy_model_name)
            known = answer.get("response_logprobs")
            if log_probs and not known:
                raise LanguageModelError(
                    "the inference engine gave no log-probabilities, which sampling_params ask for; see its log, or "
                    "set generator.sampling_params.logprobs to null"
                )
            return Generated(
                list(answer["response_ids"][0]), answer["stop_reasons"][0], list(known[0]) if log_probs else None
            )

        async def generate(prompt_ids: list[int]) -> Generated:
            return await sample_with_retries(lambda: call(prompt_ids), self.atommem.tries)

        limits = TokenLimits(max_input_length, int(sampling.get("max_tokens") or max_tokens))
        try:
            steps = await self._play(env_extras, TokenPolicy(self._encode, self._decode, generate, limits))
        except ConfigError:
            raise
        except Exception as error:
            # Not loguru's own traceback, which shows the values of variables, perhaps keys.
            logger.error("session {} failed: {}", session_id, "".join(traceback.format_exception(error)))
            steps = [failed_sample(self.tokenizer.eos_token_id, error, log_probs)]
        finally:
            await self.inference_engine_client.finish_session(session_id)
        return StepWiseOutput(steps, e2e_time=time.monotonic() - began)

    async def _play(self, env_extras: Mapping[str, Any], policy: TokenPolicy) -> list[TrajectoryOutput]:
        settings = self.atommem
        reference = ItemReference.from_extra_info(env_extras.get("extra_info") or {})
        reference.check_trust(settings.imports, settings.env_keywords, settings.template)
        shared = await pool_of(
            reference,
            settings.env_keywords,
            capacity=settings.capacity,
            shaping=settings.shaping,
            template=settings.template,
        )
        async with shared.pool.env() as env:
            session = await play_session(
                env,
                reference,
                policy,
                shuffle_seed=reference.layout(env_extras.get(_STEP, 0)),
                prompt=shared.prompt,
                overlong_prompt=settings.overlong_prompt,  # type: ignore[arg-type]  # check_settings looked at it
            )
        return samples(session, reference.item)

    async def _encode(self, messages: Messages) -> list[int]:
        ids = self.tokenizer.apply_chat_template(
            messages,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=False,
            **self.generator_cfg.chat_template_kwargs,
        )
        return [int(one) for one in ids]

    async def _decode(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))


def check_settings(generator_cfg: Any, settings: AtomMemConfig) -> None:
    """Check the settings of a generator.

    Args:
        generator_cfg: SkyRL's ``generator`` configuration.
        settings: The environment's settings.

    Raises:
        ConfigError: a setting is wrong.
    """
    if not generator_cfg.step_wise_trajectories:
        raise ConfigError(
            "generator.step_wise_trajectories=False must be true: every step of an episode has a prompt of its own"
        )
    if not generator_cfg.max_input_length:
        raise ConfigError(
            f"generator.max_input_length={generator_cfg.max_input_length!r} must say how many tokens a prompt may "
            "have; trainer.max_prompt_length is its default"
        )
    check_overlong_prompt(settings.overlong_prompt, "atommem.overlong_prompt")
    check_integer("atommem.capacity", settings.capacity, 1)
    check_integer("atommem.tries", settings.tries, 1)


def samples(session: Session, item: str) -> list[TrajectoryOutput]:
    """A session as SkyRL takes it: one sample per step, with reward and metrics on the last.

    Args:
        session: A session that was played with a ``TokenPolicy``.
        item: Id of the item.
    """
    steps = []
    for step in session.steps:
        ids = list(step.reply.token_ids)
        steps.append(
            TrajectoryOutput(
                response_ids=ids,
                reward=[0.0] * len(ids),
                stop_reason=str(step.reply.stop_reason),
                loss_mask=[1] * len(ids),
                prompt_ids=list(step.reply.prompt_ids),
                rollout_logprobs=None if step.reply.log_probs is None else list(step.reply.log_probs),
                env_metrics={},
                e2e_time=step.generate_s + step.env_s,
            )
        )
    steps[-1].reward[-1] = session.reward
    # NaN stands for an unknown number, such as evidence recall without evidence.
    known = {name: value for name, value in session.totals.items() if not math.isnan(value)}
    # SkyRL averages the numbers; other values stay in the output.
    steps[-1].env_metrics = {**known, FAILED: 0.0, "item": item, "episode_metrics": dict(session.metrics)}
    return steps


def failed_sample(token: int, error: Exception, log_probs: bool) -> TrajectoryOutput:
    """The sample of a failed session: one token without loss."""
    return TrajectoryOutput(
        response_ids=[token],
        reward=[0.0],
        stop_reason="error",
        loss_mask=[0],
        prompt_ids=[token],
        rollout_logprobs=[0.0] if log_probs else None,
        env_metrics={FAILED: 1.0, "error": f"{type(error).__name__}: {error}"},
    )


def without_failures(output: GeneratorOutput, *, training: bool) -> GeneratorOutput:
    """Remove failed sessions from a generator's output, so that they are neither trained on nor scored.

    SkyRL's trainer needs every prompt of its batch in the output, so a group in which all sessions failed keeps one
    sample. SkyRL's evaluation needs an output for every batch and has no way to mark missing sessions, so a batch in
    which all sessions failed keeps one sample per prompt as well.

    Args:
        output: The output, with a sample of :func:`failed_sample` for each failed session.
        training: Whether the batch is for training.

    Raises:
        AtomMemError: all sessions of a training batch with several groups failed. A batch with one group is a call of
            SkyRL's asynchronous trainer, whose other groups are in other calls.
    """
    metrics, last = output["env_metrics"], output["is_last_step"]
    failed = [one.get(FAILED) == 1.0 for one in metrics]
    if not any(failed):
        return output
    groups = [one.instance_id for one in output["trajectory_ids"]]
    if all(failed):
        if training and len(set(groups)) > 1:
            raise AtomMemError(
                f"all {len(failed)} sessions failed, the last with {metrics[-1]['error']}; the log has all errors"
            )
        logger.error("all {} sessions of a call failed, and its prompts count as rewards of 0", len(failed))
    broken = {group for group, lost in zip(groups, failed, strict=True) if lost}
    rows = [row for row, lost in enumerate(failed) if not lost and (not training or groups[row] not in broken)]
    if training or all(failed):
        masked = [row for row, lost in enumerate(failed) if not lost and groups[row] in broken and last[row]]
        played = {groups[row] for row in masked}
        nothing_left = {groups[row]: row for row, lost in enumerate(failed) if lost and groups[row] not in played}
        masked += nothing_left.values()
        for row in masked:
            output["loss_masks"][row] = [0] * len(output["response_ids"][row])
        rows = sorted([*rows, *masked])
    kept = {key: _rows(value, rows, len(failed)) for key, value in output.items()}
    kept["rollout_metrics"] = {
        **get_rollout_metrics(
            kept["response_ids"],
            kept["rewards"],
            loss_masks=kept["loss_masks"],
            # Each step has the time of its session.
            trajectory_completion_times=[
                seconds
                for seconds, ends in zip(kept["trajectory_generation_times"], kept["is_last_step"], strict=True)
                if ends
            ],
        ),
        # These metrics count all sessions.
        **{key: value for key, value in output["rollout_metrics"].items() if key.startswith("environment/")},
        "environment/groups_without_loss": float(len(broken)) if training else 0.0,
    }
    return kept


def _rows(value: Any, rows: Sequence[int], number: int) -> Any:
    """Some rows of a column; a value that is not a column is returned unchanged."""
    return [value[row] for row in rows] if isinstance(value, list) and len(value) == number else value


class AtomMemExp(BasePPOExp):  # type: ignore[misc]
    """SkyRL's PPO experiment with :class:`AtomMemGenerator`."""

    def get_generator(self, cfg: AtomMemSkyRLConfig, tokenizer: Any, inference_engine_client: Any) -> AtomMemGenerator:
        """See :class:`BasePPOExp`."""
        return AtomMemGenerator(
            atommem=cfg.atommem,
            generator_cfg=cfg.generator,
            skyrl_gym_cfg=cfg.environment.skyrl_gym,
            inference_engine_client=inference_engine_client,
            tokenizer=tokenizer,
            policy_model_name=resolve_policy_model_name(cfg),
        )


@ray.remote(num_cpus=1)  # type: ignore[untyped-decorator]
def skyrl_entrypoint(cfg: AtomMemSkyRLConfig) -> None:
    """Train in a Ray process, as SkyRL's own entry point does."""
    AtomMemExp(cfg).run()


def configuration(arguments: Sequence[str]) -> AtomMemSkyRLConfig:
    """The configuration for command-line arguments, checked by SkyRL and here.

    Raises:
        ConfigError, ValueError: an option is wrong.
    """
    cfg: AtomMemSkyRLConfig = AtomMemSkyRLConfig.from_cli_overrides(list(arguments))
    check_settings(cfg.generator, cfg.atommem)
    sampling = cfg.trainer.algorithm.dynamic_sampling.type
    if sampling is not None:
        raise ConfigError(
            f"trainer.algorithm.dynamic_sampling.type={sampling!r} must be null: SkyRL 0.3 drops and replaces single "
            "steps there, so that trajectories are cut"
        )
    validate_cfg(cfg)
    return cfg


def main() -> None:
    """Train with SkyRL; the command line takes SkyRL's options and ``atommem.…``."""
    cfg = configuration(sys.argv[1:])
    initialize_ray(cfg)
    ray.get(skyrl_entrypoint.remote(cfg))


if __name__ == "__main__":
    # By its name, so that Ray's processes import the same module.
    importlib.import_module("atommem_gym.bridges.skyrl").main()
