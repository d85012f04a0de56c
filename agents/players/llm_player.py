"""Players that show a language model the environment's prompt: all operations, overwriting, and their base."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import atommem_gym.prompts
from atommem_gym.actions import Answer, Operation, Scratchpad, parse, tool_schemas
from atommem_gym.agents.players.language_model import Completion, LanguageModel, Sampling
from atommem_gym.agents.players.player import Dropped, Turn, Usage
from atommem_gym.agents.players.shortening import Shortener, cut_end
from atommem_gym.chat_reply import ending
from atommem_gym.config import EnvConfig
from atommem_gym.episode import Episode
from atommem_gym.errors import ConfigError, ContextLengthError, LanguageModelError
from atommem_gym.policies.documents import harmless
from atommem_gym.policies.writing import answer, write_action
from atommem_gym.prompts import PromptTemplate
from atommem_gym.records.layout import stable_rng
from atommem_gym.replies.thinking import Pairs, without_thinking
from atommem_gym.scoring import UNKNOWN
from atommem_gym.step import Observation, Phase

_LABEL = re.compile(r"^(?:the |final )*answer\s*(?:is)?\s*:\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Asked:
    """One answered call of the model."""

    messages: list[dict[str, str]]
    """The prompt that the model answered, shortened if need be."""
    completion: Completion
    """Its reply."""
    dropped: tuple[Dropped, ...]
    """What the prompt or the reply lost to fit the model's context."""

    def turn(self, action: str) -> Turn:
        """The turn with this action."""
        return Turn(action, self.messages, self.completion.text, (self.completion,), self.dropped)


class LanguageModelPlayer:
    """Shows the model each observation in a fresh context of two messages; the model's reply is the action.

    This class is the players ``crud`` and ``add_only``, which differ only in their environment, and the base of the
    others.

    Args:
        name: Name of the player, for tables and traces.
        model: Any language model; many players may share it.
        template: A Jinja2 file in place of the player's own template, or ``shared_prefix``, see ``PromptTemplate``.
        reading: Sampling settings for the reading phase, such as ``{"max_tokens": 2048}``; they win over ``sampling``.
        answering: The same for the answering phase.
        seeded: Whether every completion with a temperature above 0 gets a seed, derived from episode and step.
        send_tools: Whether the function schemas are sent with the messages, for the chat template of the model; the
            environment must have ``dialect="tools"``.
        **sampling: Fields of :class:`~atommem_gym.agents.players.language_model.Sampling`, for both phases.

    Raises:
        ConfigError: a sampling setting is unknown or out of range.
    """

    own_template: ClassVar[str] = ""
    """A template file in ``atommem_gym/prompts``; empty for the template of the environment's dialect."""
    chunk_name: ClassVar[str] = "chunk"
    """Name of the observation's ``chunk`` in reports of what was dropped."""

    def __init__(
        self,
        name: str,
        model: LanguageModel,
        *,
        template: str | Path | None = None,
        reading: Mapping[str, Any] | None = None,
        answering: Mapping[str, Any] | None = None,
        seeded: bool = True,
        send_tools: bool = False,
        **sampling: Any,
    ) -> None:
        self.name = name
        self.model = model
        self.usage = Usage()
        """Cost of the current episode so far."""
        both = Sampling().with_values(sampling)
        self.sampling = {
            Phase.READING: both.with_values(reading or {}),
            Phase.ANSWERING: both.with_values(answering or {}),
        }
        self._template = template
        self._seeded = seeded
        self._send_tools = send_tools

    @property
    def settings(self) -> dict[str, Any]:
        """Model, template, sampling and the other arguments, as JSON values."""
        return {
            "model": self.model.name,
            "template": None if self._template is None else str(self._template),
            "reading": self.sampling[Phase.READING].as_json(),
            "answering": self.sampling[Phase.ANSWERING].as_json(),
            "seeded": self._seeded,
            "send_tools": self._send_tools,
        }

    def reset(self, episode: Episode, seed: int) -> None:
        """Get ready for an episode and set the usage to zero.

        Raises:
            ConfigError: the template cannot be used, or ``send_tools`` is set and the dialect is not ``tools``.
        """
        self.config: EnvConfig = episode.config
        if self._send_tools and self.config.dialect != "tools":
            raise ConfigError(
                f"send_tools=True goes with dialect='tools', but the environment has dialect={self.config.dialect!r}"
            )
        path = self._template
        if path is None and self.own_template:
            path = Path(atommem_gym.prompts.__file__).parent / self.own_template
        self.prompt = PromptTemplate(self.config, path)
        self.usage = Usage()
        self._seed = seed

    async def act(self, observation: Observation) -> Turn:
        """Choose the action by :meth:`play` and add its cost to ``usage``."""
        turn = await self.play(observation)
        self.usage.add(turn)
        return turn

    async def play(self, observation: Observation) -> Turn:
        """Choose the action. To be repeatable, it must not change the player before the model has answered."""
        asked = await self.ask(observation)
        return asked.turn(asked.completion.text)

    def cut_chunk(self, text: str, characters: int) -> str:
        """The chunk without its last ``characters`` characters; a subclass may cut elsewhere."""
        return cut_end(text, characters)

    async def ask(self, observation: Observation) -> Asked:
        """The model's reply to the prompt of an observation; the prompt is shortened until it fits the context.

        Raises:
            ContextLengthError: even the shortest prompt does not fit.
            LanguageModelError: the model gave no usable reply.
        """
        sampling = self._sampling(observation)
        tools = tool_schemas(self.config.kinds) if self._send_tools else ()
        messages = self.prompt.messages(observation)
        shortener: Shortener | None = None
        dropped: tuple[Dropped, ...] = ()
        while True:
            try:
                completion = await self.model.complete(messages, sampling, tools=tools)
                return Asked(messages, counted(completion, self.model.name), dropped)
            except ContextLengthError as error:
                if shortener is None:
                    shortener = Shortener(observation, sampling.max_tokens, self.cut_chunk, self.chunk_name)
                shorter = shortener.next(error, sum(len(message["content"]) for message in messages))
            messages = self.prompt.messages(shorter.observation)
            sampling = replace(sampling, max_tokens=shorter.max_tokens)
            dropped = shorter.dropped

    def _sampling(self, observation: Observation) -> Sampling:
        sampling = self.sampling[Phase(observation["phase"])]
        if not self._seeded or sampling.temperature == 0 or sampling.seed is not None:
            return sampling
        # steps_left falls by one with each step, so it identifies the step, also when the call is repeated.
        step = int(observation["steps_left"])
        generator = stable_rng("language model player", self.name, self._seed, step)
        return replace(sampling, seed=int(generator.integers(2**31)))


class OverwritePlayer(LanguageModelPlayer):
    """Takes the model's whole reply to a chunk as the new scratchpad; the model answers from the scratchpad alone.

    Reasoning is left out. Of a reply with scratchpad tags only the text of the last one counts; a reply without text
    leaves the scratchpad unchanged. Made for ``storage=False``.
    """

    own_template = "overwrite.j2"

    async def play(self, observation: Observation) -> Turn:
        """While reading a new scratchpad, then the answer."""
        asked = await self.ask(observation)
        reply, dialect, thinking = asked.completion.text, self.config.dialect, self.config.thinking
        if observation["phase"] == Phase.ANSWERING:
            return asked.turn(write_action([answer(final_answer(reply, dialect, thinking), dialect)], dialect))
        tagged = [op.text for op in operations_in(reply, dialect, thinking) if isinstance(op, Scratchpad)]
        text = harmless(tagged[-1] if tagged else without_thinking(reply, thinking))
        return asked.turn(write_action([Scratchpad(text)], dialect) if text else "")


def operations_in(text: str, dialect: str, thinking: Pairs | None = None) -> list[Operation]:
    """The well-formed operations of a reply in the environment's dialect; if it has none, those in ``crud``.

    The prompts of the baselines ask for the tags of ``crud``, whatever the dialect is.
    """
    for name in dict.fromkeys((dialect, "crud")):
        found = [op for op in parse(text, name, thinking) if isinstance(op, Operation)]
        if found:
            return found
    return []


def final_answer(text: str, dialect: str, thinking: Pairs | None = None) -> str:
    r"""The answer in a reply: the text of its first answer tag, else its first line of no reasoning, else ``unknown``.

    >>> final_answer("It was <answer>Ada</answer>", "crud"), final_answer("Answer: Ada\nShe was a countess.", "crud")
    ('Ada', 'Ada')
    """
    for op in operations_in(text, dialect, thinking):
        if isinstance(op, Answer):
            return op.text
    lines = (_LABEL.sub("", line.strip()).strip() for line in without_thinking(text, thinking).splitlines())
    return next((line for line in lines if line), UNKNOWN)


def counted(completion: Completion, model: str) -> Completion:
    """The completion, with one of ``chat_reply.ENDINGS`` as its finish reason (SPEC A9).

    Raises:
        LanguageModelError: it did not end with a stop, at the length limit or with a tool call.
    """
    ended = ending(completion.finish_reason)
    if ended is None:
        raise LanguageModelError(
            f"the model {model!r} gave a completion with finish_reason={completion.finish_reason!r}, which is not "
            "acted on: a reply counts only if it ended as a stop, at the length limit or with a tool call. If this one "
            "did, give its Completion the finish_reason 'stop', 'length' or 'tool_calls'"
        )
    return completion if ended == completion.finish_reason else replace(completion, finish_reason=ended)
