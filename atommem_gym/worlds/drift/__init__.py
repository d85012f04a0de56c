"""A generated world in time, whose facts change along the stream, so that memory needs Update and Delete (SPEC D5)."""

from atommem_gym.worlds.drift.items import DriftItems
from atommem_gym.worlds.drift.options import QUESTION_KINDS, DriftOptions

__all__ = ["QUESTION_KINDS", "DriftItems", "DriftOptions"]
