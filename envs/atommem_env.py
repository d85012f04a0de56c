"""The plain Gymnasium environment: one episode at a time."""

from __future__ import annotations

import sys
import weakref
from typing import Any, TypeVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.error import ClosedEnvironmentError, ResetNeeded

from atommem_gym.actions import ActionText, UnicodeText
from atommem_gym.config import EnvConfig
from atommem_gym.envs.backend import Backend, EpisodeWithKey
from atommem_gym.envs.branching import Branching, shallow
from atommem_gym.envs.current_episode import CurrentEpisode, EpisodeAccess
from atommem_gym.envs.generators import twin_of
from atommem_gym.envs.time_limit import warn_of_time_limit
from atommem_gym.errors import ConfigError, check_integer
from atommem_gym.records.record import Items
from atommem_gym.registration import TASKS, configure, load_items
from atommem_gym.step import Observation, Step, StepResult
from atommem_gym.task import ItemsByDifficulty

_LONGEST = 2**31 - 1
Env = TypeVar("Env", bound="AtomMemEnv")


def observation_space(config: EnvConfig) -> spaces.Dict:
    """The observation space of a configuration (SPEC E10); texts are unbounded (``UnicodeText``)."""
    text = UnicodeText(_LONGEST)
    score = spaces.Box(-1.0, 1.0, (), np.float64)
    entry_id = spaces.Discrete(2**62, start=1)
    return spaces.Dict(
        {
            "phase": spaces.Discrete(2),
            "progress": spaces.Box(0, _LONGEST, (2,), np.int64),
            "question": text,
            "chunk": text,
            "scratchpad": text,
            "query": text,
            "memories": spaces.Sequence(spaces.Dict({"id": entry_id, "text": text, "score": score})),
            "feedback": text,
            "reads_left": spaces.Discrete(config.max_reads_per_question + 1),
            "steps_left": spaces.Discrete(_LONGEST),
        }
    )


class AtomMemEnv(EpisodeAccess, gym.Env[Observation, str]):
    """Base class of all environments: the agent reads a stream of documents chunk by chunk and acts on memory by text.

    Subclasses name a task, and their docstrings are its manual. Use ``gymnasium.make("AtomMem-Synthetic-v0", …)``, or
    this class itself over custom items.

    Args:
        items: Custom items in place of the task's own; ``source``, ``num_docs`` and other keyword arguments about
            records then have no effect.
        task: The name of a registered task, in place of the class's own.
        render_mode: ``None``, ``"ansi"`` or ``"human"``.
        **keywords: The fields of ``EnvConfig`` and the keyword arguments of the task.

    Raises:
        ConfigError: a keyword is unknown, invalid or contradicts another one.
        DatasetUnavailableError: the task's records cannot be read.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012  (Gymnasium declares it an instance variable)
        "render_modes": ["ansi", "human"],
        "render_fps": 1,
    }
    task: str = "Custom"
    """The name of the task in the registry, for example ``HotpotQA``."""

    def __init__(
        self, *, items: Items | None = None, task: str | None = None, render_mode: str | None = None, **keywords: Any
    ) -> None:
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise ConfigError(f"render_mode={render_mode!r} must be None, 'ansi' or 'human'")
        self.render_mode = render_mode
        self.task = task or type(self).task
        self.config = configure(self.task, keywords)
        self.items = load_items(self.task, self.config) if items is None else items
        self._by_difficulty = ItemsByDifficulty(TASKS[self.task] if items is None else None, keywords)
        self.observation_space = observation_space(self.config)
        self.action_space = ActionText(
            self.config.max_action_chars, dialect=self.config.dialect, kinds=self.config.kinds
        )
        self._backend = Backend(self.config)
        self._branching = Branching(self.task, self.items, self._by_difficulty, self._backend)
        self._current = CurrentEpisode(self.items, self._by_difficulty, self._backend, render=render_mode is not None)
        self._warned_of_time_limit = False
        # An environment that is never closed must not leave a database folder, thread or lock behind.
        self._finalizer = self._give_back_later()

    @property
    def num_items(self) -> int:
        """Number of items (episodes) in the split; ``reset(options={"index": i})`` takes ``0 <= i < num_items``."""
        return self.items.num_items

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode with empty memory.

        Args:
            seed: Seeds the generator that draws the item.
            options: ``index`` plays that item, from 0 to ``num_items - 1``; ``shuffle_seed`` (default 0) is its layout;
                ``memory`` continues the memory that a kept database holds under this key; ``difficulty``, from
                0 to 1, plays this episode at that difficulty.

        Returns:
            The first observation, with the first chunk, and ``info``.

        Raises:
            IndexError: there is no item ``index``; the message gives the valid range.
            ConfigError: an option is unknown or has an invalid value.
            StoreError: there is no such memory, or another embedder wrote it.
            ClosedEnvironmentError: this environment is closed, but its forks still use its database.
        """
        self._check_not_closed()
        generator, generator_seed = self._np_random, self._np_random_seed
        drawn_before = None if generator is None else generator.bit_generator.state
        try:
            super().reset(seed=seed)
            result = self._carry_out("", *self._current.begin_reset(self.np_random, options or {}))
        except BaseException:
            # A failed reset may be repeated and then draws the same.
            self._backend.drop_reservations()
            self._np_random, self._np_random_seed = generator, generator_seed
            if generator is not None and drawn_before is not None:
                generator.bit_generator.state = drawn_before
            raise
        if not self._warned_of_time_limit:
            self._warned_of_time_limit = warn_of_time_limit(sys._getframe(1), result.observation["steps_left"])
        return result.observation, result.info

    def step(self, action: str) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Execute the operations of an action and return what follows.

        Args:
            action: Any text; its operations are executed in the order written (:func:`atommem_gym.actions.parse`).

        Returns:
            The observation, the reward (0 until the end, then the score in [0, 1]), whether every question is closed,
            whether ``max_steps`` is reached, and ``info``.

        Raises:
            ResetNeeded: before the first ``reset`` or after the end of the episode.
            TypeError: the action is not a string.
            EmbedderError, StoreError, JudgeError, ReaderError: nothing has changed; the same step may be repeated.
        """
        result = self._carry_out(action, *self._current.begin_step(action))
        return result.observation, result.reward, result.terminated, result.truncated, result.info

    def _carry_out(self, action: str, running: EpisodeWithKey, step: Step) -> StepResult:
        result = self._backend.run([(running, step)])[0]
        self._backend.release(self._current.finish(action, running, step, result))
        if self.render_mode == "human":
            encoding = sys.stdout.encoding or "utf-8"
            print(self._current.frame.encode(encoding, "replace").decode(encoding))
        return result

    def render(self) -> str | None:
        """The last step as coloured text: returned for ``"ansi"``; for ``"human"``, ``step`` prints it."""
        if self.render_mode is None:
            gym.logger.warn("render() without a render_mode; make the environment with render_mode='ansi' or 'human'")
            return None
        return self._current.frame if self.render_mode == "ansi" else None

    def close(self) -> None:
        """Release store and database. Closing twice does nothing.

        Forks share them: each deletes its own rows when it is closed, and the last one closes the database.
        """
        if self._finalizer.alive:
            try:
                self._backend.release(self._current.take(None))
            finally:
                self._finalizer()

    def snapshot(self) -> dict[str, Any]:
        """The state of the whole environment, picklable; see :meth:`restore` (SPEC M14).

        It identifies its item (id, and hashes of questions, answers, evidence and documents) and contains none of its
        text, unless a recorder is attached: then it contains what was recorded so far, for the trace of the branch. The
        state of wrappers, such as shaping or a curriculum, is not part of it.
        """
        return self._branching.snapshot(self._current, self._generators())

    def restore(self, snapshot: dict[str, Any]) -> Observation | None:
        """Return exactly to a snapshot, in this or another process, also with another store.

        The restored episode has its own memory, so several environments may restore one snapshot. A snapshot of
        version 1 does not identify its item's questions and documents; they are not checked, with a ``UserWarning``.

        Args:
            snapshot: The result of :meth:`snapshot`.

        Returns:
            The observation at which the snapshot was taken; ``None`` if that was before the first reset.

        Raises:
            SnapshotError: it is damaged, of a newer version, or of another task, configuration or item than this
                environment's; nothing has changed.
            ClosedEnvironmentError: this environment is closed, but its forks still use its database.
        """
        self._check_not_closed()
        own = self._generators()
        running = self._branching.restored(snapshot, own, self._current)
        observation = None if running is None else running.episode.observation()
        self._backend.release(self._current.take(running))
        for name, generator in own.items():
            generator.bit_generator.state = snapshot[name]
        return observation

    def fork(self: Env, n: int) -> list[Env]:
        """Make ``n`` running environments that share only the past with this one (SPEC M14).

        Each is at the same step. Its entries and random generators are copies, so the same actions, including resets,
        give the same results as here. Forks share what never changes (items, stream, observation space, configuration),
        the embedder and the database: step them one at a time, in one thread, and close each. After a step that failed,
        forks begin before that step, as this environment does.

        Wrappers are not forked: fork ``env.unwrapped`` and wrap the forks; new wrappers start afresh (a ``TimeLimit``
        counts from 0).

        Args:
            n: Number of forks, at least 1.

        Raises:
            ConfigError: ``n`` is not an integer of at least 1.
            ResetNeeded: there is no episode yet, or it is over; :meth:`snapshot` accepts such states, too.
            EmbedderError, StoreError: nothing has changed, and no fork is left.

        >>> env = AtomMemEnv(task="Synthetic", num_docs=20, store="numpy")
        >>> observation, info = env.reset(seed=1)
        >>> one, other = env.fork(2)
        >>> one.step("<create>a fact</create>")[4]["entries"], other.step("")[4]["entries"]
        (1, 0)
        >>> for each in (env, one, other):
        ...     each.close()
        """
        n = check_integer("n", n, 1)
        running = self._current.running
        if running.episode.state.over:
            raise ResetNeeded("the episode is over, so its forks could not go on; call reset() first")
        left = self._backend.fork(running, n)
        forks: list[Env] = []
        try:
            while left:
                forks.append(self._forked(left[-1]))
                left.pop()
        except BaseException:
            for fork in forks:
                fork.close()
            self._backend.release(left)
            raise
        return forks

    def _forked(self: Env, running: EpisodeWithKey) -> Env:
        """An environment like this one, for a fork of its episode."""
        fork = shallow(self)
        fork._np_random = twin_of(self.np_random)
        generator = twin_of(self.action_space.np_random)
        fork.action_space = shallow(self.action_space)
        fork.action_space._np_random = generator
        fork._current = self._current.fork(running)
        fork._finalizer = fork._give_back_later()
        return fork

    def _check_not_closed(self) -> None:
        """Refuse to begin an episode in a closed environment, whose rows in the forks' database nobody would delete."""
        if not self._finalizer.alive and self._backend.shared:
            raise ClosedEnvironmentError(
                "this environment is closed, and its forks still use its database; go on with one of those"
            )

    def _give_back_later(self) -> weakref.finalize[[Backend, object, CurrentEpisode], AtomMemEnv]:
        return weakref.finalize(self, _give_back, self._backend, self._backend.lend(), self._current)

    def _generators(self) -> dict[str, np.random.Generator]:
        """The generators, by the field of a snapshot that holds their state."""
        return {"np_random": self.np_random, "action_space": self.action_space.np_random}


def _give_back(backend: Backend, user: object, current: CurrentEpisode) -> None:
    """Give back the backend of an environment that was closed or garbage-collected."""
    backend.give_back(user, current.take(None))
