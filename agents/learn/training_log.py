"""The log of ``grpo.py`` for ``atommem view --training``: figures, sessions, and some whole episodes.

- ``metrics.jsonl`` has one line per iteration: the figures that :func:`~atommem_gym.agents.learn.grpo.train` yields,
  ``null`` where a figure is unknown.
- ``sessions.jsonl`` has one line per session of the items, with the names of veRL's log (see ``verl_loop.py``):
  ``run``, ``global_step`` (the iteration), ``uid`` (the group), ``session`` (its place in the group), ``part``,
  ``item``, ``shuffle_seed``, ``reward`` (as the update takes it), ``env_reward``, ``em``, ``f1``, ``steps``, ``op_…``
  (executed operations by kind), ``rejected`` and ``peak_entries``.
- ``traces.jsonl`` holds the episodes of the first groups of each iteration; the agent's settings in a trace name
  ``iteration``, ``group`` and ``session``.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from atommem_gym.actions import KINDS
from atommem_gym.agents.learn.session_log import METRICS, SESSIONS
from atommem_gym.envs.vector_env import AtomMemVectorEnv
from atommem_gym.envs.wrappers.record_traces import env_and_keywords
from atommem_gym.envs.wrappers.vector.record_traces import member_info
from atommem_gym.errors import AtomMemError, reason_of
from atommem_gym.files.json_lines import JsonLines
from atommem_gym.traces import AgentTrace, EpisodeTrace, TraceRecorder, TraceWriter

TRACES = "traces.jsonl"
"""Name of the file with whole episodes."""
_REMEDY = "name another folder as log"


class TrainingLog:
    """Wraps the learner's vector environment and records each sub-environment's first episode after a reset.

    All attributes but ``reset``, ``step``, ``write`` and ``close`` are those of the environment. A folder holds one
    training.

    Args:
        envs: The environment; closed with the log.
        folder: Folder of the log; made if it is not there.
        model: Name of the model, for the traces.
        group: Sessions per item.
        whole_groups: Groups per iteration that are kept as whole episodes.

    Raises:
        AtomMemError: the folder cannot be written, or holds the log of another training. The environment stays open.
    """

    def __init__(self, envs: AtomMemVectorEnv, folder: Path, model: str, group: int, whole_groups: int) -> None:
        self._envs = envs
        self._model = model
        self._group = group
        self._whole = group * whole_groups
        self._origin = env_and_keywords(envs.spec, envs.config)
        self._run = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        self._iteration = 0
        self._recorders: list[TraceRecorder] = []
        self._traces: dict[int, EpisodeTrace] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise AtomMemError(f"the folder {folder} cannot be made ({reason_of(error)}); {_REMEDY}") from error
        for name in (METRICS, SESSIONS, TRACES):
            # A training that failed before its first iteration leaves empty files.
            if (folder / name).exists() and (folder / name).stat().st_size:
                raise AtomMemError(
                    f"{folder / name} is the log of another training, whose iterations have the same numbers; "
                    f"{_REMEDY}, or move that one away"
                )
        with contextlib.ExitStack() as stack:
            self._metrics = JsonLines(folder / METRICS, AtomMemError, _REMEDY)
            stack.callback(self._metrics.close)
            self._sessions = JsonLines(folder / SESSIONS, AtomMemError, _REMEDY)
            stack.callback(self._sessions.close)
            self._episodes = TraceWriter(folder / TRACES)
            stack.pop_all()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._envs, name)

    def reset(self, **how: Any) -> tuple[Any, dict[str, Any]]:
        """Reset the environment and begin an iteration."""
        observations, infos = self._envs.reset(**how)
        self._iteration += 1
        self._traces = {}
        self._recorders = []
        for slot, episode in enumerate(self._envs.episodes):
            settings = {"model": self._model, "iteration": self._iteration}
            settings |= {"group": slot // self._group, "session": slot % self._group}
            recorder = TraceRecorder(*self._origin, AgentTrace("grpo", settings))
            recorder.reset(episode, episode.observation(), member_info(infos, slot))
            self._recorders.append(recorder)
        return observations, infos

    def step(self, actions: Sequence[str]) -> tuple[Any, ...]:
        """Step the environment, and record the episodes that began with the reset."""
        result = self._envs.step(actions)
        _, rewards, terminations, truncations = result[:4]
        for slot, (recorder, stepped) in enumerate(zip(self._recorders, self._envs.stepped, strict=True)):
            # An episode that began by autoreset, or that continues a fork, is not a session of the items.
            if slot in self._traces or stepped is None or not recorder.watches(stepped.episode):
                continue
            over = bool(terminations[slot]), bool(truncations[slot])
            reward, seen = float(rewards[slot]), stepped.episode.observation()
            recorder.step(actions[slot], seen, reward, *over, stepped.info)
            if recorder.over:
                self._traces[slot] = recorder.finish()
        return result

    def write(self, report: Mapping[str, float], rewards: Sequence[float]) -> None:
        """Write the lines and traces of an iteration.

        Args:
            report: The figures of the iteration.
            rewards: The reward of each session, those of the items first; the others are not logged.

        Raises:
            AtomMemError: a file cannot be written.
        """
        for slot, trace in sorted(self._traces.items()):
            metrics = trace.metrics
            line = {
                "run": self._run,
                "global_step": self._iteration,
                "uid": f"{self._iteration}-{slot // self._group}",
                "session": slot % self._group,
                "part": "train",
                "item": trace.item,
                "shuffle_seed": trace.shuffle_seed,
                "reward": float(rewards[slot]),
                "env_reward": trace.reward,
                **{name: metrics[name] for name in ("em", "f1", "rejected", "peak_entries")},
                "steps": len(trace.steps),
                **{f"op_{kind}": metrics["operations"].get(kind, 0) for kind in KINDS},
            }
            self._sessions.append(line)
            if slot < self._whole:
                self._episodes.write(trace)
        # JSON has no NaN.
        self._metrics.append({name: value if math.isfinite(value) else None for name, value in report.items()})

    def close(self) -> None:
        """Close the files and the environment."""
        with contextlib.ExitStack() as stack:
            # All are closed, even if closing one fails.
            for one in (self._envs, self._episodes, self._sessions, self._metrics):
                stack.callback(one.close)
