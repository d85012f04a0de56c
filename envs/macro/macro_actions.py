"""Macro-actions: a few discrete choices per step in place of text, so that classical RL learns what to remember."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from gymnasium.utils import RecordConstructorArgs

from atommem_gym.actions import Answer, Create, Delete, Operation, Read, Scratchpad, Update
from atommem_gym.config import EnvConfig
from atommem_gym.envs.macro.macro_state import MacroState, Piece, Stored
from atommem_gym.envs.wrappers.base import check_actions, check_observations, plain_base
from atommem_gym.envs.wrappers.forking import around_fork, check_forkable
from atommem_gym.errors import ConfigError
from atommem_gym.policies.answering import fill
from atommem_gym.policies.documents import harmless
from atommem_gym.policies.oracle_reader import OracleReader
from atommem_gym.policies.words import content_words, names
from atommem_gym.policies.writing import answer, write_action
from atommem_gym.step import CUTS, Observation, Phase

SKIP, KEEP, MERGE = range(3)
"""Choices for a document."""
NO_READ, READ_QUESTION, READ_RESULT = range(3)
"""Choices for the read."""
DONE = ("keep", "merge", "skip", "drop", "read", "answer", "idle")
"""What ``info["macro"]`` counts; ``idle`` are choices that could not be executed."""


class MacroActions(gym.Wrapper[Observation, Any, Observation, str], RecordConstructorArgs):
    """Turns ``MultiDiscrete`` choices into the action text of the environment's dialect.

    The policy decides what to store, merge, drop and read; answers come from the
    :class:`~atommem_gym.policies.oracle_reader.OracleReader` (PRIVILEGED), like those of the scripted agents,
    or from the environment's frozen reader, if it has one (SPEC E13). Any choices give a valid episode of the
    environment below; the text of the action is in ``info["action"]``.

    Action space, ``MultiDiscrete``:
        - ``slots`` times 3, one per offered document in stream order: skip it (0), keep it as a new entry
          (1), or merge it into the most similar entry that has room for it within ``max_entry_tokens`` (2; if none
          has, nothing happens);
        - 2: whether to drop the entries that are least relevant to the questions
          (:func:`~atommem_gym.envs.macro.relevance.chain_relevance`), before anything is stored: under an entry budget
          as many entries as the keeps of this step need room, often none, and without a budget one;
        - 3: read nothing (0), with the question (1), or with the question and the names in the last result (2).
          In the answering phase, reading nothing means answering, and so does any choice when no read is left.

        Without the operation ``update`` there is no 2 for documents, without ``delete`` or ``read`` only 0 in
        that place.

    Documents are assembled from the chunks; one that is longer than an entry is offered in pieces. Pieces beyond
    ``slots`` wait for the next step, also while answering; pieces that still wait at the end were never decided about,
    so use as many slots as a chunk has documents, on average. Creates over ``max_entries`` are rejected by the
    environment. While answering, the entries found by reads are kept in the scratchpad, as the scripted agents do.

    Truncation is reported as termination, because the step limit is part of the task (SPEC E6): learners must not
    bootstrap after it.

    Information:
        ``info["action"]``, the text; ``info["macro"]``, counts of what was executed (see ``DONE``), and how many
        pieces are ``waiting``; at the end also ``episode_metrics``.

    Args:
        env: An AtomMem environment, with shaping wrappers or without; ``addressing="id"`` and ``advance="always"``.
        slots: Pieces offered at a time.

    Raises:
        ConfigError: the environment's settings do not fit.

    Example:
        >>> import gymnasium as gym, atommem_gym
        >>> env = gym.make("AtomMem-Synthetic-v0", num_docs=20, chunk_tokens=300, max_entries=6, store="numpy")
        >>> env = MacroActions(env, slots=2)
        >>> env.action_space
        MultiDiscrete([3 3 2 3])
        >>> observation, info = env.reset(seed=0)
        >>> observation, reward, terminated, truncated, info = env.step([KEEP, SKIP, 0, READ_QUESTION])
        >>> info["macro"]["keep"], info["action"].startswith("<create>"), len(observation["memories"])
        (1, True, 1)
        >>> env.close()
    """

    def __init__(self, env: gym.Env[Observation, str], slots: int = 4) -> None:
        RecordConstructorArgs.__init__(self, slots=slots)
        self._base = plain_base(self, env)
        check_observations(self, env, self._base)
        check_actions(self, env)
        super().__init__(env)
        self.config = self._base.config
        _check(self.config, slots)
        self.slots = slots
        kinds = self.config.kinds
        document = 3 if "update" in kinds else 2
        drop, read = 2 if "delete" in kinds else 1, 3 if "read" in kinds else 1
        self._choices = spaces.MultiDiscrete([document] * slots + [drop, read])
        self.action_space = self._choices
        self.macro_state = MacroState(self.config, slots)

    @property
    def max_steps(self) -> int:
        """Most steps of the running episode."""
        return self._base.episode.max_steps

    @property
    def current(self) -> Observation:
        """The observation to act on."""
        return self._observation

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode; see ``AtomMemEnv.reset``."""
        observation, info = self.env.reset(seed=seed, options=options)
        self.macro_state = MacroState(self.config, self.slots)
        self._reader = OracleReader(self._base.episode)
        self._see(observation)
        return observation, info

    def step(self, action: npt.ArrayLike) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Execute the choices.

        Args:
            action: ``slots`` choices for the offered pieces, then one for the drop and one for the read.

        Raises:
            ValueError: they are not in the action space.
            ResetNeeded: see ``AtomMemEnv.step``.
        """
        choices = np.asarray(action)
        if self._base.episode.state.over:
            raise ResetNeeded("the episode is over; call reset() before the next step()")
        if not self._choices.contains(choices.astype(self._choices.dtype)):
            raise ValueError(f"the choices {choices.tolist()} are not in {self._choices}; see MacroActions")
        done: Counter[str] = Counter()
        documents = choices[: self.slots].tolist()
        operations, merged = self._store(documents, bool(choices[-2]), done)
        operations += self._look(int(choices[-1]), done)
        text = write_action(operations, self.config.dialect) if operations else ""
        observation, reward, terminated, truncated, info = self.env.step(text)
        self.macro_state.sent(operations, merged, observation["feedback"])
        if done["answer"]:
            self.macro_state.next_question()
        self._see(observation)
        rejected = sum(record["operation"] == "create" and record["reason"] not in CUTS for record in info["rejected"])
        done["keep"] -= rejected
        done["idle"] += rejected
        info = {**info, "action": text, "macro": {name: done[name] for name in DONE}}
        info["macro"]["waiting"] = self.macro_state.waiting
        return observation, float(reward), terminated or truncated, False, info

    def fork(self, n: int) -> list[MacroActions]:
        """Make ``n`` running copies that share only the past with this one, see ``AtomMemEnv.fork`` (SPEC M14).

        Wrappers below, such as shaping, are put around the forks as they are around this environment.

        Raises:
            ConfigError: ``n`` is not an integer of at least 1, or a wrapper below has a state.
            ResetNeeded: there is no episode yet, or it is over.
        """
        check_forkable(self.env)
        forks = []
        for base in self._base.fork(n):
            fork = around_fork(self, base)
            fork.macro_state = self.macro_state.fork()
            fork._reader = OracleReader(base.episode)
            forks.append(fork)
        return forks

    def _see(self, observation: Observation) -> None:
        self._observation = observation
        self.macro_state.observe(observation)

    def _store(
        self, choices: list[int], drop: bool, done: Counter[str]
    ) -> tuple[list[Operation], dict[int, list[Piece]]]:
        """The deletes, updates and creates, and the pieces merged into entries by id."""
        state = self.macro_state
        gone = [entry.id for entry in state.measures().least_relevant(self._needed(choices))] if drop else []
        operations: list[Operation] = [Delete(entry_id) for entry_id in gone]
        done["drop"] += len(gone)
        creates: list[Operation] = []
        merged: dict[int, list[Piece]] = {}
        more: dict[int, int] = {}
        for place, (piece, choice) in enumerate(zip(state.offered, choices, strict=False)):
            if choice == KEEP:
                creates.append(Create(piece.text))
            target = self.merge_target(place, gone, more) if choice == MERGE else None
            if target is not None:
                merged.setdefault(target.id, []).append(piece)
                more[target.id] = more.get(target.id, 0) + piece.tokens + 1
            idle = choice == MERGE and target is None
            done["idle" if idle else ("skip", "keep", "merge")[choice]] += 1
        updates = [
            Update(entry_id, "\n".join([state.stored[entry_id].text, *(piece.text for piece in pieces)]))
            for entry_id, pieces in merged.items()
        ]
        return [*operations, *updates, *creates], merged

    def _needed(self, choices: list[int]) -> int:
        """How many entries a drop removes."""
        state, most = self.macro_state, self.config.max_entries
        if most is None:
            return 1
        return max(0, len(state.stored) + choices[: len(state.offered)].count(KEEP) - most)

    def merge_target(self, place: int, gone: Sequence[int] = (), more: dict[int, int] | None = None) -> Stored | None:
        """The most similar entry with room for the offered piece at ``place``; of equals the older one.

        Args:
            place: The index of the piece among those offered.
            gone: Ids of entries to ignore.
            more: Tokens that entries will gain, by id.
        """
        measures = self.macro_state.measures()
        # A line break may be a token.
        room = self.config.max_entry_tokens - self.macro_state.offered[place].tokens - 1
        for i in np.argsort(-measures.to_stored[place], kind="stable").tolist():
            owner: Stored = measures.owners[i]
            if owner.id not in gone and owner.tokens + (more or {}).get(owner.id, 0) <= room:
                return owner
        return None

    def _look(self, choice: int, done: Counter[str]) -> list[Operation]:
        """The chosen read, or while answering the answer."""
        observation, state = self._observation, self.macro_state
        answering = observation["phase"] == Phase.ANSWERING
        spare = observation["steps_left"] > state.questions_left and observation["reads_left"] > 0
        query = self._query(choice)
        if answering and not (query and spare):
            done["answer"] += 1
            if not self.config.policy_answers:
                return [Answer("")]
            return [answer(self._reader.answer(observation), self.config.dialect)]
        done["idle"] += choice != NO_READ and not query
        if not query:
            return []
        done["read"] += 1
        carried = fill(["", *state.found.texts], state.tokenizer, self.config.max_scratchpad_tokens)
        notes = answering and carried and "scratchpad" in self.config.kinds
        return [*([Scratchpad(carried)] if notes else []), Read(query)]

    def _query(self, choice: int) -> str:
        question = harmless(self._observation["question"])
        unasked = self.macro_state.found.unasked
        if choice == NO_READ or not (choice == READ_RESULT and unasked):
            return question if choice != NO_READ else ""
        asked = set(content_words(question))
        return " ".join([question, *(name for name in names(unasked.pop(0)) if name.casefold() not in asked)]).strip()


def _check(config: EnvConfig, slots: int) -> None:
    if slots < 1:
        raise ConfigError(f"slots={slots} must be at least 1")
    if "create" not in config.kinds:
        raise ConfigError("MacroActions needs the operation 'create': add it to operations=, and leave storage on")
    for name, needed in (("addressing", "id"), ("advance", "always")):
        if getattr(config, name) != needed:
            raise ConfigError(f"MacroActions needs {name}={needed!r}, this environment has {getattr(config, name)!r}")
    # A word token has at most 8 characters and a space; every slot may rewrite a whole entry.
    longest = slots * config.max_entry_tokens * 9 + config.max_scratchpad_tokens * 9
    if longest > config.max_action_chars:
        raise ConfigError(
            f"slots={slots} with max_entry_tokens={config.max_entry_tokens} may write actions of {longest} characters, "
            f"over max_action_chars={config.max_action_chars}; take fewer slots or raise max_action_chars"
        )
