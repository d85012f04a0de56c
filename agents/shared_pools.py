"""Shares one async pool among all sessions of a process that play the same environment."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym

from atommem_gym.envs.pool.pool import AtomMemPool
from atommem_gym.errors import ConfigError
from atommem_gym.prompts import PromptTemplate
from atommem_gym.records.verl_rows import ItemReference


@dataclass(frozen=True, slots=True)
class SharedPool:
    """A pool with the prompt template of its environment."""

    pool: AtomMemPool
    """The environments."""
    prompt: PromptTemplate
    """Renders their observations."""


_Pools = dict[str, "asyncio.Task[SharedPool]"]
_POOLS: dict[asyncio.AbstractEventLoop, _Pools] = {}
"""Pools by event loop, since a pool belongs to one. A task refers to its loop, so no loop is garbage-collected while it
stands here: each call drops the pools of closed loops."""


async def shared_pool(
    env_id: str,
    env_keywords: Mapping[str, Any],
    *,
    capacity: int = 64,
    shaping: Mapping[str, Mapping[str, Any]] | None = None,
    template: str | None = None,
) -> SharedPool:
    """The pool of this configuration on the running event loop; the first call makes it, in a thread.

    Calls with the same arguments get the same pool; those that come while it is made wait for it. If making it fails,
    all of them raise the error, and the next call tries again.

    Args:
        env_id: A Gymnasium id.
        env_keywords: Keyword arguments of the environment, JSON values.
        capacity: Episodes at a time; further sessions wait.
        shaping: Wrappers that add to the reward, with their arguments, such as
            ``{"FormatPenalty": {"penalty": 0.1}}``.
        template: A Jinja2 file in place of the dialect's prompt, or ``shared_prefix``.

    Raises:
        ConfigError: the id, a keyword argument, the shaping or the template is wrong.
    """
    _give_up_closed()
    pools = _POOLS.setdefault(asyncio.get_running_loop(), {})
    key = json.dumps([env_id, dict(env_keywords), capacity, shaping or {}, template], sort_keys=True)

    def make() -> SharedPool:
        try:
            pool = AtomMemPool(env_id, capacity, shaping=shaping or {}, **env_keywords)
        except (gym.error.Error, TypeError) as error:
            raise ConfigError(
                f"no environment can be made of env_id={env_id!r} with the keyword arguments {sorted(env_keywords)} "
                f"({type(error).__name__}: {error}); `atommem envs` lists the environments"
            ) from error
        return SharedPool(pool, PromptTemplate(pool.config, template))

    if key not in pools:
        pools[key] = asyncio.get_running_loop().create_task(asyncio.to_thread(make))
    task = pools[key]
    try:
        # One session's cancellation must not take the pool from the others.
        return await asyncio.shield(task)
    except BaseException:
        if task.done() and (task.cancelled() or task.exception() is not None) and pools.get(key) is task:
            del pools[key]
        raise


async def pool_of(
    reference: ItemReference,
    env_keywords: Mapping[str, Any],
    *,
    capacity: int,
    shaping: Mapping[str, Mapping[str, Any]],
    template: str | None,
) -> SharedPool:
    """The pool in which a training row is played; the row has passed :meth:`ItemReference.check_trust`.

    Args:
        reference: The item reference in the row.
        env_keywords: Keyword arguments that win over those of the row.
        capacity: See :func:`shared_pool`.
        shaping: See :func:`shared_pool`.
        template: See :func:`shared_pool`.

    Raises:
        ConfigError: see :func:`shared_pool`.
    """
    keywords = {**reference.env_keywords, **env_keywords}
    return await shared_pool(reference.env_id, keywords, capacity=capacity, shaping=shaping, template=template)


def _give_up_closed() -> None:
    """Release the pools whose event loop ended before they were closed, with their stores and threads."""
    for loop in [one for one in tuple(_POOLS) if one.is_closed()]:
        for task in _POOLS.pop(loop, {}).values():
            if task.done() and not task.cancelled() and task.exception() is None:
                task.result().pool._finalizer()


async def close_pools() -> None:
    """Close all shared pools of the running event loop; call it when the sessions that use them are over."""
    _give_up_closed()
    pools = _POOLS.pop(asyncio.get_running_loop(), {})
    for outcome in await asyncio.gather(*pools.values(), return_exceptions=True):
        if isinstance(outcome, SharedPool):
            await outcome.pool.aclose()
