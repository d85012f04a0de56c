"""Replays a trace action by action in a fresh environment, and finds the first difference."""

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
"""Rewards that are computed again. Others would call a server or function that the file names; their recorded
scores are used."""
_STORES_ONLY = ("store", "store_reads", "keep_memory")
PURE_READERS = ("policy", "oracle")
"""Readers that are asked again. Others would call a server or function that the file names; their recorded answers
are used."""
_GIVEN = ("messages", "response", "completions", "dropped", "seconds")
"""Fields of a step that come from the agent or the clock; all others are effects of the action."""
_KEY = "replayed"


class Replayer:
    """Checks traces against fresh environments; traces of the same environment share one.

    The environment is made from the id and keyword arguments in the trace. The store makes no difference
    (SPEC M15), so entries are kept in memory (``store="numpy"``) unless ``overrides`` names another store.

    Args:
        overrides: Keyword arguments that replace recorded ones, for example ``source`` if the data is elsewhere. A
            recorded URL, a recorded name on a hub, a recorded folder or file that holds no records, and recorded code
            (``"module:name"``) are used only if they are given here too, or the command line names them: a trace may
            come from a stranger.
        tolerance: The largest accepted difference of scores and rewards. 0, the default, is what the built-in
            embedder promises; the arithmetic of neural embedders depends on the machine.
        env: Replay in this environment, and do not close it: for traces of environments over custom
            items, which cannot be made from an id.

    Raises:
        TraceError: both ``overrides`` and ``env`` are given.

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
        """Entry ids of the last trace that version 1 derived wrongly; they do not count as differences."""

    def check(
        self, trace: EpisodeTrace, on_step: Callable[[int, Difference | None], None] | None = None
    ) -> Difference | None:
        """Replay a trace up to the first difference.

        Version 1 derived the ``entry_id`` of an operation from the action, which is sometimes wrong under
        ``preset="released"``. Such ids are listed in :attr:`wrong_ids` and do not count as differences.

        Args:
            trace: The record.
            on_step: Called after the reset (with 0) and after each step, with its number and the difference.

        Returns:
            The first difference; ``None`` if there is none.

        Raises:
            TraceError: its environment cannot be made again, or names a server or folder that ``overrides`` does not.
            DatasetUnavailableError, ConfigError, StoreError, EmbedderError: the environment itself fails.
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
        """The environment for a trace, with the initial memory of the trace, and further options for its ``reset``.

        Raises:
            TraceError, DatasetUnavailableError, ConfigError, StoreError, EmbedderError: see :meth:`check`.
        """
        self._scorer.begin(trace)
        self._reader.begin(trace)
        if trace.initial_memory == MemoryTrace() or self._given is not None:
            yield self._env_for(trace), {}
            return
        with tempfile.TemporaryDirectory() as folder:
            # Only a database can provide an initial memory that is not empty.
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
        """Replay a trace and yield the difference at the reset and at each step; the end belongs to the last step.

        Args:
            trace: The trace.
            env: The environment from :meth:`opened`.
            options: The options from :meth:`opened`.

        Raises:
            TraceError: the item does not exist.
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
            # The recorded step holds the agent's prompt, on which causes may depend.
            recorder.step(step, *env.step(step.action))
            difference = self._compare_step(trace, number, recorder)
            if difference is None and number == len(trace.steps):
                difference = self._compare_end(trace, recorder)
            yield difference

    def look_up(self, trace: EpisodeTrace) -> None:
        """Look up recorded scores and answers by their requests from now on, in any order.

        A request that is not in the trace then raises ``NotRecordedError``.
        """
        self._scorer.look_up(trace)
        self._reader.look_up(trace)

    def close(self) -> None:
        """Close the environment. Closing twice does nothing."""
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
        """Compare the effects in their order: operations, memory, then the next observation."""
        following = trace.steps[number].observation if number < len(trace.steps) else trace.final_observation
        recorded = {**_effects(trace.steps[number - 1]), "next_observation": following}
        replayed = {**_effects(recorder.last), "next_observation": recorder.observation}
        if trace.env.keywords.get("reader", POLICY) == POLICY:
            # Version 2 had this field before environments had readers; other contents of it are not effects.
            del recorded["reader"], replayed["reader"]
        credit = trace.steps[number - 1].info.get("credit")
        if isinstance(credit, Mapping) and credit.get("begun"):
            # The wrapper followed the recorded episode from a later step on (SPEC R7), the replayed one from its first.
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
    """Make a fresh environment like the one in which a trace was recorded.

    Args:
        trace: The record.
        overrides: Keyword arguments that replace recorded ones.
        scorer: Replaces a reward that is neither in ``PURE_REWARDS`` nor in ``overrides``.
        reader: Replaces a frozen reader that is neither in ``PURE_READERS`` nor in ``overrides``.

    Raises:
        TraceError: the trace does not say how to make it, or names a server or folder that ``overrides`` do not.
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
    # Only this package's ids: other environments of Gymnasium may import what their keyword arguments name.
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
    # By name, as Gymnasium does for environments too: modules below envs cannot import them.
    if trace.env.shaping:
        arguments = {"shaping": trace.env.shaping}
        spec.additional_wrappers += (WrapperSpec("ShapedReward", "atommem_gym.envs.wrappers:ShapedReward", arguments),)
    if _credited(trace):
        credit = "atommem_gym.envs.wrappers:HindsightCredit"
        spec.additional_wrappers += (WrapperSpec("HindsightCredit", credit, {}),)
    return gym.make(spec, disable_env_checker=True, **keywords)


def _credited(trace: EpisodeTrace) -> bool:
    """Whether the last step has the credit of each operation, which a wrapper adds (SPEC R7)."""
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
    """Whether a recorded source is the hub, or a path without records."""
    if source in _SOURCES or not isinstance(source, str):
        return False
    path = Path(source).expanduser()
    # Looking at a network share would contact another machine.
    return source.startswith(("//", "\\\\")) or not (
        path.is_dir() or (path.is_file() and path.suffix.lower() in SUFFIXES)
    )


_PARTS = ("embedder", "tokenizer", "dialect")
"""Keyword arguments that may name code and are taken from a trace (``store`` and ``reward`` are not)."""
_SOURCES = ("synthetic", "registered")
_PLACES: dict[str, Callable[[object], bool]] = {
    "embedder": reaches_out,
    "tokenizer": reaches_out,
    "source": _no_records,
    "text": lambda file: file is not None,
}
"""Keyword arguments that may name a server, file or folder, and whether a value may not come from a trace alone."""


def _effects(step: StepTrace) -> dict[str, Json]:
    """The effects of an action."""
    effects = to_json(replace(step, observation={}))
    for name in ("observation", *_GIVEN):
        del effects[name]
    # A reader's input is an effect; its cost is not.
    effects["reader"] = [{**one, "completions": []} for one in effects.get("reader", [])]
    return {name: effects[name] for name in ("action", "operations", "memory", *effects)}


def _write_memory(trace: EpisodeTrace, store: str, overrides: Mapping[str, Any]) -> None:
    """Write the initial memory of an episode into a kept database."""
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
