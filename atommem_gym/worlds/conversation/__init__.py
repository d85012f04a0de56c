"""Generated dialogues of two people: events, plans that change, opinions, friends and small talk (SPEC D8)."""

import lazy_loader

from atommem_gym.task import Task

TASK = Task(
    "Conversation",
    "atommem_gym.worlds.conversation.items:from_config",
    options="atommem_gym.worlds.conversation.options:ConversationOptions",
    defaults={"source": "synthetic", "chunk_tokens": 500},
    summary="generated dialogues in dated sessions, with questions of five kinds",
    difficulty="atommem_gym.worlds.conversation.options:at_difficulty",
    entry_point="atommem_gym.envs:ConversationEnv",
    abstention=True,
    contexts=True,
)
"""The task behind ``AtomMem-Conversation-v0``."""

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
