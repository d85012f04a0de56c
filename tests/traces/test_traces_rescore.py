"""Another scorer for recorded answers: no episode lost, the old numbers beside the new ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from support.made_traces import OTHER, QUESTION, written

from atommem_gym.scoring import ScoreRequest, load_scorer
from atommem_gym.traces import TraceError
from atommem_gym.traces.rescore import BATCH, recorded_scores, rescore


@dataclass
class Noted:
    """Gives every answer the same score and notes what it was asked."""

    value: float = 0.25
    name: str = "noted"
    calls: int = 0

    def score(self, requests: Sequence[ScoreRequest]) -> list[float]:
        self.calls += 1
        self.asked = list(requests)
        return [self.value] * len(requests)


def test_old_and_new_scores_stand_side_by_side() -> None:
    trace = written(["", "<answer>the river Thames</answer>", "<answer>London, England</answer>"], (QUESTION, OTHER))
    [f1] = rescore([trace], load_scorer("f1"))
    assert recorded_scores(f1) == [0.0, 1.0]
    assert recorded_scores(f1, "f1") == [pytest.approx(2 / 3), 1.0]
    assert (f1.reward, f1.causes, f1.metrics) == (trace.reward, trace.causes, trace.metrics)
    [both] = rescore([f1], load_scorer("released"))
    assert [one.scorer for one in both.rescores] == ["f1", "released"]
    [again] = rescore([both], load_scorer("f1"))
    assert [one.scorer for one in again.rescores] == ["released", "f1"]
    assert again.rescores[1].reward == pytest.approx((2 / 3 + 1) / 2)


def test_the_scorer_sees_aliases_and_only_what_was_answered() -> None:
    trace = written(["", "<answer>Thames</answer>", "<read>x</read>"], (QUESTION, OTHER), max_reads_per_question=1)
    scorer = Noted()
    [scored] = rescore([trace], scorer)
    assert scorer.asked == [ScoreRequest(QUESTION.question, "Thames", QUESTION.answers)]
    assert scored.rescores[0].scores == (0.25, 0.0)
    assert scored.rescores[0].causes[1] == "not answered"
    other = written(["", "<answer>x</answer>"], (OTHER,))
    list(rescore([other], scorer))
    assert scorer.asked[0].answers == ("London", "London, England")


def test_episodes_are_scored_in_batches_and_none_is_lost() -> None:
    trace = written(["<answer>Thames</answer>"])
    scorer = Noted()
    assert len(list(rescore((trace for _ in range(2 * BATCH + 1)), scorer))) == 2 * BATCH + 1
    assert scorer.calls == 3


@pytest.mark.parametrize("value", [1.5, -0.1, float("nan")])
def test_what_is_no_score_raises(value: float) -> None:
    with pytest.raises(TraceError, match=r"one number in \[0, 1\]"):
        list(rescore([written(["<answer>Thames</answer>"])], Noted(value)))


def test_a_rescoring_like_the_recorded_one_changes_nothing() -> None:
    trace = written(["", "<answer>Seine</answer>", "<answer>London</answer>"], (QUESTION, OTHER))
    [again] = rescore([trace], load_scorer("em"))
    assert list(again.rescores[0].scores) == recorded_scores(trace)
    assert again.rescores[0].causes == trace.causes
