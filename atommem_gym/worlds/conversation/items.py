"""The items of ``AtomMem-Conversation-v0``."""

from __future__ import annotations

from typing import Final

from atommem_gym.config import EnvConfig
from atommem_gym.records.layout import QuestionsPerEpisode
from atommem_gym.records.record import Document, Evidence, Record
from atommem_gym.worlds.checks import check_generated
from atommem_gym.worlds.contexts import Context, GeneratedContexts
from atommem_gym.worlds.conversation.options import ConversationOptions
from atommem_gym.worlds.conversation.told import Asked, Line, Told
from atommem_gym.worlds.conversation.topics import REPLIES, SMALL_TALK
from atommem_gym.worlds.dice import Dice

ITEMS_VERSION: Final = 0
"""Part of every seed; raised, together with the environment's version, when the content of contexts changes."""


class ConversationItems(GeneratedContexts):
    """Items over dialogues of two people in dated sessions (SPEC D8, E14).

    >>> item = ConversationItems(split="test").item(0)
    >>> len(item.documents), item.documents[0].title, len(item.documents[0].speakers)
    (24, 'Session 1', 2)
    """

    def __init__(
        self,
        *,
        options: ConversationOptions | None = None,
        split: str = "train",
        questions_per_episode: QuestionsPerEpisode = 1,
    ) -> None:
        """Check the arguments; nothing is generated yet.

        Args:
            options: The options of the world; by default those of the environment.
            split: ``"train"``, ``"validation"`` or ``"test"``; no two share a name.
            questions_per_episode: A number, ``(least, most)``, or ``"released"``.

        Raises:
            ConfigError: the split is unknown, or a conversation has fewer questions than an item may need.
        """
        self.options = options or ConversationOptions()
        super().__init__(
            "conversation", split, questions=self.options.questions, questions_per_episode=questions_per_episode
        )

    def _make(self, number: int) -> Context:
        dice = Dice("conversation", ITEMS_VERSION, self.name, number)
        told = Told(dice, self.split, self.options)
        documents = _documents(dice, told, self.options.small_talk)
        name = f"{self.name}-{number}"
        asked = dice.shuffled(told.asked)
        return Context(documents, tuple(_record(name, i, one, documents) for i, one in enumerate(asked)))


def from_config(config: EnvConfig) -> ConversationItems:
    """The items of ``AtomMem-Conversation-v0`` in a configuration.

    Raises:
        ConfigError: the settings do not fit each other.
    """
    check_generated(config, "AtomMem-Conversation-v0", "its sessions come in the order of time")
    assert isinstance(config.options, ConversationOptions)
    return ConversationItems(
        options=config.options, split=config.split, questions_per_episode=config.questions_per_episode
    )


def _documents(dice: Dice, told: Told, small_talk: int) -> tuple[Document, ...]:
    of: list[list[Line]] = [[] for _ in told.days]
    for line in told.lines:
        of[line.session].append(line)
    documents = []
    for number, (day, lines) in enumerate(zip(told.days, of, strict=True), 1):
        exchanges = [f"{line.text}\n{_other(told, line.speaker)}: {dice.pick(REPLIES)}" for line in lines]
        exchanges += [_small_talk(dice, told) for _ in range(dice.between(1, small_talk))]
        minutes = dice.between(8 * 60, 22 * 60)
        moment = f"{day}T{minutes // 60:02}:{minutes % 60:02}"
        documents.append(Document(f"Session {number}", "\n".join(dice.shuffled(exchanges)), moment, told.people))
    return tuple(documents)


def _other(told: Told, name: str) -> str:
    return told.people[told.people[0] == name]


def _small_talk(dice: Dice, told: Told) -> str:
    said, reply = dice.pick(SMALL_TALK)
    name = dice.pick(told.people)
    filled = reply.format(number=dice.between(2, 60), hour=f"{dice.between(1, 11)} o'clock")
    return f"{name}: {said}\n{_other(told, name)}: {filled}"


def _record(name: str, number: int, asked: Asked, documents: tuple[Document, ...]) -> Record:
    evidence = tuple(
        Evidence(documents[line.session].title, line.text, contributes) for line, contributes in asked.evidence
    )
    return Record(
        id=f"{name}-{number}",
        question=asked.question,
        answer=asked.answers[0] if asked.answers else "",
        documents=documents,
        gold=tuple(sorted({line.session for line, _ in asked.evidence})),
        evidence=evidence,
        aliases=asked.answers[1:],
        type=asked.kind,
        answerable=bool(asked.answers),
        trap=asked.trap,
        context=name,
    )
