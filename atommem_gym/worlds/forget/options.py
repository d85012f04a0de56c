"""The options of the forget family, and how ``difficulty=`` sets them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from atommem_gym.config import EnvConfig
from atommem_gym.errors import ConfigError
from atommem_gym.worlds.checks import check_integers, check_shares
from atommem_gym.worlds.forget.phrases import LOCKS


@dataclass(frozen=True, kw_only=True, slots=True)
class ForgetOptions:
    """Keyword arguments of ``AtomMem-Forget-v0`` besides those of all environments.

    Raises:
        ConfigError: a value is out of its range, or the facts do not fit the sessions.
    """

    sessions: int = 60
    """Sessions of a context, each a document; the first holds the rules."""
    places: int = 8
    """Places with codes."""
    codes: int = 3
    """Codes of each place, 1 to 8."""
    erased: float = 0.3
    """Share of the codes that documents ask to erase; at least one."""
    changed: float = 0.25
    """Share of the codes that are replaced once; the earlier value is then wrong."""
    distance: int = 8
    """Approximate least number of sessions between two about the same code."""
    chatter: int = 2
    """Most lines per session without a code."""
    questions: int = 12
    """Questions per context; an episode asks ``questions_per_episode`` of them."""
    unanswerable: float = 0.25
    """Share of the questions about erased codes."""

    def __post_init__(self) -> None:
        check_integers(
            self,
            sessions=(1, 100_000),
            places=(1, 1_000),
            codes=(1, len(LOCKS)),
            questions=(1, 1_000),
            distance=(0, 10_000),
            chatter=(0, 20),
        )
        check_shares(self, erased=1.0, changed=1.0, unanswerable=1.0)
        self._check_fits()

    @property
    def facts(self) -> int:
        """Number of codes of all places."""
        return self.places * self.codes

    @property
    def requests(self) -> int:
        """Number of codes that documents ask to erase."""
        return max(1, round(self.erased * self.facts))

    @property
    def changes(self) -> int:
        """Number of codes that are replaced."""
        return round(self.changed * self.facts)

    @property
    def abstentions(self) -> int:
        """Number of questions about erased codes."""
        return round(self.unanswerable * self.questions)

    def _check_fits(self) -> None:
        needed = 1 + self.facts + self.requests + self.changes
        if needed > self.sessions:
            raise ConfigError(
                f"sessions={self.sessions} is too small: {self.facts} codes, {self.changes} changes and "
                f"{self.requests} requests need {needed}; raise sessions, or lower places, codes, erased or changed"
            )
        if 3 * self.distance >= self.sessions:
            raise ConfigError(
                f"distance={self.distance} contradicts sessions={self.sessions}: a code, its change and the request to "
                "erase it do not fit so far apart; lower distance, or raise sessions"
            )
        for what, asked, there in (
            ("erased", self.abstentions, self.requests),
            ("kept", self.questions - self.abstentions, self.facts - self.requests),
        ):
            if asked > there:
                raise ConfigError(
                    f"questions={self.questions} is too much: {asked} are about {what} codes, of which a context has "
                    f"{there}; lower questions, change unanswerable or erased, or raise places or codes"
                )


def at_difficulty(difficulty: float, config: EnvConfig) -> dict[str, Any]:
    """What ``difficulty=`` sets: more sessions, changes and chatter, and later requests.

    Difficulty 1 gives the defaults.
    """
    top = config.options
    changed = top.changed * difficulty
    needed = 1 + top.facts + top.requests + round(changed * top.facts)
    return {
        "sessions": min(top.sessions, max(needed, round(top.sessions * (0.6 + 0.4 * difficulty)))),
        "changed": changed,
        "distance": round(top.distance * (0.25 + 0.75 * difficulty)),
        "chatter": round(top.chatter * difficulty),
    }
