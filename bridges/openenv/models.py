"""What goes over the wire: an action, an observation, and their parts. Needs nothing but OpenEnv."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field, field_validator

from openenv.core.env_server.types import Action, Observation


class AtomMemAction(Action):
    """One action: a text with any number of operations on memory."""

    text: str = Field(description="Operations in the dialect of the environment; text around them is free.")

    @field_validator("text", mode="before")
    @classmethod
    def _encodable(cls, text: Any) -> Any:
        """Half a character becomes U+FFFD, as in the environment; JSON could not carry it."""
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if isinstance(text, str) else text


class Memory(BaseModel):
    """An entry as a read shows it."""

    id: int
    text: str
    score: float = Field(description="Cosine similarity to the query.")


class Message(BaseModel):
    """One message of a prompt."""

    role: str
    content: str


class AtomMemObservation(Observation):
    """What the agent sees, as the environment's own observation has it; ``metadata`` is Gymnasium's ``info``."""

    phase: int = Field(description="0 while reading the stream, 1 while answering.")
    progress: tuple[int, int] = Field(description="Chunks read, chunks in all.")
    question: str = Field(description="The open question; while reading, all of them.")
    chunk: str = Field(description="The chunk to read; empty while answering.")
    scratchpad: str
    query: str = Field(description="The query of the step before.")
    memories: list[Memory] = Field(description="What it found, best first.")
    feedback: str = Field(description="What became of the last action's operations.")
    reads_left: int
    steps_left: int
    terminated: bool = Field(default=False, description="All questions are closed.")
    truncated: bool = Field(default=False, description="The steps are used up.")
    messages: list[Message] = Field(description="The same as a chat prompt: a fresh context at every step.")
