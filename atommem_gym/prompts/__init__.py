"""Prompts: a Jinja2 template per dialect renders observations as text (SPEC E10)."""

from atommem_gym.prompts.render import PromptTemplate

__all__ = ["PromptTemplate"]
