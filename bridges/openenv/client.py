"""The typed client: an environment over a websocket, with one session per client."""

from __future__ import annotations

from typing import Any

from openenv.core import EnvClient
from openenv.core.client_types import StepResult
from openenv.core.env_server.types import State

from .models import AtomMemAction, AtomMemObservation


class AtomMemOpenEnv(EnvClient[AtomMemAction, AtomMemObservation, State]):
    """A session on an atommem-gym server; every client has its own session.

    ``reset`` takes ``seed`` and the options of the environment: ``index``, ``shuffle_seed``, ``difficulty``. An error
    of the environment on the server is raised here as a ``RuntimeError`` with its message; nothing has changed then.

    Example::

        with AtomMemOpenEnv(base_url="http://localhost:8000").sync() as env:
            result = env.reset(index=0)
            while not result.done:
                result = env.step(AtomMemAction(text=policy(result.observation.messages)))
            print(result.reward, result.observation.metadata["episode_metrics"])
    """

    def _step_payload(self, action: AtomMemAction) -> dict[str, Any]:
        return {"text": action.text}

    def _parse_result(self, payload: dict[str, Any]) -> StepResult[AtomMemObservation]:
        reward, done = payload.get("reward"), payload.get("done", False)
        observation = AtomMemObservation(**payload["observation"], reward=reward, done=done)
        return StepResult(observation=observation, reward=reward, done=done, metadata=observation.metadata)

    def _parse_state(self, payload: dict[str, Any]) -> State:
        return State(**payload)
