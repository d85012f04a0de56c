"""The players with a language model: prompts, actions, baselines, and what happens when a prompt does not fit."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.fixed_items import fixed_gym

from atommem_gym.actions import Answer, Create, Read, Scratchpad, parse, without_thinking
from atommem_gym.agents.players.language_model import Completion, Messages, Sampling, ToolSchemas
from atommem_gym.agents.players.llm_player import final_answer
from atommem_gym.agents.players.player import Dropped, Player, Turn, make_player, player_keywords
from atommem_gym.agents.players.shortening import MAX_TRIES, Shortener, cut_middle
from atommem_gym.errors import ConfigError, ContextLengthError, ModelUnavailableError
from atommem_gym.records.record import Document, Evidence, Record

DOCUMENTS = [
    Document(f"Place {i}", f"Place {i} has a tower. The tower of Place {i} is {100 + i} m high.") for i in range(8)
]
QUESTION = Record(
    "q1", "How high is the tower of Place 3?", "103 m", (DOCUMENTS[3],), (0,), (Evidence("Place 3", "103 m", "103 m"),)
)
SECOND = dataclasses.replace(QUESTION, id="q2", question="How high is the tower of Place 5?", answer="105 m")

Reply = Callable[[str, Sampling], str]


@dataclass
class FakeModel:
    """Replies by a rule to the user message; remembers what it was asked; may have a context counted in characters."""

    reply: Reply = lambda prompt, sampling: "<answer>103 m</answer>"
    context: int | None = None
    numbers: bool = True
    """Whether an error about length says by how much."""
    insists: bool = False
    """Whether ``max_tokens`` counts against the context, as with vLLM."""
    name: str = "fake"
    asked: list[tuple[list[dict[str, str]], Sampling, int]] = field(default_factory=list)
    failures: int = 0
    tried: int = 0

    async def complete(self, messages: Messages, sampling: Sampling, *, tools: ToolSchemas = ()) -> Completion:
        self.tried += 1
        if self.failures:
            self.failures -= 1
            raise ModelUnavailableError("gone")
        prompt = sum(len(message["content"]) for message in messages)
        if self.context is not None and prompt + (sampling.max_tokens if self.insists else 1) > self.context:
            known = (prompt, self.context) if self.numbers else (None, None)
            raise ContextLengthError("too long", *known)
        self.asked.append(([dict(message) for message in messages], sampling, len(tools)))
        text = self.reply(messages[-1]["content"], sampling)
        return Completion(text, prompt, len(text), 0.5, "length" if text.endswith("…") else "stop")

    async def aclose(self) -> None:
        pass


def play(
    player: Player,
    questions: Sequence[Record] = (QUESTION,),
    documents: Sequence[Document] = DOCUMENTS,
    **keywords: Any,
) -> tuple[list[Turn], list[Mapping[str, Any]], dict[str, Any]]:
    """Turns, observations and the last info of an episode."""
    env = fixed_gym(questions, documents, **{"chunk_tokens": 60, **keywords, **player_keywords(player.name)})
    observation, info = env.reset(options={"index": 0})
    player.reset(env.unwrapped.episode, seed=7)
    turns, observations, over = [], [], False
    while not over:
        observations.append(observation)
        turns.append(asyncio.run(player.act(observation)))
        observation, _, terminated, truncated, info = env.step(turns[-1].action)
        over = terminated or truncated
    env.close()
    return turns, observations, info


def test_crud_shows_a_fresh_context_each_step_and_acts_as_the_model_writes() -> None:
    def reply(prompt: str, sampling: Sampling) -> str:
        if "The chunk:" in prompt:
            return "<think><answer>no</answer></think>I note it. <create>Place 3: 103 m</create>"
        return "<answer>103 m</answer>" if "Searched for" in prompt else "<read>Place 3</read>"

    model = FakeModel(reply)
    player = make_player("crud", model)()
    turns, _, info = play(player)
    assert info["episode_metrics"]["em"] == 1.0
    assert all([message["role"] for message in messages] == ["system", "user"] for messages, _, _ in model.asked)
    assert len({messages[0]["content"] for messages, _, _ in model.asked}) == 1
    assert all(turn.action == turn.response for turn in turns)
    assert [turn.messages for turn in turns] == [messages for messages, _, _ in model.asked]


def test_sampling_settings_are_per_phase_and_seeds_per_step() -> None:
    model = FakeModel(lambda prompt, sampling: "" if "The chunk:" in prompt else "<answer>x</answer>")
    options = {"temperature": 0.8, "max_tokens": 500, "answering": {"max_tokens": 50, "temperature": 0.0}}
    make = make_player("crud", model, **options)
    play(make())
    first = [sampling for _, sampling, _ in model.asked]
    *reading, answering = first
    assert {(s.temperature, s.max_tokens) for s in reading} == {(0.8, 500)}
    assert (answering.temperature, answering.max_tokens, answering.seed) == (0.0, 50, None)
    assert len({s.seed for s in reading}) == len(reading)
    model.asked.clear()
    play(make())
    assert [sampling for _, sampling, _ in model.asked] == first
    model.asked.clear()
    play(make_player("crud", model, seeded=False, **options)())
    assert {sampling.seed for _, sampling, _ in model.asked} == {None}


def test_add_only_is_told_of_no_update_or_delete() -> None:
    model = FakeModel()
    play(make_player("add_only", model)())
    system = model.asked[0][0][0]["content"]
    assert "<create>" in system
    assert "<update" not in system
    assert "<delete" not in system


def test_overwrite_replaces_the_scratchpad_by_the_whole_reply() -> None:
    replies = iter(["<think>so</think> Place 1 <b>", "<scratchpad>Place 3: 103 m</scratchpad>", "", "more"])

    def reply(prompt: str, sampling: Sampling) -> str:
        return "Answer: 103 m\nbecause" if "Write your notes anew" not in prompt else next(replies, "")

    turns, observations, info = play(make_player("overwrite_llm", FakeModel(reply))(), chunk_tokens=40)
    assert [parse(turn.action) for turn in turns[:4]] == [
        [Scratchpad("Place 1 b")],
        [Scratchpad("Place 3: 103 m")],
        [],
        [Scratchpad("more")],
    ]
    assert observations[3]["scratchpad"] == "Place 3: 103 m"
    assert turns[-1].action == "<answer>103 m</answer>"
    assert info["episode_metrics"]["em"] == 1.0
    assert info["episode_metrics"]["operations"].keys() == {"scratchpad", "answer"}


@pytest.mark.parametrize("dialect", ["crud", "released", "tools"])
@pytest.mark.parametrize("overlap", [0, 10])
def test_long_context_shows_the_whole_stream_once_per_question(dialect: str, overlap: int) -> None:
    model = FakeModel(lambda prompt, sampling: f"<answer>{103 if 'Place 3?' in prompt else 105} m</answer>")
    turns, observations, info = play(
        make_player("long_context", model)(), [QUESTION, SECOND], dialect=dialect, chunk_overlap=overlap
    )
    assert info["episode_metrics"]["em"] == 1.0
    assert len(model.asked) == 2
    reading = [turn for turn, seen in zip(turns, observations, strict=True) if seen["phase"] == 0]
    assert all((turn.messages, turn.completions, turn.action) == (None, (), "") for turn in reading)
    stream = "\n\n".join(f"Document {i}:\n{doc.title}\n{doc.text}" for i, doc in enumerate(DOCUMENTS, 1))
    prompt = model.asked[0][0][1]["content"]
    assert stream in prompt
    assert prompt.index(stream) < prompt.index(QUESTION.question)
    assert SECOND.question not in prompt


def test_long_context_reports_what_it_leaves_out_of_the_middle() -> None:
    model = FakeModel()
    turns, _, _ = play(make_player("long_context", model, context_tokens=50)())
    (dropped,) = turns[-1].dropped
    assert (dropped.what, dropped.unit) == ("documents", "tokens")
    assert dropped.of - dropped.dropped == 50
    prompt = model.asked[0][0][1]["content"]
    assert "Document 1:" in prompt
    assert f"is {100 + 7} m high." in prompt
    assert "Place 3 has" not in prompt


def test_retrieve_then_read_stores_every_passage_and_reads_once_a_question() -> None:
    model = FakeModel(lambda prompt, sampling: f"{103 if 'Place 3?' in prompt else 105} m")
    player = make_player("retrieve_then_read", model, passage_tokens=30)()
    turns, observations, info = play(player, [QUESTION, SECOND], top_k=2)
    assert info["episode_metrics"]["em"] == 1.0
    stored = [op.text for turn in turns for op in parse(turn.action) if isinstance(op, Create)]
    assert [f"{doc.title}\n{doc.text}" for doc in DOCUMENTS] == stored
    answering = [parse(t.action)[0] for t, seen in zip(turns, observations, strict=True) if seen["phase"] == 1]
    assert answering == [Read(QUESTION.question), Answer("103 m"), Read(SECOND.question), Answer("105 m")]
    assert len(model.asked) == 2
    prompt = model.asked[0][0][1]["content"]
    assert prompt.count("Passage ") == 2
    assert "Place 3\nPlace 3 has a tower." in prompt


def test_passages_keep_to_their_limit_and_repeat_the_title() -> None:
    long = Document("A title", " ".join(f"Sentence {i} says little." for i in range(30)))
    player = make_player("retrieve_then_read", FakeModel(), passage_tokens=20)()
    turns, _, info = play(player, documents=[long, DOCUMENTS[3]])
    stored = [op.text for turn in turns for op in parse(turn.action) if isinstance(op, Create)]
    pieces = [text.removeprefix("A title\n") for text in stored if text.startswith("A title\n")]
    assert " ".join(pieces) == long.text
    assert len(pieces) > 5
    assert not [record for record in info["rejected"] if record["reason"] == "cut"]


def test_retrieve_then_read_answers_without_a_search_if_there_is_none() -> None:
    turns, _, info = play(make_player("retrieve_then_read", FakeModel())(), max_reads_per_question=0)
    assert info["episode_metrics"]["operations"]["read"] == 0
    assert turns[-1].action == "<answer>103 m</answer>"


def test_native_tools_are_sent_in_the_dialect_tools_only() -> None:
    model = FakeModel(lambda prompt, sampling: "")
    play(make_player("crud", model, send_tools=True)(), dialect="tools")
    assert {tools for _, _, tools in model.asked} == {6}
    with pytest.raises(ConfigError, match="dialect='crud'"):
        play(make_player("crud", model, send_tools=True)())


def test_a_template_of_ones_own_is_used(tmp_path: Path) -> None:
    template = tmp_path / "mine.j2"
    template.write_text("{% if part == 'system' %}SYSTEM{% else %}Q: {{ question }}{% endif %}", encoding="utf-8")
    model = FakeModel()
    play(make_player("crud", model, template=template)())
    assert model.asked[0][0] == [
        {"role": "system", "content": "SYSTEM"},
        {"role": "user", "content": f"Q: {QUESTION.question}"},
    ]


def test_a_model_that_is_gone_changes_nothing_and_the_step_can_be_repeated() -> None:
    for name in ("crud", "overwrite_llm", "long_context", "retrieve_then_read"):
        undisturbed, disturbed = FakeModel(), FakeModel()
        expected, _, _ = play(make_player(name, undisturbed)())
        player = make_player(name, disturbed)()
        env = fixed_gym([QUESTION], DOCUMENTS, **{"chunk_tokens": 60, **player_keywords(name)})
        observation, _ = env.reset(options={"index": 0})
        player.reset(env.unwrapped.episode, seed=7)
        actions, over = [], False
        while not over:
            disturbed.failures = 2
            for _ in range(2):
                try:
                    turn = asyncio.run(player.act(observation))
                    break  # a step without the model
                except ModelUnavailableError:
                    continue
            else:
                turn = asyncio.run(player.act(observation))
            actions.append(turn.action)
            observation, _, terminated, truncated, _ = env.step(turn.action)
            over = terminated or truncated
        assert actions == [turn.action for turn in expected]
        env.close()


def test_usage_is_counted_from_every_reset() -> None:
    model = FakeModel(lambda prompt, sampling: "cut off…" if "The chunk:" in prompt else "<answer>x</answer>")
    player: Any = make_player("crud", model)()
    for _ in range(2):
        model.asked.clear()
        turns, _, _ = play(player)
        assert player.usage.calls == len(model.asked) == len(turns)
        assert player.usage.cut_short == len(turns) - 1
        assert player.usage.completion_tokens == sum(c.completion_tokens for turn in turns for c in turn.completions)
        assert player.usage.seconds == 0.5 * len(turns)


# A context that is too small.


def sizes(turns: Sequence[Turn]) -> list[tuple[str, int]]:
    return [(dropped.what, dropped.dropped) for turn in turns for dropped in turn.dropped]


@pytest.mark.parametrize("numbers", [True, False])
def test_a_chunk_that_does_not_fit_is_cut_at_its_end_and_reported(numbers: bool) -> None:
    full = FakeModel()
    play(make_player("crud", full)(), chunk_tokens=400)
    prompt = sum(len(message["content"]) for message in full.asked[0][0])
    model = FakeModel(context=prompt - 100, numbers=numbers)
    turns, observations, _ = play(make_player("crud", model, max_tokens=1)(), chunk_tokens=400)
    (dropped,) = turns[0].dropped
    assert dropped.what == "chunk"
    assert 100 <= dropped.dropped < dropped.of == len(observations[0]["chunk"])
    shown = model.asked[0][0][1]["content"]
    assert observations[0]["chunk"][: dropped.of - dropped.dropped].strip() in shown
    assert observations[0]["chunk"] not in shown
    assert turns[0].messages == model.asked[0][0]
    assert QUESTION.question in shown


def test_max_tokens_is_lowered_where_only_the_reply_does_not_fit() -> None:
    full = FakeModel()
    play(make_player("crud", full)())
    longest = max(sum(len(message["content"]) for message in messages) for messages, _, _ in full.asked)
    model = FakeModel(context=longest + 300, insists=True)
    turns, _, _ = play(make_player("crud", model, max_tokens=1000)())
    assert {dropped.what for turn in turns for dropped in turn.dropped} == {"max_tokens"}
    for messages, sampling, _ in model.asked:
        assert sampling.max_tokens == longest + 300 - sum(len(message["content"]) for message in messages)


def test_entries_are_dropped_from_the_worst_and_then_the_scratchpad() -> None:
    note = "n" * 3000

    def reply(prompt: str, sampling: Sampling) -> str:
        if "The chunk:" in prompt:
            return f"<scratchpad>{note}</scratchpad>" + "".join(
                f"<create>{i} {'fact ' * 60}</create>" for i in range(4)
            )
        return "<read>fact</read>" if "Searched for" not in prompt else "<answer>x</answer>"

    keywords = {"max_scratchpad_tokens": 2000, "chunk_tokens": 4000, "top_k": 4}
    full = FakeModel(reply)
    play(make_player("crud", full)(), **keywords)
    last = sum(len(message["content"]) for message in full.asked[-1][0])
    turns, observations, _ = play(make_player("crud", FakeModel(reply, context=last - 400), max_tokens=1)(), **keywords)
    assert [dropped.what for dropped in turns[-1].dropped] == ["memories"]
    shown = turns[-1].messages[1]["content"]  # type: ignore[index]
    kept = turns[-1].dropped[0].of - turns[-1].dropped[0].dropped
    assert 0 < kept < 4
    for rank, memory in enumerate(observations[-1]["memories"]):
        assert (f"[{memory['id']}]" in shown) == (rank < kept)
    turns, _, _ = play(make_player("crud", FakeModel(reply, context=last - 2500), max_tokens=1)(), **keywords)
    assert [dropped.what for dropped in turns[-1].dropped] == ["memories", "scratchpad"]


def test_long_context_is_cut_in_the_middle_where_the_model_demands_it() -> None:
    model = FakeModel(context=900)
    turns, _, _ = play(make_player("long_context", model, max_tokens=1)())
    (dropped,) = turns[-1].dropped
    assert (dropped.what, dropped.unit) == ("documents", "characters")
    prompt = model.asked[0][0][1]["content"]
    assert "Document 1:" in prompt
    assert f"is {100 + 7} m high." in prompt
    assert "[…]" in prompt


@pytest.mark.parametrize("numbers", [True, False])
def test_a_context_too_small_for_the_question_raises(numbers: bool) -> None:
    model = FakeModel(context=50, numbers=numbers)
    with pytest.raises(ContextLengthError):
        play(make_player("crud", model)())
    # It gives up when nothing is left to drop, not only after the last try.
    assert model.tried < MAX_TRIES


def test_vague_numbers_still_end() -> None:
    """A server that says "at least 1001 tokens" of any prompt: every try drops more by itself."""
    observation = {"chunk": "c" * 10_000, "memories": (), "scratchpad": "", "feedback": ""}
    shortener, left, tries = Shortener(observation, 100), 10_000, 0
    while left > 1000:
        tries += 1
        shorter = shortener.next(ContextLengthError("at least", 1001, 1000), left)
        left = len(shorter.observation["chunk"])
    assert tries < MAX_TRIES


def test_cut_middle_keeps_both_ends() -> None:
    assert cut_middle("abcdefgh", 0) == "abcdefgh"
    assert cut_middle("abcdefgh", 3) == "abc\n[…]\ngh"
    assert cut_middle("abcdefgh", 99) == ""


def test_what_was_dropped_reads_as_a_line() -> None:
    assert Dropped("memories", 2, 6, "entries").line == "memories: 2 of 6 entries dropped"


# Replies.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("<think>a</think>b<think>c</think>d", "bd"),
        ("began before</think>b", "b"),
        ("a<think>b</think>c</think>d", "d"),
        ("a<think>never closed", "a"),
        ("<THINK>a</Think> b", "b"),
        ("<think/>a <think a=1 />b", "a b"),
        ("<think/>a</think>b", "b"),
        ("<thinking>a</thinking>", ""),
        ("<thinker>a</thinker>", "<thinker>a</thinker>"),
        ("", ""),
    ],
)
def test_A2_reasoning_is_not_visible(text: str, expected: str) -> None:
    assert without_thinking(text) == expected


@given(
    st.lists(
        st.sampled_from(
            ["<think>", "</think>", "<Think >", "<think/>", "<answer>a</answer>", "<create>b</create>", " c "]
        )
    )
)
def test_A2_what_is_visible_holds_the_same_operations(pieces: list[str]) -> None:
    text = "".join(pieces)
    assert parse(without_thinking(text)) == parse(text)


def test_A8_a_final_answer_is_looked_for_outside_of_named_delimiters() -> None:
    pairs = (("Thoughts:", "Reply:"),)
    text = "Thoughts: <answer>Oslo</answer>? Reply: Rome"
    assert final_answer(text, "crud", pairs) == "Rome"
    assert final_answer(text, "crud") == "Oslo"


@pytest.mark.parametrize(
    ("text", "dialect", "expected"),
    [
        ("<answer>Ada</answer> then <answer>Bob</answer>", "crud", "Ada"),
        ("<think>x</think>\n\nThe final answer is: Ada.\nMore.", "crud", "Ada."),
        (r"<final_answer>\boxed{Ada}</final_answer>", "released", "Ada"),
        ("<answer>Ada</answer>", "released", "Ada"),
        ('<tool_call>{"name": "answer", "arguments": {"text": "Ada"}}</tool_call>', "tools", "Ada"),
        ("<think>never ends", "crud", "unknown"),
        ("", "crud", "unknown"),
    ],
)
def test_the_answer_in_a_reply(text: str, dialect: str, expected: str) -> None:
    assert final_answer(text, dialect) == expected


@pytest.mark.parametrize("name", ["overwrite_llm", "long_context", "retrieve_then_read"])
def test_the_baselines_play_the_released_preset(name: str) -> None:
    model = FakeModel(lambda prompt, sampling: f"<answer>{103 if 'Place 3?' in prompt else 105} m</answer>")
    _, _, info = play(make_player(name, model)(), [QUESTION, SECOND], preset="released", chunk_overlap=5)
    assert [answer["closed"] for answer in info["episode_metrics"]["answers"]] == ["answered", "answered"]
    assert info["episode_metrics"]["rejected"] == 0


def test_the_released_preset_with_a_template_of_ones_own(tmp_path: Path) -> None:
    """AtomMem-8B is evaluated so: the semantics are ours, the prompt is the user's."""
    template = tmp_path / "released.j2"
    template.write_text(
        "{% if part == 'system' %}S{% elif phase == 0 %}{{ question }}\n"
        "{% for memory in memories %}Memory {{ loop.index }}: {{ memory.text }}\n{% else %}No previous memory\n"
        "{% endfor %}{{ chunk }}{% else %}{{ question }} {{ memories | length }}{% endif %}",
        encoding="utf-8",
    )

    def reply(prompt: str, sampling: Sampling) -> str:
        if "tower of Place 3 is" in prompt and "Memory 1" in prompt:
            return "<modify_memory>Memory 1: Place 3 is 103 m</modify_memory>"
        if "\n" in prompt:
            return "<add_memory>a fact</add_memory><update_query>tower</update_query>"
        return r"<final_answer>\boxed{103 m}</final_answer>"

    model = FakeModel(reply)
    turns, _, info = play(
        make_player("crud", model, template=template)(), preset="released", questions_per_episode=1, chunk_overlap=5
    )
    assert info["episode_metrics"]["answers"][0]["score"] == 1.0
    assert info["episode_metrics"]["operations"]["update"] >= 1
    assert "No previous memory" in model.asked[0][0][1]["content"]
    assert turns[-1].messages == [
        {"role": "system", "content": "S"},
        {"role": "user", "content": f"{QUESTION.question} 2"},
    ]
