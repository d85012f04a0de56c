"""The batched vector environment: one embedding call and one store call per step, for all sub-environments."""

from __future__ import annotations

import contextlib
import functools
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.error import AlreadyPendingCallError, ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space

from atommem_gym.actions import ActionText
from atommem_gym.envs.atommem_env import AtomMemEnv, observation_space
from atommem_gym.envs.backend import Backend, EpisodeWithKey
from atommem_gym.envs.batching import batch_infos
from atommem_gym.envs.branching import Branching
from atommem_gym.envs.current_episode import CurrentEpisode
from atommem_gym.envs.items_ahead import ItemsAhead
from atommem_gym.episode import Episode
from atommem_gym.errors import ConfigError, check_integer
from atommem_gym.records.record import Items
from atommem_gym.registration import TASKS, configure, load_items
from atommem_gym.step import Observation, Step, StepResult
from atommem_gym.task import ItemsByDifficulty

Flags: TypeAlias = npt.NDArray[np.bool_]
Rewards: TypeAlias = npt.NDArray[np.float64]
if TYPE_CHECKING:
    TextVectorWrapper: TypeAlias = VectorWrapper[Any, Sequence[str], Any, Sequence[str], Any]
else:
    # Before Gymnasium 1.4 it has no type parameters when a program runs.
    TextVectorWrapper = VectorWrapper
Begun: TypeAlias = tuple[int, str, EpisodeWithKey, Step]
"""Number, action, episode and begun step of a sub-environment."""


class Stepped(NamedTuple):
    """The episode and info of one sub-environment in a vector step (privileged, see ``AtomMemEnv.episode``)."""

    episode: Episode
    """The episode that was stepped, also if an autoreset has replaced it."""
    info: dict[str, Any]
    """Its info, not batched."""


def _no_options(i: int) -> Mapping[str, Any]:
    return {}


class AtomMemVectorEnv(VectorEnv[Observation, Sequence[str], Any]):
    """Many episodes of one task, stepped together; ``gymnasium.make_vec("AtomMem-…-v0", num_envs=64)`` returns it.

    A step costs one embedding call and one store call for all sub-environments; each of them equals, bit for bit, a
    plain environment with the same seed and actions (SPEC M15). Texts are batched as tuples of ``str``.

    Args:
        num_envs: Number of sub-environments, at least 1.
        items: See ``AtomMemEnv``.
        task: See ``AtomMemEnv``.
        autoreset_mode: One of Gymnasium's modes: next step (the default), same step (with ``final_obs`` and
            ``final_info``), or disabled (``reset(options={"reset_mask": …})``).
        render_mode: ``None``, or ``"ansi"``: ``render()`` returns one text per sub-environment.
        items_ahead: Whether a separate process makes the items of the next autoresets ahead of time; the
            items are the same (``atommem_gym.envs.items_ahead``).
        **keywords: The keyword arguments of the plain environment.

    Raises:
        ConfigError: as in the plain environment, or ``num_envs`` is less than 1.

    Example:
        >>> import gymnasium as gym, atommem_gym
        >>> envs = gym.make_vec("AtomMem-Synthetic-v0", num_envs=4, num_docs=20, store="numpy")
        >>> observations, infos = envs.reset(seed=0)
        >>> observations, rewards, *_ = envs.step(["<create>a fact</create>"] * 4)
        >>> infos["entries"].tolist(), observations["feedback"]
        ([0, 0, 0, 0], ('created 1', 'created 1', 'created 1', 'created 1'))
        >>> envs.close()
    """

    metadata: dict[str, Any] = {  # noqa: RUF012  (Gymnasium declares it an instance variable)
        **AtomMemEnv.metadata,
        "render_modes": ["ansi"],
    }
    task: str = AtomMemEnv.task

    def __init__(
        self,
        num_envs: int = 1,
        *,
        items: Items | None = None,
        task: str | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        items_ahead: bool = False,
        **keywords: Any,
    ) -> None:
        if num_envs < 1:
            raise ConfigError(f"num_envs={num_envs} must be at least 1")
        if render_mode not in (None, "ansi"):
            raise ConfigError(f"render_mode={render_mode!r} must be None or 'ansi' in a vector environment")
        self.num_envs = num_envs
        self.render_mode = render_mode
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {**type(self).metadata, "autoreset_mode": self.autoreset_mode}
        self.task = task or type(self).task
        self.config = configure(self.task, keywords)
        self.items = load_items(self.task, self.config) if items is None else items
        by_difficulty = ItemsByDifficulty(TASKS[self.task] if items is None else None, keywords)
        self.single_observation_space = observation_space(self.config)
        self._fields = self.single_observation_space.spaces
        self.single_action_space = ActionText(
            self.config.max_action_chars, dialect=self.config.dialect, kinds=self.config.kinds
        )
        self._backend = Backend(self.config)
        self._branching = Branching(self.task, self.items, by_difficulty, self._backend)
        self._ahead = ItemsAhead(self.items) if items_ahead else None
        self._slots = [
            CurrentEpisode(self._ahead or self.items, by_difficulty, self._backend, render=render_mode is not None)
            for _ in range(num_envs)
        ]
        self._rngs = [gym.utils.seeding.np_random()[0] for _ in range(num_envs)]
        self._observations: list[Observation] = [{} for _ in range(num_envs)]
        self._over = np.zeros(num_envs, np.bool_)
        self._stepped: tuple[Stepped | None, ...] = (None,) * num_envs
        self.autoreset_options: Callable[[int], Mapping[str, Any]] = _no_options
        """Gives the reset options of an autoreset of sub-environment ``i``; a curriculum sets it."""
        self._finished: list[StepResult] = []
        """Results of a step whose same-step autoreset failed, for when it is repeated."""
        self._finalizer = weakref.finalize(self, self._backend.close)

    # Made on demand: a batched space of texts holds one space per sub-environment.
    @functools.cached_property
    def observation_space(self) -> gym.Space[Any]:  # type: ignore[override]
        """The batched space of observations."""
        return batch_space(self.single_observation_space, self.num_envs)

    @functools.cached_property
    def action_space(self) -> gym.Space[Any]:  # type: ignore[override]
        """The batched space of actions."""
        return batch_space(self.single_action_space, self.num_envs)

    @property
    def num_items(self) -> int:
        """Number of items (episodes) in the split."""
        return self.items.num_items

    # As in Gymnasium's own vector environments: one generator per sub-environment.
    @property  # type: ignore[misc]
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]
        """The generators of the sub-environments."""
        return tuple(self._rngs)

    @property
    def memory_keys(self) -> tuple[str, ...]:
        """The keys of the memories of the running episodes, see ``AtomMemEnv.memory_key``."""
        return tuple(slot.running.key for slot in self._slots)

    @property
    def episodes(self) -> tuple[Episode, ...]:
        """The running episodes (privileged, see ``AtomMemEnv.episode``)."""
        return tuple(slot.running.episode for slot in self._slots)

    @property
    def stepped(self) -> tuple[Stepped | None, ...]:
        """Episodes and infos of the last ``step``, for reward shaping; ``None`` where it was a next-step autoreset."""
        return self._stepped

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode in all sub-environments, or in those of ``options["reset_mask"]``.

        Args:
            seed: ``n`` seeds the sub-environments with ``n, n + 1, …``; a sequence has one seed for each.
            options: Those of the plain environment, each as one value for all or a list with one per sub-environment
                (a group gets the same episode from ``{"index": [3, 3, 3, 3]}``; two sub-environments cannot continue
                one ``memory``), and ``reset_mask``, a boolean array ``[num_envs]``.

        Raises:
            ValueError, TypeError: seeds or mask do not have one value per sub-environment.
            IndexError, ConfigError, StoreError: see ``AtomMemEnv.reset``.
        """
        options = dict(options or {})
        mask = self._mask(options.pop("reset_mask", None))
        seeds = self._seeds(seed)
        before = [rng.bit_generator.state for rng in self._rngs]
        rngs = [self._rngs[i] if s is None else gym.utils.seeding.np_random(s)[0] for i, s in enumerate(seeds)]
        chosen = np.flatnonzero(mask).tolist()
        with self._restored_on_error(before):
            begun = [(i, "", *self._slots[i].begin_reset(rngs[i], self._own(options, i))) for i in chosen]
            if len({running.key for _, _, running, _ in begun}) < len(begun):
                raise ConfigError(f"memory={options['memory']!r}: two sub-environments cannot go on with one memory")
            results = self._carry_out(begun)
        for i in chosen:
            self._rngs[i] = rngs[i]
        self._finished = []
        self._expect_items(chosen)
        return self._batch(), batch_infos([result.info for result in results], chosen, self.num_envs)

    def step(self, actions: Sequence[str]) -> tuple[Observation, Rewards, Flags, Flags, dict[str, Any]]:
        """Execute one action per sub-environment.

        Args:
            actions: ``num_envs`` texts.

        Raises:
            ResetNeeded: autoreset is disabled and an episode is over.
            ValueError, TypeError: ``actions`` is not one string per sub-environment.
            EmbedderError, StoreError, JudgeError, ReaderError: nothing has changed; the same step may be repeated.
        """
        if isinstance(actions, str) or len(actions) != self.num_envs:
            given = "a string" if isinstance(actions, str) else f"{len(actions)} actions"
            raise ValueError(f"{given} for {self.num_envs} sub-environments; give a sequence with one action for each")
        due = self._over.copy() if self.autoreset_mode is AutoresetMode.NEXT_STEP else np.zeros_like(self._over)
        with self._restored_on_error([rng.bit_generator.state for rng in self._rngs]):
            if not self._finished:
                begun: list[Begun] = []
                for i, (slot, action) in enumerate(zip(self._slots, actions, strict=True)):
                    begin = self._begin_autoreset(i) if due[i] else slot.begin_step(action)
                    begun.append((i, action, *begin))
                self._finished = self._carry_out(begun)
                self._stepped = tuple(
                    None if step.opening else Stepped(running.episode, result.info)
                    for (_, _, running, step), result in zip(begun, self._finished, strict=True)
                )
            results = self._finished
            ended = self._over.copy()
            step_infos = self._autoreset_infos(results)
        self._finished = []
        self._expect_items(np.flatnonzero(due if self.autoreset_mode is AutoresetMode.NEXT_STEP else ended).tolist())
        rewards = np.array([result.reward for result in results])
        terminations = np.array([result.terminated for result in results])
        truncations = np.array([result.truncated for result in results])
        infos = batch_infos(step_infos, range(self.num_envs), self.num_envs)
        return self._batch(), rewards, terminations, truncations, infos

    def render(self) -> tuple[str, ...] | None:
        """The last step of each sub-environment as coloured text; ``None`` without a ``render_mode``."""
        return None if self.render_mode is None else tuple(slot.frame for slot in self._slots)

    def snapshot(self, i: int) -> dict[str, Any]:
        """The state of sub-environment ``i``, in the form of ``AtomMemEnv.snapshot`` (SPEC M14).

        Its generators are the one that draws the items of this slot and the one of this slot's part of
        :attr:`action_space`.

        Raises:
            ConfigError, IndexError: there is no sub-environment ``i``.
        """
        i = self._number(i)
        return self._branching.snapshot(self._slots[i], self._generators(i))

    def restore(self, i: int, snapshot: dict[str, Any]) -> Observation | None:
        """Return sub-environment ``i`` to a snapshot of any slot, plain environment or pool; the others continue.

        An autoreset of the slot that was due in the next step is cancelled, and the next
        action goes to the restored episode. The slot's generators continue from the saved states: the one that draws
        items, and the one of this slot's part of the batched :attr:`action_space`, so that ``action_space.sample()``
        draws the same for this slot. If the episode of the snapshot was over, so is the slot, and the
        next step resets it.

        Returns:
            The observation of the slot, not batched; the next ``step`` or ``reset`` has it in its batch. ``None`` if
            the snapshot was taken before the first reset.

        Raises:
            SnapshotError: see ``AtomMemEnv.restore``; or the episode of the snapshot is over and a slot of this
                environment never is (same-step autoreset). Nothing has changed.
            AlreadyPendingCallError: the last step is not finished, since its same-step autoreset failed.
            ConfigError, IndexError: there is no sub-environment ``i``.
        """
        i = self._number(i)
        if self._finished:
            raise AlreadyPendingCallError(
                "the last step is not finished: its autoreset failed; repeat step(), or give it up with reset()", "step"
            )
        own = self._generators(i)
        running = self._branching.restored(
            snapshot, own, self._slots[i], over=self.autoreset_mode is not AutoresetMode.SAME_STEP
        )
        self._backend.release(self._slots[i].take(running))
        for name, generator in own.items():
            generator.bit_generator.state = snapshot[name]
        self._over[i] = running is not None and running.episode.state.over
        self._observations[i] = {} if running is None else running.episode.observation()
        return None if running is None else running.episode.observation()

    def _number(self, i: int) -> int:
        i = check_integer("i", i, numpy=True)
        if not 0 <= i < self.num_envs:
            raise IndexError(f"there is no sub-environment {i}; there are {self.num_envs}, from 0")
        return i

    def _generators(self, i: int) -> dict[str, np.random.Generator]:
        """The generators of a sub-environment, by the field of a snapshot that holds their state."""
        parts = self.action_space
        assert isinstance(parts, gym.spaces.Tuple)
        return {"np_random": self._rngs[i], "action_space": parts[i].np_random}

    def close_extras(self, **kwargs: Any) -> None:
        """Release store and database."""
        # Gymnasium 1.1 closes even an environment that could not be made.
        if hasattr(self, "_finalizer") and self._finalizer.alive:
            self._backend.release([running for slot in self._slots for running in slot.take(None)])
            self._finalizer()
            if self._ahead is not None:
                self._ahead.close()

    def _expect_items(self, opened: Sequence[int]) -> None:
        """Request the items that the next autoresets of these sub-environments will draw."""
        if self._ahead is None or self.autoreset_options is not _no_options:
            return
        for i in opened:
            bits = self._rngs[i].bit_generator
            state = bits.state
            self._ahead.expect(i, int(self._rngs[i].integers(self.items.num_items)))
            bits.state = state

    def _carry_out(self, begun: Sequence[Begun]) -> list[StepResult]:
        results = self._backend.run([(running, step) for _, _, running, step in begun])
        left: list[EpisodeWithKey] = []
        for (i, action, running, step), result in zip(begun, results, strict=True):
            left += self._slots[i].finish(action, running, step, result)
            self._observations[i] = result.observation
            self._over[i] = result.terminated or result.truncated
        self._backend.release(left)
        return results

    @contextlib.contextmanager
    def _restored_on_error(self, states: Sequence[Any]) -> Iterator[None]:
        """Restore the generators if the block fails, so that a repeated step or reset draws the same items."""
        try:
            yield
        except BaseException:
            self._backend.drop_reservations()
            for rng, state in zip(self._rngs, states, strict=True):
                rng.bit_generator.state = state
            raise

    def _autoreset_infos(self, results: Sequence[StepResult]) -> list[dict[str, Any]]:
        """The infos of a step; in same-step mode, reset finished sub-environments and add their final results."""
        infos = [result.info for result in results]
        over = np.flatnonzero(self._over).tolist()
        if self.autoreset_mode is AutoresetMode.SAME_STEP and over:
            begun = [(i, "", *self._begin_autoreset(i)) for i in over]
            finals = [(self._observations[i], infos[i]) for i in over]
            for i, final, opened in zip(over, finals, self._carry_out(begun), strict=True):
                infos[i] = {**opened.info, "final_obs": final[0], "final_info": final[1]}
        return infos

    def _begin_autoreset(self, i: int) -> tuple[EpisodeWithKey, Step]:
        return self._slots[i].begin_reset(self._rngs[i], self.autoreset_options(i))

    def _batch(self) -> Observation:
        """The current observations, batched as ``batch_space`` does: arrays of numbers, tuples of everything else."""
        if not all(self._observations):
            raise ResetNeeded("some sub-environments have no episode yet; the first reset() takes no reset_mask")
        batch: Observation = {}
        for name, space in self._fields.items():
            values = [observation[name] for observation in self._observations]
            numeric = isinstance(space, (gym.spaces.Discrete, gym.spaces.Box))
            batch[name] = np.array(values, np.int64) if numeric else tuple(values)
        return batch

    def _mask(self, mask: object) -> Flags:
        if mask is None:
            return np.ones(self.num_envs, np.bool_)
        if (
            not isinstance(mask, np.ndarray)
            or mask.dtype != np.bool_
            or mask.shape != (self.num_envs,)
            or not mask.any()
        ):
            raise ValueError(
                f"reset_mask={mask!r} must be a boolean array of shape ({self.num_envs},) with at least one True"
            )
        return mask

    def _seeds(self, seed: int | Sequence[int | None] | None) -> Sequence[int | None]:
        if seed is None:
            return [None] * self.num_envs
        if isinstance(seed, (int, np.integer)):
            return [int(seed) + i for i in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise ValueError(f"{len(seed)} seeds for {self.num_envs} sub-environments; give one number or one each")
        return seed

    def _own(self, options: dict[str, Any], i: int) -> dict[str, Any]:
        """The reset options of one sub-environment."""
        own = {}
        for name, value in options.items():
            if isinstance(value, (list, tuple, np.ndarray)):
                if len(value) != self.num_envs:
                    raise ValueError(f"option {name} has {len(value)} values for {self.num_envs} sub-environments")
                value = value[i]
            own[name] = value
        return own
