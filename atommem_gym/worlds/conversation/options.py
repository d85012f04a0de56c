"""The knobs of the generated conversations, and what a difficulty makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from atommem_gym.config import EnvConfig
from atommem_gym.errors import ConfigError
from atommem_gym.worlds.checks import check_integers, check_shares, kinds_by_share
from atommem_gym.worlds.conversation.topics import EVENTS, PLACES, PLANS

ONE, SEVERAL, TIME, UPDATE, UNANSWERABLE = "one_session", "several_sessions", "time", "update", "unanswerable"
QUESTION_KINDS: Final = (ONE, SEVERAL, TIME, UPDATE, UNANSWERABLE)
"""A fact of one session; of two; the day of an event; what has changed; what only the other person told."""
_SHARES: Final = {ONE: 0.25, SEVERAL: 0.2, TIME: 0.2, UPDATE: 0.2, UNANSWERABLE: 0.15}
SPARE_FRIENDS: Final = 2
"""Friends of whom nothing is asked."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ConversationOptions:
    """Keyword arguments of ``AtomMem-Conversation-v0`` besides those of all environments.

    Raises:
        ConfigError: a value is out of its range, or there is not enough to ask for.
    """

    sessions: int = 24
    """Sessions of a conversation, each a document."""
    small_talk: int = 6
    """Exchanges of a session, at most, that say nothing of note; there is at least one."""
    changes: int = 2
    """How often a plan or an opinion changes, at most, 1 to 4; those that are asked for change at least once."""
    lookalikes: float = 0.7
    """Share of the facts of which the other person tells another value."""
    questions: int = 15
    """Questions about a conversation; an episode asks ``questions_per_episode`` of them."""
    question_kinds: Mapping[str, float] = field(default_factory=lambda: dict(_SHARES))
    """Shares of the five kinds; they are divided by their sum."""

    def __post_init__(self) -> None:
        check_integers(self, small_talk=(1, 100), changes=(1, 4), questions=(1, 1_000), sessions=(2, 100_000))
        check_shares(self, lookalikes=1.0)
        object.__setattr__(self, "question_kinds", kinds_by_share(self.question_kinds, QUESTION_KINDS, _SHARES))
        if self.sessions <= self.changes:
            raise ConfigError(
                f"sessions={self.sessions} is too small for plans that change {self.changes} times, each in a session "
                "of its own; raise sessions, or lower changes"
            )
        self._check_enough()

    @property
    def kinds(self) -> dict[str, int]:
        """How many questions of each kind a conversation has: whole numbers, by largest remainders."""
        exact = {name: self.question_kinds.get(name, 0.0) * self.questions for name in QUESTION_KINDS}
        counts = {name: int(value) for name, value in exact.items()}
        by_remainder = sorted(QUESTION_KINDS, key=lambda name: counts[name] - exact[name])
        for name in by_remainder[: self.questions - sum(counts.values())]:
            counts[name] += 1
        return counts

    def _check_enough(self) -> None:
        counts = self.kinds
        # What is asked of the one who did not tell leaves that topic to the other alone.
        events = 2 * (len(EVENTS) - counts[UNANSWERABLE])
        for kinds, most in (
            ((UNANSWERABLE,), len(EVENTS)),
            ((ONE, TIME), events),
            ((UPDATE,), 2 * len(PLANS)),
            ((SEVERAL,), len(PLACES) - SPARE_FRIENDS),
        ):
            asked = sum(counts[name] for name in kinds)
            if asked > most:
                raise ConfigError(
                    f"questions={self.questions} with question_kinds={dict(self.question_kinds)} is too much: "
                    f"{asked} are of kind {' or '.join(kinds)}, of which a conversation has {max(0, most)}; lower "
                    "questions, or give other kinds larger shares"
                )


def at_difficulty(difficulty: float, config: EnvConfig) -> dict[str, Any]:
    """What ``difficulty=`` sets: more sessions and small talk, more changes, and more that the other person tells, too.

    Difficulty 1 is what there is by default.
    """
    top = config.options
    changes = max(1, round(top.changes * (0.5 + 0.5 * difficulty)))
    return {
        "sessions": max(changes + 1, round(top.sessions * (0.25 + 0.75 * difficulty))),
        "small_talk": max(1, round(top.small_talk * difficulty)),
        "changes": changes,
        "lookalikes": top.lookalikes * difficulty,
    }
