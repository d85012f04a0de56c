"""Snapshots of teams: taking the state of a whole team, and making an episode from it (SPEC M14)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from atommem_gym.envs import snapshots
from atommem_gym.envs.backend import Backend, new_key
from atommem_gym.envs.branching import Branching
from atommem_gym.envs.jobs import EpisodeWithKey
from atommem_gym.envs.team.episode import ANSWERER, CurrentTeamEpisode, TeamEpisode
from atommem_gym.envs.team.memory import TeamMemory
from atommem_gym.errors import SnapshotError
from atommem_gym.memory.memory import Memory
from atommem_gym.records.identity import documents_hash, identity
from atommem_gym.step import EpisodeState

VERSION = 1
"""Version of a team's snapshot, raised whenever its content changes."""
_FIELDS = {"version", "team", "config", "np_random", "action_spaces", "episode"}
_EPISODE = {"index", "shuffle_seed", "difficulty", "max_steps", "item", "memory", "states", "vectors"}


@dataclass(frozen=True)
class TeamBranching:
    """Takes snapshots of a team and makes episodes from them."""

    branching: Branching
    """Makes items and checks configurations, as for a single environment."""
    readers: int
    """Number of readers."""
    parts: str
    """How the documents are divided: ``"contiguous"`` or ``"round_robin"``."""

    def snapshot(
        self,
        current: CurrentTeamEpisode,
        rng: np.random.Generator | None,
        spaces: Mapping[str, np.random.Generator],
    ) -> dict[str, Any]:
        """The state of a team environment, picklable.

        Args:
            current: The environment's episode, if there is one.
            rng: Draws the items of resets; ``None`` before the first reset.
            spaces: Generators of the action spaces, by agent.

        Raises:
            EmbedderError, StoreError: the rows that a failed step may have left in the store cannot be corrected.
        """
        return {
            "version": VERSION,
            "team": self._team(),
            "config": self.branching.fingerprint(),
            "np_random": None if rng is None else rng.bit_generator.state,
            "action_spaces": {agent: generator.bit_generator.state for agent, generator in spaces.items()},
            "episode": self._saved(current) if current.exists else None,
        }

    def restored(
        self, snapshot: Any, spaces: Mapping[str, np.random.Generator], current: CurrentTeamEpisode
    ) -> tuple[TeamEpisode, EpisodeWithKey] | None:
        """The episode of a snapshot, with a new memory; ``None`` if it was taken before the first reset.

        The states of the generators are checked and not set. If the current episode, which it replaces, is
        of the same item, the item is neither made nor hashed again.

        Raises:
            SnapshotError: see :meth:`~atommem_gym.envs.team.team.TeamEnv.restore`.
            EmbedderError, StoreError: its entries cannot be stored; none of them is left in the store.
        """
        if isinstance(snapshot, dict) and "turn" in snapshot:
            raise SnapshotError(
                "the snapshot is of a team whose agents act in turn (AEC); restore it into env or raw_env of the same "
                "team"
            )
        if not isinstance(snapshot, dict) or "team" not in snapshot:
            raise SnapshotError(
                f"this {type(snapshot).__name__} is not a snapshot of a team; take one with the team's snapshot()"
            )
        if snapshot.get("version") != VERSION:
            raise SnapshotError(
                f"the snapshot of a team is of version {snapshot.get('version')!r}, this package reads {VERSION}; "
                "restore it with the version of the package that took it"
            )
        snapshots.check_fields("the snapshot", snapshot, _FIELDS)
        if snapshot["team"] != self._team():
            raise SnapshotError(
                f"the snapshot is of a team with {snapshot['team']}, this environment has {self._team()}; restore it "
                "into an environment made with the same keyword arguments"
            )
        states = snapshot["action_spaces"]
        snapshots.check("action_spaces", isinstance(states, dict), states, "a dict of states by agent")
        for name, generator in spaces.items():
            snapshots.check_generator(f"action_spaces[{name!r}]", states.get(name), generator)
        if snapshot["np_random"] is not None:
            snapshots.check_generator("np_random", snapshot["np_random"], np.random.default_rng())
        branching = self.branching
        keywords = snapshot["config"]
        snapshots.check("config", isinstance(keywords, dict), keywords, "a dict of keyword arguments")
        snapshots.check_config(keywords, branching.fingerprint(), branching.backend.config)
        saved = snapshot["episode"]
        if saved is None:
            return None
        snapshots.check("episode", isinstance(saved, dict), saved, "a dict or None")
        snapshots.check_fields("the snapshot's episode", saved, _EPISODE)
        snapshots.check_drawn(saved)
        most = saved["max_steps"]
        right = most is None or (type(most) is int and most > 0)
        snapshots.check("episode.max_steps", right, most, "a number of steps or None")
        snapshots.check_saved_identity(saved["item"])
        return self._episode(saved, current)

    def _saved(self, current: CurrentTeamEpisode) -> dict[str, Any]:
        team, running = current.team, current.running
        stored = self.branching.backend.stored(running, team.memory)
        states = {}
        for name, member in team.members.items():
            own = member.state.memory
            # The entries are saved once, in the team's memory.
            states[name] = replace(member.state.copy(), memory=Memory({}, own.next_id, own.scratchpad))
        return {
            "index": team.item.index,
            "shuffle_seed": team.item.shuffle_seed,
            "difficulty": team.config.difficulty,
            "max_steps": team.config.max_steps,
            "item": dict(team.identity),
            "memory": team.memory.copy(),
            "states": states,
            "vectors": None if stored is None else (stored.ids.tolist(), stored.vectors.copy()),
        }

    def _episode(self, saved: dict[str, Any], current: CurrentTeamEpisode) -> tuple[TeamEpisode, EpisodeWithKey]:
        backend: Backend = self.branching.backend
        place = saved["index"], saved["shuffle_seed"], saved["difficulty"]
        there = current.team if current.exists else None
        if there is not None and place == (there.item.index, there.item.shuffle_seed, there.config.difficulty):
            config, item, found = there.config, there.item, there.identity
        else:
            config, item = self.branching.item(*place)
            found = identity(item, documents_hash(item.documents))
        snapshots.check_identity(saved["item"], found, saved["index"], saved["shuffle_seed"])
        memory, states = copy.deepcopy((saved["memory"], saved["states"]))
        check_team_memory(memory)
        config = replace(config, max_steps=saved["max_steps"])
        team = TeamEpisode(config, item, backend.tokenizer, readers=self.readers, parts=self.parts, memory=memory)
        team.identity = found
        right = isinstance(states, dict) and states.keys() == team.members.keys()
        snapshots.check("episode.states", right, states, "a dict of the state of each agent")
        for state in states.values():
            snapshots.check_state(state)
        ends = {name: state.over for name, state in states.items()}
        snapshots.check("episode.states", len(set(ends.values())) == 1, ends, "over for all agents or for none")
        closings = states[ANSWERER].closings
        for name, member in team.members.items():
            own: EpisodeState = states[name]
            snapshots.check_place(own, item.id, member.stream.num_chunks, len(item.questions))
            shared = team.memory.of_member(name)
            shared.next_id, shared.scratchpad = own.memory.next_id, own.memory.scratchpad
            member.state = replace(own, memory=shared, closings=closings)
        snapshots.check_vectors(saved["vectors"], team.memory)
        snapshots.check_width(saved["vectors"], backend.store)
        running = EpisodeWithKey(new_key(), team.answerer)
        backend.fill(running, saved["vectors"], team.memory)
        return team, running

    def _team(self) -> dict[str, Any]:
        return {"readers": self.readers, "parts": self.parts}


def check_team_memory(memory: Any) -> None:
    """Raise ``SnapshotError`` unless the value is a complete memory of a team."""
    snapshots.check("episode.memory", isinstance(memory, TeamMemory), memory, "a TeamMemory")
    snapshots.check_memory(memory)
    for name, kind, rule in (("authors", int, "names by entry"), ("scratchpads", str, "texts by agent")):
        found = getattr(memory, name, None)
        right = isinstance(found, dict) and all(type(k) is kind and type(v) is str for k, v in found.items())
        snapshots.check(f"episode.memory.{name}", right, found, f"a dict of {rule}")
