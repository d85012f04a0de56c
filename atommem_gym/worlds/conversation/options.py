"""The options of the generated conversations, and how ``difficulty=`` sets them."""

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
"""Kinds of questions: a fact of one session, a fact of two, the day of an event, a change, no answer."""
_SHARES: Final = {ONE: 0.25, SEVERAL: 0.2, TIME: 0.2, UPDATE: 0.2, UNANSWERABLE: 0.15}
SPARE_FRIENDS: Final = 2
"""Friends about whom nothing is asked."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ConversationOptions:
    """Keyword arguments of ``AtomMem-Conversation-v0`` besides those of all environments.

    Raises:
        ConfigError: a value is out of its range, or a conversation has too few facts for the questions.
    """

    sessions: int = 24
    """Sessions of a conversation, each a document."""
    small_talk: int = 6
    """Most exchanges per session without a fact; there is at least one."""
    changes: int = 2
    """Most changes of a plan or an opinion, 1 to 4; those that are asked for change at least once."""
    lookalikes: float = 0.7
    """Share of the facts of which the other person tells a different value about themselves."""
    questions: int = 15
    """Questions per conversation; an episode asks ``questions_per_episode`` of them."""
    question_kinds: Mapping[str, float] = field(default_factory=lambda: dict(_SHARES))
    """Shares of the five kinds of questions; they are divided by their sum."""

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
        """Number of questions of each kind in a conversation, by largest remainders."""
        exact = {name: self.question_kinds.get(name, 0.0) * self.questions for name in QUESTION_KINDS}
        counts = {name: int(value) for name, value in exact.items()}
        by_remainder = sorted(QUESTION_KINDS, key=lambda name: counts[name] - exact[name])
        for name in by_remainder[: self.questions - sum(counts.values())]:
            counts[name] += 1
        return counts

    def _check_enough(self) -> None:
        counts = self.kinds
        # A question without an answer is about the person who did not tell of the event; only the other one has it.
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
    """What ``difficulty=`` sets: more sessions, small talk and changes, and more facts that both people tell.

    Difficulty 1 gives the defaults.
    """
    top = config.options
    changes = max(1, round(top.changes * (0.5 + 0.5 * difficulty)))
    return {
        "sessions": max(changes + 1, round(top.sessions * (0.25 + 0.75 * difficulty))),
        "small_talk": max(1, round(top.small_talk * difficulty)),
        "changes": changes,
        "lookalikes": top.lookalikes * difficulty,
    }
