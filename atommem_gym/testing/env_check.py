"""A fixed battery of checks for any environment with the suite's contract, like Gymnasium's ``check_env``."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import gymnasium as gym
from gymnasium.error import ResetNeeded

from atommem_gym.actions import Create, Delete, Kind, Operation, Read, Scratchpad, Update, format_action
from atommem_gym.testing.hostile import HOSTILE_TEXTS

Env: TypeAlias = gym.Env[Any, str]

FIELDS = (
    *("phase", "progress", "question", "chunk", "scratchpad", "query", "memories", "feedback", "reads_left"),
    "steps_left",
)
_INFO = ("applied", "rejected", "entries", "item")
_METRICS = (*("em", "f1", "answers", "operations", "peak_entries", "final_entries", "evidence_recall", "steps"),)
_SHORTEST = 4
"""Steps that the battery needs in an episode."""
_LEAST = {
    "max_entries": 4,
    "max_entry_tokens": 4,
    "max_memory_tokens": 16,
    "max_scratchpad_tokens": 4,
    "max_reads_per_question": 2,
    "max_action_chars": 300,
}


def check_memory_env(env: Env, *, another: Env | None = None, seed: int = 0) -> None:
    """Run a fixed battery of checks on an environment and raise at the first broken rule.

    The battery follows the environment's ``config`` (dialect, operations, preset), so it works for every environment of
    the family and for custom ones with the observation and info of SPEC E10 and E11. It checks: E10 and E11
    (fields, spaces), E7 (step before reset and after the end), E8 and M15 (the same seed and actions give the same
    trajectory, in two instances), M1 and M11 (ids ascend, are never reused, and are reported), M4 and M7 (results of a
    read are shown in the next observation and no longer), M5, M8, M9, M13 (memory is empty at reset and not shared
    between instances), M14 if there is ``snapshot``, A3 (no text raises), E6, R1. It leaves ``env`` open, at the
    beginning of an episode.

    Args:
        env: An environment with dictionary observations; wrap it after the check.
        another: A second, fresh instance; by default one is made from ``env.spec`` and closed afterwards.
        seed: Seed of items and sampled actions.

    Raises:
        AssertionError: a rule is broken; the message begins with its number.
        ValueError: a second instance cannot be made, episodes are too short, or limits are too low.

    Example:
        >>> import gymnasium as gym, atommem_gym
        >>> env = gym.make("AtomMem-Synthetic-v0", num_docs=20, chunk_tokens=500, store="numpy")
        >>> check_memory_env(env)
        >>> env.close()
    """
    fresh = _another(env) if another is None else another
    try:
        _check_contract(env, seed)
        _check_step_before_reset(fresh)
        for check in (_check_ids, _check_read, _check_read_your_writes, _check_update, _check_scratchpad):
            with _rule_of(check):
                check(env, seed)
        _check_determinism(env, fresh, seed)
        _check_isolation(env, fresh, seed)
        _check_snapshot(env, fresh, seed)
        _check_hostile_text(env, seed)
        _check_end(env, seed)
        env.reset(seed=seed)
    finally:
        if another is None:
            fresh.close()


@contextmanager
def _rule_of(check: Callable[..., None]) -> Iterator[None]:
    """Skip a check that needs an operation which the environment does not have."""
    try:
        yield
    except _AbsentError:
        return


class _AbsentError(Exception):
    """The environment does not have an operation (SPEC M12)."""


def _another(env: Env) -> Env:
    if env.spec is None:
        raise ValueError(
            "the check needs a second instance, and env.spec is None (the environment was not made by gym.make); "
            "pass one as another="
        )
    return gym.make(env.spec)


def _config(env: Env) -> Any:
    return env.get_wrapper_attr("config")


def _action(env: Env, *operations: Operation) -> str:
    """The operations in the environment's dialect.

    Raises:
        _AbsentError: the environment does not have all of them.
    """
    config = _config(env)
    if any(op.kind not in config.kinds for op in operations):
        raise _AbsentError
    return format_action(operations, config.dialect)


def _has(env: Env, *kinds: Kind) -> bool:
    return set(kinds) <= set(_config(env).kinds)


def _step(env: Env, action: str) -> tuple[Any, float, bool, bool, dict[str, Any]]:
    """Step, and check the results against the spaces."""
    result = env.step(action)
    observation, reward, terminated, truncated, info = result
    assert observation in env.observation_space, f"E10: the observation is not in the space: {observation!r}"
    missing = [name for name in _INFO if name not in info]
    assert not missing, f"E11: info has no {missing[0]!r}; it needs {', '.join(_INFO)}"
    if not (terminated or truncated):
        assert reward == 0, f"R1: the reward is {reward} before the end; it must be 0 until the episode ends"
    return observation, float(reward), terminated, truncated, info


def _shown(observation: Any) -> list[tuple[int, str]]:
    return [(int(memory["id"]), memory["text"]) for memory in observation["memories"]]


def _check_contract(env: Env, seed: int) -> None:
    space = env.observation_space
    assert isinstance(space, gym.spaces.Dict), (
        f"E10: the observation space is {type(space).__name__}, not Dict; check the environment before it is wrapped"
    )
    missing = [name for name in FIELDS if name not in space.spaces]
    assert not missing, f"E10: the observation has no {missing[0]!r}; it needs {', '.join(FIELDS)}"
    observation, info = env.reset(seed=seed)
    assert observation in space, f"E10: the first observation is not in the space: {observation!r}"
    assert info.get("entries") == 0, f"M13: memory must be empty after reset, info['entries'] is {info.get('entries')}"
    if int(observation["steps_left"]) < _SHORTEST:
        raise ValueError(
            f"episodes of {observation['steps_left']} steps are too short for the battery, which needs {_SHORTEST}; "
            "make the environment with more (max_steps, num_docs)"
        )
    config = _config(env)
    for name, least in _LEAST.items():
        value = getattr(config, name)
        if value is not None and value < least:
            raise ValueError(
                f"{name}={value} leaves the battery no room, which needs {least}; make the environment with more, "
                "and hold the low limit to its rule in a test of its own"
            )


def _check_step_before_reset(fresh: Env) -> None:
    try:
        fresh.step("")
    except ResetNeeded:
        return
    raise AssertionError("E7: a step before the first reset must raise gymnasium.error.ResetNeeded")


def _check_ids(env: Env, seed: int) -> None:
    """M1, M11."""
    env.reset(seed=seed)
    observation, *_, info = _step(env, _action(env, Create("one"), Create("two"), Create("two")))
    lines = observation["feedback"].split("\n")
    assert lines == ["created 1", "created 2", "created 3"], f"M11: three creates are confirmed by {lines}"
    assert info["entries"] == 3, f"M3: three creates, two of them alike, left {info['entries']} entries"
    config = _config(env)
    if config.dialect == "released" or config.addressing == "visible":
        return
    _step(env, _action(env, Delete(3)))
    observation, *_, info = _step(env, _action(env, Delete(3), Create("four")))
    assert "created 4" in observation["feedback"], (
        f"M1: after entry 3 was deleted the next create was confirmed by {observation['feedback']!r}, not 'created 4'"
    )
    reasons = [record["reason"] for record in info["rejected"]]
    assert reasons == ["unknown_id"], f"M8: deleting entry 3 twice was rejected with {reasons}, not ['unknown_id']"


def _check_read(env: Env, seed: int) -> None:
    """M4, M7."""
    config = _config(env)
    before, _ = env.reset(seed=seed)
    if not config.initial_query:
        assert _shown(before) == [], f"M4: nothing was read, yet the first observation shows {_shown(before)}"
    after, *_ = _step(env, _action(env, Create("honey bees"), Create("fishing boats")))
    if not config.initial_query:
        assert _shown(after) == [], f"M4: nothing was read, yet the observation shows {_shown(after)}"
    found, *_ = _step(env, _action(env, Read("honey bees")))
    assert found["query"] == "honey bees", f"M4: the query of the step before is shown as {found['query']!r}"
    assert _shown(found)[:1] == [(1, "honey bees")], f"M6: reading 'honey bees' shows {_shown(found)}"
    scores = [float(memory["score"]) for memory in found["memories"]]
    assert scores == sorted(scores, reverse=True), f"M6: the best must come first, the scores are {scores}"
    later, *_ = _step(env, "")
    kept = bool(_shown(later))
    assert kept == config.sticky_query, f"M7: with sticky_query={config.sticky_query} one step later: {_shown(later)}"


def _check_read_your_writes(env: Env, seed: int) -> None:
    """M5, and ties of M6."""
    env.reset(seed=seed)
    found, *_ = _step(
        env, _action(env, Read("honey bees"), Create("boats"), Create("honey bees"), Create("honey bees"))
    )
    ids = [i for i, _ in _shown(found)][:2]
    expected = [2, 3][: _config(env).top_k]
    assert ids == expected, f"M5, M6: a read of its own step's creates shows {_shown(found)}, first must be {expected}"


def _check_update(env: Env, seed: int) -> None:
    """M8."""
    config = _config(env)
    if config.preset == "released":
        return
    env.reset(seed=seed)
    _step(env, _action(env, Create("fishing boats"), Read("fishing boats")))
    found, *_ = _step(env, _action(env, Update(1, "honey bees"), Read("honey bees")))
    assert _shown(found) == [(1, "honey bees")], (
        f"M8: entry 1 was updated to 'honey bees', a read shows {_shown(found)}"
    )
    score = float(found["memories"][0]["score"])
    assert score > 0.99, f"M8: an update replaces the embedding too, but its own text scores {score}"
    _, *_, info = _step(env, _action(env, Delete(1)))
    assert info["entries"] == 0, f"M8: after its only entry was deleted memory holds {info['entries']}"


def _check_scratchpad(env: Env, seed: int) -> None:
    """M9."""
    env.reset(seed=seed)
    for text in ("first note", "second note"):
        observation, *_ = _step(env, _action(env, Scratchpad(text)))
        assert observation["scratchpad"] == text, f"M9: the scratchpad is {observation['scratchpad']!r}, not {text!r}"


def _play(env: Env, actions: list[str]) -> list[Any]:
    """The results of the steps, up to the end of the episode."""
    seen: list[Any] = []
    for action in actions:
        seen.append(_step(env, action))
        if seen[-1][2] or seen[-1][3]:
            break
    return seen


def _drawn(env: Env, seed: int, count: int) -> list[str]:
    env.action_space.seed(seed)
    return [env.action_space.sample() for _ in range(count)]


def _check_determinism(env: Env, fresh: Env, seed: int) -> None:
    actions = _drawn(env, seed, 30)
    trajectories = [repr([one.reset(seed=seed), *_play(one, actions)]) for one in (env, env, fresh)]
    assert trajectories[0] == trajectories[1], "E8: the same seed and actions gave two trajectories in one instance"
    assert trajectories[0] == trajectories[2], (
        "M15: the same seed and actions gave another trajectory in another instance"
    )


def _check_isolation(env: Env, fresh: Env, seed: int) -> None:
    """M13: compare an episode played alternately with another one to the same episode played alone."""
    mine, theirs = _drawn(env, seed, _SHORTEST - 1), _drawn(env, seed + 1, _SHORTEST - 1)
    if _has(env, "create", "read"):
        mine.append(_action(env, Create("of the first"), Read("of the second")))
        theirs.insert(0, _action(env, Create("of the second"), Create("of the second"), Read("of the first")))
    env.reset(seed=seed)
    alone = repr(_play(env, mine))
    env.reset(seed=seed)
    fresh.reset(seed=seed)
    seen, ended = [], False
    for own, other in zip(mine, theirs, strict=False):
        if not ended:
            ended = any(_play(fresh, [other])[0][2:4])
        seen += _play(env, [own])
        if any(seen[-1][2:4]):
            break
    assert repr(seen) == alone, "M13: an episode changed while another instance played; instances must not share memory"
    _, info = env.reset(seed=seed)
    assert info["entries"] == 0, f"M13: memory must be empty after reset, it holds {info['entries']} entries"


def _check_snapshot(env: Env, fresh: Env, seed: int) -> None:
    """M14."""
    if not callable(getattr(env.unwrapped, "snapshot", None)):
        return
    known = [op for op in (Create("honey bees"), Scratchpad("a note"), Read("honey bees")) if _has(env, op.kind)]
    busy = _action(env, *known)
    env.reset(seed=seed)
    fresh.reset(seed=seed + 1)
    seen = _play(env, [busy, busy])[-1][0]
    saved = pickle.loads(pickle.dumps(env.get_wrapper_attr("snapshot")()))
    actions = [busy, *_drawn(env, seed + 2, 8)]
    future = repr(_play(env, actions))
    for one, where in ((env, "this instance"), (fresh, "another instance")):
        restored = one.get_wrapper_attr("restore")(saved)
        assert repr(restored) == repr(seen), f"M14: restore must return the observation of the snapshot, in {where}"
        assert repr(_play(one, actions)) == future, (
            f"M14: after restore the same actions gave another trajectory in {where}"
        )


def _check_hostile_text(env: Env, seed: int) -> None:
    """A3."""
    env.reset(seed=seed)
    for text in HOSTILE_TEXTS:
        try:
            *_, terminated, truncated, _ = _step(env, text)
        except AssertionError:
            raise
        except Exception as error:  # any exception breaks the rule
            raise AssertionError(f"A3: no text may make step raise, but {text[:60]!r} raised {error!r}") from error
        if terminated or truncated:
            env.reset(seed=seed)


def _check_end(env: Env, seed: int) -> None:
    """E6, E7, R1, E11: empty actions run into the step limit; the last reward is in [0, 1]."""
    observation, _ = env.reset(seed=seed)
    for left in range(int(observation["steps_left"]), 0, -1):
        observed = int(observation["steps_left"])
        assert observed == left, f"E6: steps_left is {observed}, expected {left}: every step lowers it by one"
        observation, reward, terminated, truncated, info = _step(env, "")
        if terminated or truncated:
            break
    else:
        raise AssertionError("E6: steps_left came to 0, and the episode is neither terminated nor truncated")
    assert 0 <= reward <= 1, f"R1: the reward {reward} is outside of [0, 1]"
    assert "episode_metrics" in info, "E11: the last info has no 'episode_metrics'"
    missing = [name for name in _METRICS if name not in info["episode_metrics"]]
    assert not missing, f"E11: episode_metrics has no {missing[0]!r}"
    try:
        env.step("")
    except ResetNeeded:
        return
    raise AssertionError("E7: a step after the end of the episode must raise gymnasium.error.ResetNeeded")
