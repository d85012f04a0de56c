"""A state machine that plays an environment and a model of the episode together and compares their results."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
from gymnasium.error import ResetNeeded
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

import atommem_gym  # noqa: F401  (registers the ids)
from atommem_gym.actions import Answer, Create, Delete, Operation, Read, Scratchpad, Update
from atommem_gym.embedders.loading import load_embedder
from atommem_gym.memory.protocols import TextKind, Vectors
from atommem_gym.records.documents import heading
from atommem_gym.testing.env_model import EpisodeModel, Malformed, Predicted

_DEFAULTS = {
    "preset": "paper",
    "dialect": "crud",
    "addressing": "id",
    "sticky_query": False,
    "initial_query": "",
    "advance": "always",
    "early_answer": False,
    "chunk_overlap": 0,
    "reward": "em",
}
"""The configuration that the model implements."""

RIGHT, WRONG, EMPTY = "right", "wrong", ""
"""Answers of the machine: ``RIGHT`` stands for the gold answer of the open question, ``EMPTY`` is an abstention."""

_words = st.lists(st.sampled_from(["bees", "boats", "honey", "Ada", "the", "1815"]), min_size=1, max_size=3)
_texts = st.one_of(
    _words.map(" ".join), st.sampled_from(["<b>x</b>", "née 東京 🦉", '"; --', "{{ x }}", "a < b", "\0"])
)
_ids = st.integers(0, 8)
_malformed = st.sampled_from(
    [
        Malformed("<create> </create>", "create", "empty"),
        Malformed("<read/>", "read", "empty"),
        Malformed('<delete id="one"/>', "delete", "bad_id"),
        Malformed("<update>no id</update>", "update", "bad_id"),
        Malformed("<creat>x</creat>", "create", "unknown_tag"),
        Malformed("<anwser>x</anwser>", "answer", "unknown_tag"),
    ]
)
_asides = st.sampled_from(["", " ", "I note it.\n", "<think><create>not this</create></think>", "<i>so</i>"])
_writes = st.one_of(
    st.builds(Create, _texts), st.builds(Update, _ids, _texts), st.builds(Delete, _ids), st.builds(Scratchpad, _texts)
)
_reads = st.builds(Read, _texts)
_answers = st.builds(Answer, st.sampled_from([RIGHT, WRONG, EMPTY]))
_any = st.one_of(_writes, _writes, _reads, _answers, _malformed)
_Part = tuple[Operation | Malformed, str]


class MemoryEnvMachine(RuleBasedStateMachine):
    """Plays an environment and compares it with ``EpisodeModel``, a second and simpler implementation of the rules.

    Subclass it, override :meth:`make_env`, and expose the test case to pytest::

        class MyEnvMachine(MemoryEnvMachine):
            def make_env(self):
                return gym.make("AtomMem-Synthetic-v0", num_docs=16, chunk_tokens=300, store="milvus")

        TestMyEnv = MyEnvMachine.TestCase

    After every step it compares the whole observation, the reward, the end and the info: SPEC M1 to M9, M11, M12,
    E1 to E3, E5 to E7, E10, E11, R1, and M14 where the environment has ``snapshot`` and ``restore``. The model uses the
    embedder of the environment's ``config``.

    Raises:
        ValueError: the environment has rules that the model does not implement (a preset, another dialect, …).
    """

    def make_env(self) -> gym.Env[Any, str]:
        """Make the environment under test; each run makes a new one and closes it."""
        return gym.make(
            "AtomMem-Synthetic-v0", num_docs=16, chunk_tokens=300, questions_per_episode=[1, 2], store="numpy", top_k=3
        )

    @initialize(index=st.integers(0, 3))
    def begin(self, index: int) -> None:
        """Make an environment and begin an episode."""
        self.env = self.make_env()
        config = self.env.get_wrapper_attr("config")
        unknown = {name: value for name in _DEFAULTS if (value := getattr(config, name)) != _DEFAULTS[name]}
        if unknown:
            raise ValueError(
                f"MemoryEnvMachine implements the default rules only, and this environment has {unknown}; "
                "leave these keywords out, or use check_memory_env, which follows the environment's config"
            )
        self.config = config
        self.saved: tuple[Any, EpisodeModel, str, str] | None = None
        self.reset(index)

    @rule(index=st.integers(0, 3))
    def reset(self, index: int) -> None:
        """M13: a new episode begins with empty memory."""
        index %= self.env.get_wrapper_attr("num_items")
        observation, info = self.env.reset(options={"index": index})
        item = self.env.get_wrapper_attr("item")
        self.model = EpisodeModel(
            questions=len(item.questions),
            chunks=int(observation["progress"][1]),
            max_steps=int(observation["steps_left"]),
            top_k=self.config.top_k,
            max_reads=self.config.max_reads_per_question,
            kinds=self.config.kinds,
            max_entries=self.config.max_entries,
        )
        # E1, implemented again: the documents in order, numbered, separated by blank lines.
        texts = [f"{heading(i, d)}\n{d.title}\n{d.text}" for i, d in enumerate(item.documents, 1)]
        self.unread = "\n\n".join(texts)
        self._check(Predicted(applied=dict.fromkeys(self.config.kinds, 0)), observation, info)

    @precondition(lambda self: not self._over)
    @rule(parts=st.lists(st.tuples(_any, _asides), max_size=5))
    def act(self, parts: list[_Part]) -> None:
        """Play an action of any operations, in any order, some of them malformed."""
        self._play([op for op, _ in parts], [aside for _, aside in parts])

    @precondition(lambda self: not self._over)
    @rule(writes=st.lists(_writes, max_size=4), read=_reads)
    def write_and_read(self, writes: list[Operation], read: Operation) -> None:
        """M5: play an action that reads what it writes."""
        self._play([read, *writes], [""] * (len(writes) + 1))

    @precondition(lambda self: not self._over and self.model.reading)
    @rule(write=_writes)
    def read_to_the_end(self, write: Operation) -> None:
        """Read all remaining chunks."""
        while self.model.reading and not self._over:
            self._play([write], [""])

    @precondition(lambda self: self._over)
    @rule()
    def step_after_the_end(self) -> None:
        """E7: a step after the end raises and changes nothing."""
        try:
            self.env.step("<create>too late</create>")
        except ResetNeeded:
            return
        raise AssertionError("E7: a step after the end of the episode must raise gymnasium.error.ResetNeeded")

    @precondition(lambda self: callable(getattr(self.env.unwrapped, "snapshot", None)))
    @rule()
    def snapshot(self) -> None:
        """M14: save the states of the environment and the model."""
        state = self.env.get_wrapper_attr("snapshot")()
        self.saved = (state, copy.deepcopy(self.model), self.unread, repr(self.seen))

    @precondition(lambda self: self.saved is not None)
    @rule()
    def restore(self) -> None:
        """M14: return both to the saved step, any number of times."""
        assert self.saved is not None
        state, model, self.unread, seen = self.saved
        self.seen = self.env.get_wrapper_attr("restore")(state)
        self.model = copy.deepcopy(model)
        assert repr(self.seen) == seen, f"M14: restore returned {self.seen!r}, the snapshot was taken at {seen}"

    def teardown(self) -> None:
        """Close the environment."""
        if hasattr(self, "env"):
            self.env.close()

    @property
    def _over(self) -> bool:
        return self.model.terminated or self.model.truncated

    def _play(self, operations: Sequence[Operation | Malformed], asides: Sequence[str]) -> None:
        item = self.env.get_wrapper_attr("item")
        # The gold answer is that of the question now open.
        gold = item.questions[len(self.model.scores)].answer
        spelled: list[Operation | Malformed] = [
            Answer(gold) if isinstance(op, Answer) and op.text == RIGHT else op for op in operations
        ]
        action = "".join(_spell(op) + aside for op, aside in zip(spelled, asides, strict=True))
        observation, reward, terminated, truncated, info = self.env.step(action)
        question = item.questions[len(self.model.scores)]
        said = self.model.step(spelled, question.answers if question.answerable else (EMPTY,))
        ends = (self.model.terminated, self.model.truncated)
        assert (terminated, truncated) == ends, f"E6: (terminated, truncated) is {(terminated, truncated)}, not {ends}"
        expected = self.model.reward if self._over else 0.0
        assert abs(float(reward) - expected) < 1e-12, f"R1: the reward is {reward}, expected {expected}"
        self._check(said, observation, info)
        if self._over:
            self._check_metrics(info["episode_metrics"])

    def _check(self, said: Predicted, observation: dict[str, Any], info: dict[str, Any]) -> None:
        model = self.model
        self.seen = observation
        assert observation in self.env.observation_space, f"E10: {observation!r} is not in the observation space"
        self._check_chunk(observation["chunk"])
        expected = {
            "phase": 0 if model.reading else 1,
            "scratchpad": model.scratchpad,
            "query": model.query,
            "question": self._question(),
            "reads_left": self.config.max_reads_per_question - model.reads,
            "steps_left": model.max_steps - model.steps,
        }
        for name, value in expected.items():
            assert observation[name] == value, f"E10: {name} is {observation[name]!r}, expected {value!r}"
        progress = [min(model.steps, model.chunks), model.chunks]
        assert observation["progress"].tolist() == progress, f"E2: progress is not {progress}"
        memories = [(m["id"], m["text"], float(m["score"])) for m in observation["memories"]]
        shown = model.shown(self._embed)
        assert [m[:2] for m in memories] == [m[:2] for m in shown], f"M4 to M8: shown is {memories}, expected {shown}"
        for (i, _, score), (*_, right) in zip(memories, shown, strict=True):
            assert abs(score - right) < 1e-9, f"M6: entry {i} is shown with score {score}, expected {right}"
        lines = observation["feedback"].split("\n") if observation["feedback"] else []
        # The model does not know the embedder's limit (M18); an operation embedded in part is executed all the same.
        lines = [line for line in lines if " cut: embedded_in_part: " not in line]
        fitting = len(lines) == len(said.feedback) and all(map(str.startswith, lines, said.feedback))
        assert fitting, f"M11: the lines of feedback are {lines}, expected beginnings {said.feedback}"
        rejected = [
            (r["operation"], r["position"], r["reason"]) for r in info["rejected"] if r["reason"] != "embedded_in_part"
        ]
        assert rejected == said.rejected, f"M11: rejected are {rejected}, expected {said.rejected}"
        assert info["applied"] == said.applied, f"E11: applied is {info['applied']}, expected {said.applied}"
        assert info["entries"] == len(model.entries), f"E11: entries is {info['entries']}, not {len(model.entries)}"

    def _check_chunk(self, chunk: str) -> None:
        """E1, E2: each observation while reading holds the next part of the stream; together they hold all of it."""
        if not self.model.reading:
            assert chunk == "", f"E10: while answering the chunk must be empty, it is {chunk[:60]!r}"
            assert self.unread == "", f"E1: this part of the stream was never shown: {self.unread[:60]!r}"
            return
        assert chunk, "E2: while reading the chunk must not be empty"
        start = self.unread[: len(chunk)]
        assert chunk == start, f"E1: the chunk {chunk[:60]!r} does not continue the last one: {start[:60]!r}"
        self.unread = self.unread[len(chunk) :]

    def _check_metrics(self, metrics: dict[str, Any]) -> None:
        model = self.model
        open_ones = [0.0] * (model.questions - len(model.scores))
        expected = {
            "steps": model.steps,
            "final_entries": len(model.entries),
            "peak_entries": model.peak,
            "em": sum(model.scores) / model.questions,
            "operations": {kind: model.totals.get(kind, 0) for kind in self.config.kinds},
        }
        for name, value in expected.items():
            assert metrics[name] == value, f"E11: {name} is {metrics[name]!r}, expected {value!r}"
        scores = [answer["score"] for answer in metrics["answers"]]
        assert scores == model.scores + open_ones, f"E11: the scores are {scores}, expected {model.scores + open_ones}"

    def _question(self) -> str:
        model = self.model
        questions = [question.question for question in self.env.get_wrapper_attr("item").questions]
        if not model.reading:
            return "" if self._over else questions[len(model.scores)]
        if self.config.question_visible == "end":
            return ""
        return questions[0] if len(questions) == 1 else "\n".join(f"{i}. {q}" for i, q in enumerate(questions, 1))

    def _embed(self, texts: Sequence[str], kind: TextKind) -> Vectors:
        return load_embedder(self.config.embedder, self.config.embedder_options).embed(texts, kind)


def _spell(op: Operation | Malformed) -> str:
    """An operation in dialect ``crud``; implemented again, so that ``format_action`` is not trusted."""
    if isinstance(op, Malformed):
        return op.text
    if isinstance(op, Delete):
        return f'<delete id="{op.id}"/>'
    if isinstance(op, Update):
        return f'<update id="{op.id}">{op.text}</update>'
    text = op.query if isinstance(op, Read) else op.text
    return f"<{op.kind}>{text}</{op.kind}>"
