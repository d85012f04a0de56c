"""With which finish reasons a reply counts, and that nobody acts on half a reply (SPEC A9)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.agents.replies import (
    chat,
    choice,
    complete,
    short_waits,
    values,
)
from support.openai_server import OpenAIServer, server

from atommem_gym.agents.players.language_model import Completion
from atommem_gym.agents.players.llm_player import LanguageModelPlayer
from atommem_gym.chat_reply import ENDINGS, ending, read_chat
from atommem_gym.endpoints import OddReplyError
from atommem_gym.errors import LanguageModelError
from atommem_gym.testing import budget

__all__ = ["server", "short_waits"]
COUNTED = {
    *("stop", "length", "tool_calls", "function_call", "eos_token", "eos", "stop_sequence", "end_turn", "max_tokens"),
    *("model_context_window_exceeded", "tool_use", "model_length", "complete", "tool_call", "completed"),
}
"""All finish reasons with which a reply counts, written out a second time."""


@given(
    st.text(max_size=12)
    | st.sampled_from(sorted(COUNTED)).map(str.upper)
    | st.sampled_from(sorted(COUNTED)).flatmap(lambda one: st.sampled_from([one, one[:-1], f"{one} ", f"{one}s"]))
    | values
)
@budget(300)
def test_A9_only_a_stop_the_length_limit_or_a_tool_call_counts(reason: Any) -> None:
    body = {"choices": [choice("<create>half", finish_reason=reason)]}
    if isinstance(reason, str) and reason.lower() in COUNTED:
        assert read_chat(body).ended == ending(reason) in ("stop", "length", "tool_calls")
        return
    assert ending(reason) is None
    with pytest.raises(OddReplyError, match="finish_reason"):
        read_chat(body)


def test_A9_the_table_of_finish_reasons_is_the_one_that_is_meant() -> None:
    assert set(ENDINGS) == COUNTED
    assert {reason for reason, ended in ENDINGS.items() if ended == "length"} == {
        *("length", "max_tokens", "model_context_window_exceeded", "model_length")
    }


@pytest.mark.parametrize(
    ("reason", "ended"), [("max_tokens", "length"), ("END_TURN", "stop"), ("tool_use", "tool_calls")]
)
def test_A9_other_spellings_are_recorded_as_ours(server: OpenAIServer, reason: str, ended: str) -> None:
    server.answer = lambda request, number: chat(finish_reason=reason)
    assert complete(server).finish_reason == ended


@pytest.mark.parametrize("reason", ["error", "unknown", "", None])
def test_A9_a_player_acts_on_no_completion_of_any_model_that_was_not_ended_as_a_stop(reason: Any) -> None:
    class Broken:
        name = "broken"

        async def complete(self, *_: Any, **__: Any) -> Completion:
            return Completion("<create>half", 1, 1, 0.0, reason)

        async def aclose(self) -> None: ...

    import gymnasium as gym

    env = gym.make("AtomMem-Synthetic-v0", num_docs=4, store="numpy", disable_env_checker=True)
    observation, _ = env.reset(seed=0)
    player = LanguageModelPlayer("crud", Broken())
    player.reset(env.unwrapped.episode, 0)  # type: ignore[attr-defined]
    with pytest.raises(LanguageModelError, match="finish_reason"):
        asyncio.run(player.act(observation))
    assert player.usage.calls == 0
    env.close()
