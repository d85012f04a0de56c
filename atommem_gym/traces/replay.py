"""Plays a record again, action by action, in a fresh environment, and finds the first thing that is not as it was."""

from __future__ import annotations

import contextlib
import copy
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import WrapperSpec
from msgspec.structs import replace

from atommem_gym.config import EnvConfig
from atommem_gym.embedders.loading import load_embedder
from atommem_gym.memory.memory import Memory
from atommem_gym.memory.protocols import Write
from atommem_gym.plugins.loading import is_plugin, module_of
from atommem_gym.readers.protocol import POLICY
from atommem_gym.records.reading import SUFFIXES
from atommem_gym.registration import task_of
from atommem_gym.stores.loading import open_store
from atommem_gym.traces.codec import to_json
from atommem_gym.traces.difference import Difference, first_difference
from atommem_gym.traces.env_keywords import CUSTOM_ID
from atommem_gym.traces.record import EpisodeTrace, Json, MemoryTrace, StepTrace, TraceError
from atommem_gym.traces.recorded_answers import RecordedReadings, RecordedScores
from atommem_gym.traces.recorder import TraceRecorder, questions
from atommem_gym.trust import is_module_said, is_said, reaches_out

PURE_REWARDS = ("em", "f1", "subem", "released")
"""Computed again. Others would call a server or function that the file names, so their recorded scores are used."""
_STORES_ONLY = ("store", "store_reads", "keep_memory")
PURE_READERS = ("policy", "oracle")
"""Asked again. Others would call a server or function that the file names, so what they said is replayed."""
_GIVEN = ("messages", "response", "completions", "dropped", "seconds")
"""Of a step, what agents and clocks gave; everything else is an effect of the action."""
_KEY = "replayed"


class Replayer:
    """Checks records against fresh environments; records of the same environment share one.

    The environment is made from the record's id and keyword arguments. Where entries are stored changes nothing
    (SPEC M15), so they are kept in memory (``store="numpy"``) unless another store is asked for.

    Args:
        overrides: Keyword arguments that win over the records', such as ``source`` where the data lies elsewhere. A
            recorded URL, a recorded name on a hub, a recorded folder or file that holds no records, and recorded code
            (``"module:name"``) are used only if they are given here too, or the command line names them: a record may
            come from a stranger.
        tolerance: How far recorded and replayed scores and rewards may be apart. 0, the default, is what the built-in
            embedder promises; the arithmetic of neural ones depends on the machine.
        env: Play in this environment, as it is, and do not close it: for records of environments over custom
            items, which no id makes again.

    Raises:
        TraceError: ``overrides`` are given beside ``env``.

    Example:
        >>> import atommem_gym
        >>> from msgspec.structs import replace
        >>> from atommem_gym.traces.examples import example_trace
        >>> trace = example_trace()
        >>> with Replayer() as replayer:
        ...     print(replayer.check(trace))
        ...     edited = replace(trace.steps[0], action="<create>something else</create>")
        ...     print(replayer.check(replace(trace, steps=(edited, *trace.steps[1:]))).path)
        None
        operations[0].text
    """

    def __init__(
        self,
        overrides: Mapping[str, Any] | None = None,
        tolerance: float = 0.0,
        env: gym.Env[Any, Any] | None = None,
    ) -> None:
        if env is not None and overrides:
            raise TraceError("overrides contradict env=…, which is played in as it is; make it with those keywords")
        self._given = env
        self._overrides = dict(overrides or {})
        self._tolerance = tolerance
        self._made_for: object = None
        self._env: gym.Env[Any, Any] | None = None
        self._scorer = RecordedScores()
        self._reader = RecordedReadings()
        self.wrong_ids: list[Difference] = []
        """Of the record checked last, the entry ids that version 1 worked out wrong, which is no difference."""

    def check(
        self, trace: EpisodeTrace, on_step: Callable[[int, Difference | None], None] | None = None
    ) -> Difference | None:
        """Play a record again up to the first difference.

        Version 1 worked out the ``entry_id`` of an operation from the action, under ``preset="released"`` at times
        wrong. One that differs in such a record is noted in :attr:`wrong_ids`, and is no difference.

        Args:
            trace: The record.
            on_step: Called after the reset (with 0) and after each step with its number and what differs.

        Raises:
            TraceError: its environment cannot be made again, or names a server or folder that ``overrides`` does not.
            DatasetUnavailableError, ConfigError, StoreError, EmbedderError: the same, from the environment itself.
        """
        with self.opened(trace) as (env, options):
            for number, difference in enumerate(self.played(trace, env, options)):
                if on_step is not None:
                    on_step(number, difference)
                if difference is not None:
                    return difference
        return None

    @contextlib.contextmanager
    def opened(self, trace: EpisodeTrace) -> Iterator[tuple[gym.Env[Any, Any], dict[str, Any]]]:
        """The environment for a record, and the options of its reset besides the item; it begins as the record did.

        Raises:
            TraceError, DatasetUnavailableError, ConfigError, StoreError, EmbedderError: see :meth:`check`.
        """
        self._scorer.begin(trace)
        self._reader.begin(trace)
        if trace.initial_memory == MemoryTrace() or self._given is not None:
            yield self._env_for(trace), {}
            return
        with tempfile.TemporaryDirectory() as folder:
            # Only a database can hand over a memory that is not empty.
            store = f"milvus://{Path(folder) / 'memory.db'}"
            _write_memory(trace, store, self._overrides)
            env = make_env(trace, {**self._overrides, "store": store}, self._scorer, self._reader)
            try:
                yield env, {"memory": _KEY}
            finally:
                env.close()

    def played(
        self, trace: EpisodeTrace, env: gym.Env[Any, Any], options: Mapping[str, Any]
    ) -> Iterator[Difference | None]:
        """What differs at the reset, at each step, and at the end (together with the last step), as it is played.

        Args:
            trace: The record.
            env: What :meth:`opened` gave for it.
            options: The same.
        """
        self.wrong_ids = []
        try:
            observation, info = env.reset(options={"index": trace.index, "shuffle_seed": trace.shuffle_seed, **options})
        except IndexError as error:
            raise TraceError(
                f"the record's item {trace.index} is not there: {error}; is it the same source?"
            ) from error
        base: Any = env.unwrapped
        recorder = TraceRecorder(trace.env.id, trace.env.keywords, trace.agent, trace.seed, trace.env.shaping)
        recorder.reset(base.episode, observation, info)
        yield self._compare_beginning(trace, recorder, base.episode.item)
        for number, step in enumerate(trace.steps, 1):
            # With what the agent saw, which causes may depend on.
            recorder.step(step, *env.step(step.action))
            difference = self._compare_step(trace, number, recorder)
            if difference is None and number == len(trace.steps):
                difference = self._compare_end(trace, recorder)
            yield difference

    def look_up(self, trace: EpisodeTrace) -> None:
        """From now on scores and answers that come from a record are looked up by what is asked, in any order.

        What the record does not say then raises ``NotRecordedError``.
        """
        self._scorer.look_up(trace)
        self._reader.look_up(trace)

    def close(self) -> None:
        """Close the environment; closing twice is not an error."""
        env, self._env, self._made_for = self._env, None, None
        if env is not None:
            env.close()

    def __enter__(self) -> Replayer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _compare_beginning(self, trace: EpisodeTrace, recorder: TraceRecorder, item: Any) -> Difference | None:
        recorded = {
            "item": trace.item,
            "questions": to_json(trace.questions),
            "documents": list(trace.documents),
            "reset_info": trace.reset_info,
            "observation": trace.steps[0].observation if trace.steps else trace.final_observation,
        }
        replayed = {
            "item": item.id,
            "questions": to_json(questions(item)),
            "documents": [document.title for document in item.documents],
            "reset_info": recorder.reset_info,
            "observation": recorder.observation,
        }
        return first_difference(recorded, to_json(replayed), tolerance=self._tolerance)

    def _compare_step(self, trace: EpisodeTrace, number: int, recorder: TraceRecorder) -> Difference | None:
        """The effects in the order in which they come about: operations, memory, then what the agent gets to see."""
        following = trace.steps[number].observation if number < len(trace.steps) else trace.final_observation
        recorded = {**_effects(trace.steps[number - 1]), "next_observation": following}
        replayed = {**_effects(recorder.last), "next_observation": recorder.observation}
        if trace.env.keywords.get("reader", POLICY) == POLICY:
            # Version 2 had the field before environments had readers; what others wrote there is no effect.
            del recorded["reader"], replayed["reader"]
        credit = trace.steps[number - 1].info.get("credit")
        if isinstance(credit, Mapping) and credit.get("begun"):
            # It is of an episode that was followed from a later step on (SPEC R7); played again, it is from the first.
            for effects in (recorded, replayed):
                effects["info"] = {name: value for name, value in effects["info"].items() if name != "credit"}
        if trace.version == 1 and trace.env.keywords.get("preset") == "released":
            self._take_ids(number, recorded["operations"], replayed["operations"])
        return first_difference(recorded, replayed, step=number, tolerance=self._tolerance)

    def _take_ids(self, number: int, recorded: Sequence[dict[str, Json]], replayed: Sequence[dict[str, Json]]) -> None:
        """Put the replayed entry ids into recorded operations that are the same otherwise."""
        for place, (one, other) in enumerate(zip(recorded, replayed, strict=False)):
            if one | {"entry_id": other["entry_id"]} == other and one != other:
                path = f"operations[{place}].entry_id"
                self.wrong_ids.append(Difference(number, path, repr(one["entry_id"]), repr(other["entry_id"])))
                one["entry_id"] = other["entry_id"]

    def _compare_end(self, trace: EpisodeTrace, recorder: TraceRecorder) -> Difference | None:
        if not recorder.over:
            return Difference(len(trace.steps), "steps", "the end of the episode", "no end: steps are missing")
        replayed = recorder.finish()
        return first_difference(
            {"metrics": trace.metrics, "causes": list(trace.causes), "reward": trace.reward},
            {"metrics": replayed.metrics, "causes": list(replayed.causes), "reward": replayed.reward},
            step=len(trace.steps),
            tolerance=self._tolerance,
        )

    def _env_for(self, trace: EpisodeTrace) -> gym.Env[Any, Any]:
        if self._given is not None:
            return self._given
        if self._env is None or self._made_for != (trace.env, _credited(trace)):
            self.close()
            self._env = make_env(trace, self._overrides, self._scorer, self._reader)
            self._made_for = trace.env, _credited(trace)
        return self._env


def make_env(
    trace: EpisodeTrace,
    overrides: Mapping[str, Any] | None = None,
    scorer: RecordedScores | None = None,
    reader: RecordedReadings | None = None,
) -> gym.Env[Any, Any]:
    """A fresh environment like the one that a record was made in.

    Args:
        trace: The record.
        overrides: Keyword arguments that win over the record's.
        scorer: Takes the place of a reward that is not in ``PURE_REWARDS`` and not in ``overrides``.
        reader: Takes the place of a frozen reader that is not in ``PURE_READERS`` and not in ``overrides``.

    Raises:
        TraceError: the record does not say how to make it, or names a server or folder that ``overrides`` do not.
        ConfigError, DatasetUnavailableError: see ``gymnasium.make`` of the id.
    """
    keywords = _keywords(trace, overrides or {})
    if keywords.get("reward", "em") not in PURE_REWARDS and "reward" not in (overrides or {}):
        keywords["reward"] = scorer or RecordedScores()
        if scorer is None:
            keywords["reward"].begin(trace)
    if keywords.get("reader", "policy") not in PURE_READERS and "reader" not in (overrides or {}):
        keywords["reader"] = reader or RecordedReadings()
        keywords.pop("reader_options", None)
        if reader is None:
            keywords["reader"].begin(trace)
    # Gymnasium knows other environments, of which some import what their keyword arguments name.
    if trace.env.id == CUSTOM_ID:
        raise TraceError(
            f"the record of item {trace.item!r} cannot be played again: its items are those of the program that made "
            "it, such as the files of `atommem ask`, and no record holds them; look at it with atommem view or atommem "
            "replay --no-check. In Python, Replayer(env=…) plays it in an environment of the same items, see "
            "docs/traces.md"
        )
    if task_of(trace.env.id) is None:
        raise TraceError(
            f"the environment {trace.env.id!r} is not registered, so it cannot be made again; if it is a task of one's "
            "own, import the module that registers it (`atommem --import MODULE …`); records of environments over "
            "items of one's own are checked in Python by Replayer(env=…), see docs/traces.md"
        )
    spec = copy.deepcopy(gym.spec(trace.env.id))
    # By name, as Gymnasium has it for environments too: what is below envs cannot import them.
    if trace.env.shaping:
        arguments = {"shaping": trace.env.shaping}
        spec.additional_wrappers += (WrapperSpec("ShapedReward", "atommem_gym.envs.wrappers:ShapedReward", arguments),)
    if _credited(trace):
        credit = "atommem_gym.envs.wrappers:HindsightCredit"
        spec.additional_wrappers += (WrapperSpec("HindsightCredit", credit, {}),)
    return gym.make(spec, disable_env_checker=True, **keywords)


def _credited(trace: EpisodeTrace) -> bool:
    """Whether a wrapper said at the end what each operation earned (SPEC R7)."""
    return any("credit" in step.info for step in trace.steps[-1:])


def _keywords(trace: EpisodeTrace, overrides: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in trace.env.keywords.items() if name not in _STORES_ONLY}
    for name in _PARTS:
        value = kept.get(name, "")
        if is_plugin(name, value) and name not in overrides and not is_module_said(module_of(value)):
            raise TraceError(
                f"the record of item {trace.item!r} names {name}={value!r}, whose module is not imported only because "
                f"a record says so; if you trust its code, add --import {module_of(value)} (in Python: "
                f"overrides={{{name!r}: {value!r}}}), or name another one with --set {name}=…"
            )
    task = task_of(trace.env.id)
    if task is not None and task.dataset is not None and "source" not in kept:
        kept["source"] = EnvConfig().source
    for name, value in kept.items():
        if name in _PARTS and is_plugin(name, value):
            continue
        if name in _PLACES and name not in overrides and _PLACES[name](value) and not is_said(str(value)):
            raise TraceError(
                f"the record of item {trace.item!r} names {name}={value!r}, which is not called or opened only because "
                f"a record says so; if you mean it, say it again with --set {name}={value} (in Python: "
                f"overrides={{{name!r}: …}}), or name another one"
            )
    return {**kept, "store": "numpy", **overrides}


def _no_records(source: object) -> bool:
    """Whether a recorded source is the hub, or a path that is not one of records."""
    if source in _SOURCES or not isinstance(source, str):
        return False
    path = Path(source).expanduser()
    # A path of another machine's share would be asked for over the network.
    return source.startswith(("//", "\\\\")) or not (
        path.is_dir() or (path.is_file() and path.suffix.lower() in SUFFIXES)
    )


_PARTS = ("embedder", "tokenizer", "dialect")
"""Keyword arguments that may name code; what else may is not taken from a record (``store``, ``reward``)."""
_SOURCES = ("synthetic", "registered")
_PLACES: dict[str, Callable[[object], bool]] = {
    "embedder": reaches_out,
    "tokenizer": reaches_out,
    "source": _no_records,
    "text": lambda file: file is not None,
}
"""Keyword arguments that name a server, file or folder, and which of their values a record may not decide."""


def _effects(step: StepTrace) -> dict[str, Json]:
    """What the environment made of an action."""
    effects = to_json(replace(step, observation={}))
    for name in ("observation", *_GIVEN):
        del effects[name]
    # What a reader saw is an effect; what it cost is not.
    effects["reader"] = [{**one, "completions": []} for one in effects.get("reader", [])]
    return {name: effects[name] for name in ("action", "operations", "memory", *effects)}


def _write_memory(trace: EpisodeTrace, store: str, overrides: Mapping[str, Any]) -> None:
    """Put the memory with which an episode began into a kept database."""
    keywords = _keywords(trace, {**overrides, "store": store})
    task = task_of(trace.env.id)
    config = EnvConfig.from_keywords(keywords) if task is None else task.config(keywords)
    embedder = load_embedder(config.embedder, config.embedder_options)
    initial = trace.initial_memory
    texts = [entry.text for entry in initial.entries]
    vectors = embedder.embed(texts, "document") if texts else Write(_KEY).vectors
    state = Memory({}, initial.next_id, initial.scratchpad).kept_state(embedder.name)
    database = open_store(store, embedder.dim, embedder=embedder.name)
    try:
        database.write([Write(_KEY, [entry.id for entry in initial.entries], texts, vectors, state=state)])
    finally:
        database.close()
