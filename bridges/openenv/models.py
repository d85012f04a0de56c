"""The data that client and server exchange: action, observation, and their parts. Needs only OpenEnv."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field, field_validator

from openenv.core.env_server.types import Action, Observation


class AtomMemAction(Action):
    """An action: a text with any number of operations on memory."""

    text: str = Field(description="Operations in the dialect of the environment; other text is ignored.")

    @field_validator("text", mode="before")
    @classmethod
    def _encodable(cls, text: Any) -> Any:
        """Lone surrogates become U+FFFD, as in the environment, because JSON cannot hold them."""
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if isinstance(text, str) else text


class Memory(BaseModel):
    """An entry as a read shows it."""

    id: int = Field(description="Id of the entry.")
    text: str = Field(description="Text of the entry.")
    score: float = Field(description="Cosine similarity to the query.")


class Message(BaseModel):
    """One message of a prompt."""

    role: str = Field(description="system or user.")
    content: str = Field(description="Text of the message.")


class AtomMemObservation(Observation):
    """The environment's observation; ``metadata`` is Gymnasium's ``info``."""

    phase: int = Field(description="0 while reading the stream, 1 while answering.")
    progress: tuple[int, int] = Field(description="Chunks read, chunks in all.")
    question: str = Field(description="The open question; while reading, all questions.")
    chunk: str = Field(description="The chunk to read; empty while answering.")
    scratchpad: str = Field(description="The scratchpad.")
    query: str = Field(description="The query of the previous step.")
    memories: list[Memory] = Field(description="The entries that it found, best first.")
    feedback: str = Field(description="The results of the last action's operations.")
    reads_left: int = Field(description="Reads left for the open question.")
    steps_left: int = Field(description="Steps left in the episode.")
    terminated: bool = Field(default=False, description="All questions are closed.")
    truncated: bool = Field(default=False, description="The steps are used up.")
    messages: list[Message] = Field(description="The observation as a chat prompt: a fresh context at every step.")
