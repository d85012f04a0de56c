"""Needles in haystacks of up to a million tokens and more, after RULER (SPEC D4)."""

from atommem_gym.worlds.needle.items import NeedleItems
from atommem_gym.worlds.needle.options import HAYSTACKS, KINDS, VALUE_TYPES, NeedleOptions

__all__ = ["HAYSTACKS", "KINDS", "VALUE_TYPES", "NeedleItems", "NeedleOptions"]
