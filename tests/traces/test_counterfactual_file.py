"""The file of `atommem counterfactual --json`: what it says of an episode, and what of others' files is refused."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from atommem_gym.traces import EpisodeTrace, TraceError
from atommem_gym.traces.counterfactual import counterfactuals
from atommem_gym.traces.counterfactual_file import (
    CounterfactualFile,
    check_episode,
    counterfactual_json,
    fingerprint,
    read_counterfactuals,
)
from atommem_gym.traces.examples import example_trace
from atommem_gym.traces.record import Rescore

Value = dict[str, Any]
_DEEP = "[" * 100_000


@lru_cache
def told() -> Value:
    """Of the example, with a branch whose reward is unknown."""
    trace = example_trace()
    value = counterfactual_json(trace, 3, "recorded", counterfactuals(trace))
    first = value["operations"][0]
    first["other"] = {"reward": None, "steps": 4, "answers": [], "unknown": "the reader is not asked again"}
    first["difference"] = None
    return json.loads(json.dumps(value))  # type: ignore[no-any-return]


def read(path: Path, value: object) -> CounterfactualFile:
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8", errors="surrogatepass")
    return read_counterfactuals(path)


def changed(change: Callable[[Value], object]) -> Value:
    value = copy.deepcopy(told())
    change(value)
    return value


def test_what_is_written_is_read_and_fits_its_episode(tmp_path: Path) -> None:
    trace = example_trace()
    found = read(tmp_path / "worth.json", told())
    check_episode(found, trace, tmp_path / "worth.json")
    assert (found.version, found.trace, found.episode, found.agent) == (1, fingerprint(trace), 3, trace.agent.name)
    assert found.operations[0].difference is None
    assert {(one.step, one.operation) for one in found.operations} == {
        (number, one.position) for number, step in enumerate(trace.steps, 1) for one in step.operations
    }


def test_a_shell_that_redirects_in_utf_16_is_understood(tmp_path: Path) -> None:
    (tmp_path / "worth.json").write_text(json.dumps(told(), indent=1), encoding="utf-16")
    assert read_counterfactuals(tmp_path / "worth.json").episode == 3


def test_a_fingerprint_is_of_what_was_played_and_not_of_its_record() -> None:
    trace = example_trace()
    rescored = replace(trace, rescores=(Rescore("f1", 1.0, (1.0,), (None,)),), seconds=9.0, started="now")
    assert fingerprint(rescored) == fingerprint(trace)
    last = trace.steps[-1]
    others = [
        replace(trace, item="another"),
        replace(trace, seed=trace.seed + 1),
        replace(trace, agent=replace(trace.agent, name="another")),
        replace(trace, env=replace(trace.env, keywords={**trace.env.keywords, "top_k": 99})),
        replace(trace, steps=(*trace.steps[:-1], replace(last, action=f"{last.action} "))),
        replace(trace, steps=(*trace.steps[:-1], replace(last, reward=last.reward + 0.5))),
        replace(trace, steps=trace.steps[:-1]),
    ]
    assert len({fingerprint(trace), *map(fingerprint, others)}) == 1 + len(others)
    # Half a surrogate pair is a text that a model may have written.
    odd = replace(trace, steps=(*trace.steps[:-1], replace(last, action="\ud800")))
    assert fingerprint(odd) != fingerprint(trace)


def first(**fields: object) -> Callable[[Value], object]:
    return lambda value: value["operations"][1].update(fields)


def kept(**fields: object) -> Callable[[Value], object]:
    return lambda value: value["operations"][1]["kept"].update(fields)


def infinite(name: str) -> str:
    """The file, with a number in it that is larger than a float can be."""
    text, found = re.subn(rf'("{name}": )[-0-9.]+', r"\g<1>1e999", json.dumps(told()), count=1)
    assert found == 1
    return text


def far_apart(value: Value) -> None:
    one = value["operations"][1]
    one["kept"]["reward"], one["other"]["reward"], one["difference"] = 1e308, -1e308, 1e308


UGLY: Sequence[tuple[object, str]] = (
    ("", "is not JSON"),
    ("\ud800", "is not JSON"),
    (_DEEP, "is not JSON"),
    ('{"version": 1, "version": 1, "operations": []}', "the key 'version' twice"),
    ('{"version": 1, "operations": [NaN]}', "NaN is not a JSON number"),
    (f'{{"version": {"9" * 5000}, "operations": []}}', "is not JSON"),
    ([], "no version and operations"),
    ("null", "no version and operations"),
    # What was written before files had a version.
    ({"episode": 0, "operations": []}, "no version and operations"),
    (changed(lambda value: value.update(version=2)), "has version 2, this package reads 1"),
    (changed(lambda value: value.update(version=True)), "has version True"),
    (changed(lambda value: value.update(version="1")), "has version '1'"),
    (changed(lambda value: value.update(more=1)), "unknown field `more`"),
    (changed(lambda value: value.pop("trace")), "missing required field `trace`"),
    (changed(lambda value: value.update(episode=-1)), "episode -1 is not the number"),
    (changed(lambda value: value.update(episode=10**30)), "is not the number of an episode"),
    (changed(lambda value: value.update(episode=True)), "Expected `int`, got `bool`"),
    (changed(lambda value: value.update(reward="1")), "Expected `float`, got `str`"),
    (changed(lambda value: value.update(reward=10**400)), "does not hold counterfactual values"),
    *((infinite(name), "1e999 is too large for a number") for name in ("reward", "score", "difference")),
    (infinite("version"), "1e999 is too large for a number"),
    (changed(far_apart), "kept minus other is not finite"),
    (changed(lambda value: value.update(operations={})), "Expected `array`"),
    (changed(lambda value: value["operations"].append(value["operations"][0])), "occurs twice"),
    (changed(first(step=99)), "before the operation"),
    (changed(first(step=1.5)), "Expected `int`, got `float`"),
    (changed(first(change={"text": {"deep": 1}})), "Expected `int | str`, got `object`"),
    (changed(first(change=[])), "operations[1].change"),
    (changed(first(difference=0.25)), "difference 0.25 is not kept minus other"),
    (changed(first(difference=None)), "difference None is not kept minus other"),
    (changed(first(kept=None)), "operations[1].kept"),
    (changed(kept(reward=None)), "either a reward or a reason"),
    (changed(kept(unknown="why not")), "either a reward or a reason"),
    (changed(kept(steps=0)), "ends after 0 steps, before the operation"),
    (changed(kept(answers=[{"id": "a", "answer": "b", "score": 1, "html": "<b>"}])), "unknown field `html`"),
    (changed(kept(answers=[["a", "b", 1.0]])), "operations[1].kept.answers[0]"),
)


@pytest.mark.parametrize(("value", "words"), UGLY, ids=range(len(UGLY)))
def test_what_is_no_such_file_is_refused_with_a_remedy(value: object, words: str, tmp_path: Path) -> None:
    with pytest.raises(TraceError) as caught:
        read(tmp_path / "worth.json", value)
    message = str(caught.value)
    assert words in message
    assert "worth.json" in message
    assert "atommem counterfactual" in message
    assert len(message) < 900


def test_a_file_that_is_not_there_is_a_folder_or_too_large_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path, words in ((tmp_path / "none.json", "cannot be read"), (tmp_path, "cannot be read")):
        with pytest.raises(TraceError, match=words):
            read_counterfactuals(path)
    monkeypatch.setattr("atommem_gym.traces.counterfactual_file.MOST_BYTES", 100)
    with pytest.raises(TraceError, match="has more than 0 MiB"):
        read(tmp_path / "large.json", told())


def later(value: Value) -> None:
    one = value["operations"][1]
    one["step"] = one["kept"]["steps"] = one["other"]["steps"] = 99


OTHERS: Sequence[tuple[Callable[[Value], object], str]] = (
    (lambda value: value.update(trace="sha256:0"), "is about another episode"),
    (lambda value: value.update(item="another"), "item is 'another'"),
    (lambda value: value.update(env="another"), "env is 'another'"),
    (lambda value: value.update(agent="another"), "agent is 'another'"),
    (lambda value: value.update(reward=9.0), "reward is 9.0"),
    (later, "has no step 99, operation 1"),
    (first(operation=99), "has no step 2, operation 99"),
    (first(operation=0), "has no step 2, operation 0"),
    (first(kind="answer"), "is another operation in the record"),
    (first(text="another"), "is another operation in the record"),
    (first(id=7), "is another operation in the record"),
    (first(outcome="rejected"), "is another operation in the record"),
    (kept(answers=[{"id": "another", "answer": "", "score": 0.0}]), "answers other questions"),
)


@pytest.mark.parametrize(("change", "words"), OTHERS, ids=range(len(OTHERS)))
def test_a_file_that_does_not_fit_its_episode_is_refused(
    change: Callable[[Value], object], words: str, tmp_path: Path
) -> None:
    path = tmp_path / "worth.json"
    with pytest.raises(TraceError) as caught:
        check_episode(read(path, changed(change)), example_trace(), path)
    assert words in str(caught.value)


def test_what_was_kept_has_the_reward_of_the_record(tmp_path: Path) -> None:
    trace: EpisodeTrace = example_trace()
    path = tmp_path / "worth.json"

    def raised(value: Value) -> None:
        one = value["operations"][1]
        one["kept"]["reward"] += 1
        one["difference"] += 1

    with pytest.raises(TraceError, match="kept has reward"):
        check_episode(read(path, changed(raised)), trace, path)
    # Where an agent goes on, it does so with the operation, too.
    played = changed(lambda value: (raised(value), value.update(continuation="tidy")))
    check_episode(read(path, played), trace, path)
