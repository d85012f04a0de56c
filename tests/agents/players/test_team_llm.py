"""Teams of language models: what each is told, when it is asked, and what happens if one fails."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import atommem_gym.prompts
from atommem_gym.agents.players.language_model import Completion
from atommem_gym.errors import LanguageModelError
from atommem_gym.prompts import PromptTemplate

pytest.importorskip("pettingzoo", reason="needs PettingZoo: pip install 'atommem-gym[team]'")
from atommem_gym.agents.players.team import make_llm_team
from atommem_gym.agents.team_play import aplay_team
from atommem_gym.envs.team.team import parallel_env

SMALL: dict[str, Any] = {"num_docs": 20, "chunk_tokens": 250, "store": "numpy"}
TEMPLATES = {role: Path(atommem_gym.prompts.__file__).parent / f"team_{role}.j2" for role in ("reader", "answerer")}


class Scribe:
    """A model that stores a sentence of each chunk, searches once for each question, then answers."""

    name = "scribe"

    def __init__(self, fails: str = "") -> None:
        self.asked: list[list[dict[str, str]]] = []
        self.seeds: list[int | None] = []
        self.cancelled = 0
        self._fails = fails

    async def complete(self, messages: list[dict[str, str]], sampling: Any, *, tools: Any = ()) -> Completion:
        self.asked.append(messages)
        self.seeds.append(sampling.seed)
        user = messages[-1]["content"]
        if self._fails and self._fails in user:
            raise LanguageModelError("it is gone")
        if self._fails:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        if "The chunk:" in user:
            text = f"<create>{user.split('<<<')[1].split('>>>')[0].strip()[:80]}</create>".replace("<<", "")
        elif "Searched for:" in user:
            text = "<answer>no idea</answer>"
        else:
            text = "<read>capital</read>"
        return Completion(text, 10, 5, 0.0, "stop")

    async def aclose(self) -> None: ...


def test_readers_read_their_parts_and_the_answerer_answers_from_memory() -> None:
    readers, answerer = Scribe(), Scribe()
    env = parallel_env(readers=2, **SMALL)
    team = make_llm_team(readers, 2, answerer=answerer, temperature=1.0)
    record = asyncio.run(aplay_team(env, team, "scribes", index=0))
    chunks = [reader.stream.num_chunks for reader in env.episode.readers]
    # Nobody is asked who has nothing to do.
    assert len(readers.asked) == record.operations["create"] == sum(chunks)
    assert len(answerer.asked) == 2
    assert record.steps == max(chunks) + 2
    assert record.rejected == 0
    assert all("one of several readers" in messages[0]["content"] for messages in readers.asked)
    assert all("you see no document" in messages[0]["content"] for messages in answerer.asked)
    assert "(written by reader_" in answerer.asked[-1][-1]["content"]
    assert len(set(readers.seeds)) == len(readers.seeds)


def test_a_model_that_fails_ends_the_round_and_leaves_no_call_behind() -> None:
    model = Scribe(fails="Document 1:")
    env = parallel_env(readers=1, **SMALL)
    team = make_llm_team(model, 1)
    waiting = Scribe(fails="nothing")

    class Waiting:
        """A player that waits for its model while the other one's fails."""

        name, settings = "waiting", {}  # type: ignore[var-annotated]

        def reset(self, episode: Any, seed: int) -> None: ...

        async def act(self, observation: Any) -> Any:
            await waiting.complete([{"role": "user", "content": "x"}], team["reader_0"].sampling[0])  # type: ignore[attr-defined]

    with pytest.raises(LanguageModelError, match="it is gone"):
        asyncio.run(aplay_team(env, {**team, "answerer_0": Waiting()}, "scribes", index=0))
    assert waiting.cancelled == 1
    assert env.episode.answerer.state.steps == 0


@pytest.mark.parametrize("role", TEMPLATES)
@pytest.mark.parametrize(
    "keywords",
    [
        {},
        {"dialect": "tools"},
        {"dialect": "released"},
        {"storage": False},
        {"scratchpad": False, "operations": ["create", "read"], "questions_per_episode": 3, "question_visible": "end"},
    ],
)
def test_every_dialect_and_ablation_has_a_prompt_for_each_role(role: str, keywords: dict[str, Any]) -> None:
    env = parallel_env(readers=1, initial_query="" if "storage" in keywords else "town", **SMALL, **keywords)
    observations, _ = env.reset(seed=0)
    prompt = PromptTemplate(env.config, TEMPLATES[role])
    assert ("You never answer" in prompt.system) == (role == "reader")
    if env.config.dialect != "tools":
        tag = "<answer>" if env.config.dialect == "crud" else "<final_answer>"
        assert (tag in prompt.system) == (role == "answerer")
    assert ("While you read" in prompt.system) == (role == "reader")
    assert ("When you answer" in prompt.system) == (role == "answerer")
    assert ("scratchpad is yours alone" in prompt.system) == (
        role == "reader" and env.config.scratchpad and env.config.storage
    )
    assert "\n\n\n" not in prompt.system.replace("\n\n\n", "\n\n", 1)
    for observation in observations.values():
        prompt.user(observation)
