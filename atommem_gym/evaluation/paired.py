"""Compares two evaluations item by item: how much better one is, and how certain that is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from atommem_gym.errors import ConfigError, check_choice, counted
from atommem_gym.evaluation.closed_book import ClosedBook, QuestionKey, gain, unknown_questions
from atommem_gym.evaluation.folder import EvaluationError, Run
from atommem_gym.evaluation.plan import Plan
from atommem_gym.evaluation.results import EpisodeResult
from atommem_gym.evaluation.statistics import Interval, bootstrap, permutation_test, sign_test
from atommem_gym.evaluation.summary import mean_played, size_text

PAIRED_METRICS = ("em", "f1", "reward", "evidence_recall", "evidence_recall_exact", "steps", "tokens", "operations")
"""Metrics that can be compared; each is one number per episode."""
ABSTENTION_METRICS = ("em_answerable", "abstention_recall")
"""Further ones for tasks with questions that have no answer (SPEC R5)."""
GAIN_METRICS = ("gain", "em_unknown")
"""Further ones for runs with a frozen reader (SPEC E13)."""
_ALL = "all"
_EQUAL = 1e-9


@dataclass(frozen=True, slots=True)
class Unit:
    """What is paired: one item in one layout; values are means over the agent's seeds."""

    env: str
    """Label of the environment."""
    docs: int
    """Document count of the plan."""
    index: int
    """Index of the item."""
    shuffle_seed: int
    """Seed of the item's layout."""
    questions: tuple[str, ...]
    """Ids of the questions, because items of equal index from different records are not the same."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A unit that both sides played."""

    unit: Unit
    """The item in its layout."""
    a: float
    """The metric of A, mean over its episodes of the unit."""
    b: float
    """The metric of B, mean over its episodes of the unit."""

    @property
    def difference(self) -> float:
        """B minus A."""
        return self.b - self.a


@dataclass(frozen=True, slots=True)
class PairedRow:
    """B minus A for one environment at one document count, or for all of them together."""

    env: str
    """Label of the environment, or ``all``."""
    docs: str
    """Document count of the plan, or ``all``."""
    size: str
    """Documents per episode, as tables show them; if a task sets its own length, the mean of those played."""
    agents: tuple[str, str]
    """Labels of the agents of A and B."""
    pairs: int
    """Number of pairs."""
    items: int
    """Distinct items; the interval resamples them and the tests count them."""
    a: float
    """Mean of A over the pairs."""
    b: float
    """Mean of B over the pairs."""
    difference: Interval
    """Mean of B minus A over the pairs, with its bootstrap interval."""
    wins: int
    """Items at which B has the greater value."""
    losses: int
    """Items at which A has the greater value."""
    sign_p: float
    """Two-sided p-value of the sign test over items."""
    permutation_p: float
    """Two-sided p-value of the paired permutation test over items."""

    @property
    def ties(self) -> int:
        """Items at which both have the same value."""
        return self.items - self.wins - self.losses


@dataclass(frozen=True, slots=True)
class Comparison:
    """The paired comparison of two evaluations."""

    metric: str
    """The metric that is compared."""
    rows: tuple[PairedRow, ...]
    """A row for each pair of agents, environment and document count; with several of these, one for all of them."""
    unpaired: tuple[int, int]
    """Episodes of A and of B without a partner on the other side."""
    warnings: tuple[str, ...]
    """What differs between the two besides the agents, such as settings, seeds and versions."""

    @property
    def pairs(self) -> int:
        """Number of pairs, over all agents."""
        return sum(row.pairs for row in self.rows if row.env != _ALL)


def compare(a: Run, b: Run, metric: str = "em", agents: tuple[str, str] | None = None) -> Comparison:
    """Compare two evaluations by pairs of equal environment, document count, item, layout and question ids.

    Args:
        a: One evaluation.
        b: Another evaluation, or the same one with ``agents``.
        metric: One of ``PAIRED_METRICS``, ``ABSTENTION_METRICS`` or ``GAIN_METRICS``.
        agents: Labels of the agents of A and of B to compare. By default agents of equal label are compared, or the
            only agents of both.

    Returns:
        Differences, B minus A, with intervals and p-values.

    Raises:
        ConfigError: the metric is unknown, or an agent did not play.
        EvaluationError: there is no pair; the message says why.
    """
    every = (*PAIRED_METRICS, *ABSTENTION_METRICS, *GAIN_METRICS)
    check_choice("metric", metric, every)
    rows: list[PairedRow] = []
    lost_a = lost_b = 0
    matched = _agents(a, b, agents)
    played = {
        (one.env, one.docs, one.index, one.shuffle_seed): one.sessions
        for one in (*a.results, *b.results)
        if one.sessions
    }
    for names in matched:
        sides = _sides(a, b, names, metric)
        lost_a += sum(len(values) for unit, values in sides[0].items() if unit not in sides[1])
        lost_b += sum(len(values) for unit, values in sides[1].items() if unit not in sides[0])
        rows += _rows(_pairs(sides), names, metric, played)
    if not rows:
        raise EvaluationError(f"no pairs: {_why(a, b, metric, matched)}")
    return Comparison(metric, tuple(rows), (lost_a, lost_b), tuple(_warnings(a, b, matched)))


def item_pairs(
    a: Run, b: Run, metric: str = "em", agents: tuple[str, str] | None = None
) -> list[tuple[tuple[str, str], Pair]]:
    """The pairs behind :func:`compare`, each with the labels of the agents of A and B.

    Args:
        a: As for :func:`compare`.
        b: As for :func:`compare`.
        metric: As for :func:`compare`.
        agents: As for :func:`compare`.

    Raises:
        ConfigError: an agent did not play.
        EvaluationError: no agents can be compared; the message says why.
    """
    return [(names, pair) for names in _agents(a, b, agents) for pair in _pairs(_sides(a, b, names, metric))]


def value(
    result: EpisodeResult, metric: str, closed_book: Mapping[QuestionKey, ClosedBook] | None = None
) -> float | None:
    """A metric of an episode; ``None`` if it is unknown.

    Args:
        result: The episode.
        metric: One of the metrics of :func:`compare`.
        closed_book: The reader's closed-book answers, for ``GAIN_METRICS``.
    """
    if metric == "gain":
        return gain(result, closed_book or {})
    if metric == "em_unknown":
        return _mean([question.em for question in unknown_questions(result, closed_book or {})])
    if metric == "tokens":
        if result.prompt_tokens is None or result.completion_tokens is None or not result.calls:
            return None
        return float(result.prompt_tokens + result.completion_tokens)
    if metric == "operations":
        return float(sum(result.operations.values()))
    if metric == "em_answerable":
        return _mean([question.em for question in result.questions if question.answerable])
    if metric == "abstention_recall":
        return _mean([float(question.abstained) for question in result.questions if not question.answerable])
    found = getattr(result, metric)
    return None if found is None else float(found)


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def _agents(a: Run, b: Run, agents: tuple[str, str] | None) -> list[tuple[str, str]]:
    played = [{result.agent for result in run.results} for run in (a, b)]
    there = [
        [one.label for one in run.plan.agents if one.label in names] for run, names in zip((a, b), played, strict=True)
    ]
    for run, names in zip((a, b), there, strict=True):
        if not names:
            raise EvaluationError(f"no pairs: {run.path} has no finished episodes")
    if agents is not None:
        for name, run, names in zip(agents, (a, b), there, strict=True):
            if name not in names:
                raise ConfigError(f"the agent {name!r} did not play in {run.path}; there are {', '.join(names)}")
        return [agents]
    if len(there[0]) == len(there[1]) == 1:
        return [(there[0][0], there[1][0])]
    common = [(name, name) for name in there[0] if name in there[1]]
    if not common:
        raise EvaluationError(
            f"no pairs: {a.path} was played by {', '.join(there[0])} and {b.path} by {', '.join(there[1])}; say with "
            "--agents A B whose episodes are compared"
        )
    if a.path.resolve() == b.path.resolve():
        raise EvaluationError(
            f"no pairs: {a.path} would be compared with itself; say with --agents A B which two of "
            f"{', '.join(there[0])} are compared"
        )
    return common


def _sides(a: Run, b: Run, agents: tuple[str, str], metric: str) -> list[dict[Unit, list[float]]]:
    """For A and for B: the values of the agent's episodes by unit."""
    return [
        _units([result for result in run.results if result.agent == name], metric, run.closed_book)
        for run, name in zip((a, b), agents, strict=True)
    ]


def _pairs(sides: Sequence[Mapping[Unit, Sequence[float]]]) -> list[Pair]:
    return [Pair(unit, fmean(sides[0][unit]), fmean(sides[1][unit])) for unit in sides[0] if unit in sides[1]]


def _units(
    results: Iterable[EpisodeResult], metric: str, closed_book: Mapping[QuestionKey, ClosedBook]
) -> dict[Unit, list[float]]:
    units: dict[Unit, list[float]] = {}
    for result in sorted(results, key=lambda one: one.key):
        number = value(result, metric, closed_book)
        if number is not None:
            # The order of the questions is part of the layout.
            questions = tuple(question.id for question in result.questions)
            unit = Unit(result.env, result.docs, result.index, result.shuffle_seed, questions)
            units.setdefault(unit, []).append(number)
    return units


def _rows(
    pairs: Sequence[Pair], agents: tuple[str, str], metric: str, played: Mapping[tuple[str, int, int, int], int]
) -> list[PairedRow]:
    cells: dict[tuple[str, int], list[Pair]] = {}
    for pair in pairs:
        cells.setdefault((pair.unit.env, pair.unit.docs), []).append(pair)
    rows = []
    for (env, docs), of_cell in cells.items():
        sessions = [played.get((env, docs, pair.unit.index, pair.unit.shuffle_seed), 0) for pair in of_cell]
        rows.append(_row(env, str(docs), size_text(docs, mean_played(docs, sessions)), agents, of_cell, metric))
    if len(cells) > 1:
        rows.append(_row(_ALL, _ALL, _ALL, agents, pairs, metric))
    return rows


def _row(env: str, docs: str, size: str, agents: tuple[str, str], pairs: Sequence[Pair], metric: str) -> PairedRow:
    clusters = [(pair.unit.env, pair.unit.index) for pair in pairs]
    key = ("compare", metric, env, docs)
    by_item: dict[tuple[str, int], list[float]] = {}
    for cluster, pair in zip(clusters, pairs, strict=True):
        by_item.setdefault(cluster, []).append(pair.difference)
    items = [fmean(differences) for differences in by_item.values()]
    return PairedRow(
        env=env,
        docs=docs,
        size=size,
        agents=agents,
        pairs=len(pairs),
        items=len(items),
        a=fmean(pair.a for pair in pairs),
        b=fmean(pair.b for pair in pairs),
        difference=bootstrap([pair.difference for pair in pairs], clusters, key),
        wins=sum(difference > _EQUAL for difference in items),
        losses=sum(difference < -_EQUAL for difference in items),
        sign_p=sign_test(items),
        permutation_p=permutation_test(items, key),
    )


def _why(a: Run, b: Run, metric: str, matched: Sequence[tuple[str, str]]) -> str:
    """Why there is no pair: the first reason found."""
    names = [{one for one, _ in matched}, {other for _, other in matched}]
    sides = [[r for r in run.results if r.agent in name] for run, name in zip((a, b), names, strict=True)]
    books = (a.closed_book, b.closed_book)
    if not all(
        any(value(one, metric, book) is not None for one in side) for side, book in zip(sides, books, strict=True)
    ):
        if metric in GAIN_METRICS:
            return (
                f"{metric} is not known on both sides: it needs a frozen reader (--set reader=…), asked all questions"
            )
        return f"{metric} is not known on both sides (no language model played, or it did not count)"
    for what, key in (
        ("environments", lambda r: r.env),
        ("document counts", lambda r: (r.env, r.docs)),
        ("items", lambda r: (r.env, r.docs, r.index)),
        ("layouts", lambda r: (r.env, r.docs, r.index, r.shuffle_seed)),
    ):
        left, right = ({key(result) for result in side} for side in sides)
        if not left & right:
            return (
                f"no {what} in common ({_few(left)} and {_few(right)}); play both with the same environments, --docs, "
                "--episodes and --items-seed"
            )
    return "items of equal index have other questions: the records (source, split, questions_per_episode) differ"


def _few(keys: Iterable[Any]) -> str:
    texts = sorted(map(str, keys))
    return ", ".join(texts[:3]) + (", …" if len(texts) > 3 else "")


def _warnings(a: Run, b: Run, matched: Sequence[tuple[str, str]]) -> Iterable[str]:
    """What differs between the two evaluations besides the compared agents."""
    for differs in _setting_differences(a.plan, b.plan, matched):
        yield f"settings differ: {differs}"
    seeds = [sorted({result.seed for result in run.results}) for run in (a, b)]
    if seeds[0] != seeds[1]:
        yield f"seeds differ: {seeds[0]} and {seeds[1]}; each side is averaged over its own"
    versions = [{str(session.get("versions", "")) for session in run.sessions} for run in (a, b)]
    if versions[0] != versions[1]:
        yield f"versions differ: {' / '.join(sorted(versions[0]))} and {' / '.join(sorted(versions[1]))}"
    for run, name in ((a, "A"), (b, "B")):
        if run.failures:
            yield f"{counted(len(run.failures), 'episode')} of {name} ({run.path}) failed, outside all pairs"


def _setting_differences(a: Plan, b: Plan, matched: Sequence[tuple[str, str]]) -> Iterable[str]:
    envs = [{env.label: {**plan.settings, **env.settings} for env in plan.envs} for plan in (a, b)]
    for label in envs[0].keys() & envs[1].keys():
        yield from _changed(label, envs[0][label], envs[1][label])
    agents = [{agent.label: agent for agent in plan.agents} for plan in (a, b)]
    for one, other in matched:
        left, right = agents[0][one], agents[1][other]
        if left.name == right.name:
            yield from _changed(f"options of {one}", left.options, right.options)
            models = [agent.model or plan.model for agent, plan in ((left, a), (right, b))]
            names = [model.name if model else None for model in models]
            if names[0] != names[1]:
                yield f"model of {one}: {names[0]} and {names[1]}"


def _changed(what: str, left: Mapping[str, Any], right: Mapping[str, Any]) -> Iterable[str]:
    for name in dict.fromkeys([*left, *right]):
        if left.get(name) != right.get(name):
            yield f"{name} of {what}: {left.get(name, 'default')!r} and {right.get(name, 'default')!r}"
