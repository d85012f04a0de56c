"""The AEC form of a team: agents act in turn, and a snapshot also holds whose turn it is (SPEC M14)."""

from __future__ import annotations

import copy
from typing import Any

from pettingzoo.utils.conversions import parallel_to_aec_wrapper
from pettingzoo.utils.wrappers import OrderEnforcingWrapper

from atommem_gym.errors import SnapshotError

_KEPT = ("env", "metadata", "render_mode", "possible_agents", "state_space")
"""Attributes that never change."""
_NEEDED = {
    *("agents", "agent_selection", "rewards", "terminations", "truncations", "infos"),
    *("_actions", "_agent_selector", "_cumulative_rewards", "_observations"),
}
"""Attributes of every round, set by the first ``reset``."""


class TeamTurns(parallel_to_aec_wrapper):  # type: ignore[misc]  # PettingZoo ships no types
    """PettingZoo's AEC form of a parallel environment, with snapshots."""

    def snapshot(self) -> dict[str, Any]:
        """The state of the team and of the round: the actions given so far and what ``observe`` and ``last`` return.

        Raises:
            ClosedEnvironmentError: the environment is closed.
        """
        turn = {name: value for name, value in self.__dict__.items() if name not in _KEPT}
        # Copied in one call, because some of them are the same object.
        return {"turn": copy.deepcopy(turn), "team": self.env.snapshot()}

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Return to a snapshot exactly, see ``TeamEnv.restore``; ``observe`` and ``last`` then give what they gave.

        Raises:
            SnapshotError: it is not a snapshot of an AEC team, or ``TeamEnv.restore`` refuses it; nothing has changed.
            ClosedEnvironmentError: the environment is closed.
        """
        if not isinstance(snapshot, dict) or snapshot.keys() != {"turn", "team"} or type(snapshot["turn"]) is not dict:
            raise SnapshotError(
                f"this {type(snapshot).__name__} is not a snapshot of an AEC team; take one with snapshot() of env or "
                "raw_env (a parallel_env has its own)"
            )
        turn = copy.deepcopy(snapshot["turn"])
        missing = sorted(_NEEDED - turn.keys()) if turn else []
        # Methods of the class and attributes set by the constructor are not part of a round.
        foreign = [name for name in turn if not isinstance(name, str) or name in _KEPT or hasattr(type(self), name)]
        if missing or foreign:
            what = f"has no {missing[0]!r}" if missing else f"has {foreign[0]!r}"
            raise SnapshotError(f"the snapshot is damaged: its turn {what}; take one with snapshot()")
        team = snapshot["team"]
        if isinstance(team, dict) and (team.get("episode") is None) is bool(turn):
            raise SnapshotError(
                "the snapshot is damaged: only one of turn and team has an episode; take one with snapshot()"
            )
        self.env.restore(team)
        for name in [name for name in self.__dict__ if name not in _KEPT]:
            delattr(self, name)
        self.__dict__.update(turn)


class TurnsInOrder(OrderEnforcingWrapper):  # type: ignore[misc]
    """Checks the order of calls; restoring an episode counts as a reset."""

    def snapshot(self) -> dict[str, Any]:
        """See :meth:`TeamTurns.snapshot`."""
        taken: dict[str, Any] = self.env.snapshot()
        return taken

    def restore(self, snapshot: dict[str, Any]) -> None:
        """See :meth:`TeamTurns.restore`."""
        self.env.restore(snapshot)
        self._has_reset = bool(snapshot["turn"])
        self._has_updated = True
