"""Memory gain: the same reader with nothing shown, once, on the same items, in tables and comparisons (E13, R5)."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from support.evaluations import play, small_plan, timeless
from support.openai_server import OpenAIServer, Reply, Request, server  # noqa: F401

from atommem_gym.cli import main
from atommem_gym.errors import ReaderError
from atommem_gym.evaluation.closed_book import ClosedBook, gain
from atommem_gym.evaluation.folder import CLOSED_BOOK, EvaluationError, Run, read_run
from atommem_gym.evaluation.paired import compare
from atommem_gym.evaluation.report import make_report
from atommem_gym.evaluation.tables import markdown, to_csv

SETTINGS = {"store": "numpy", "questions_per_episode": 2}


def reading(question: str, memories: list[dict[str, Any]], scratchpad: str) -> str:
    """Knows by itself the questions of an even length, with yes; of the others what its scratchpad begins with."""
    return "yes" if len(question) % 2 == 0 else scratchpad[:10]


def plan(reader: Any = "oracle", **changes: Any) -> Any:
    return small_plan(
        **{"docs": [10], "seeds": [0], "episodes": 4, "settings": {**SETTINGS, "reader": reader}, **changes}
    )


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return play(tmp_path_factory.mktemp("oracle") / "run", plan())[0]


def test_E13_with_the_oracle_scripted_agents_score_what_they_score_without_to_the_digit(
    oracle: Run, tmp_path: Path
) -> None:
    bare, _ = play(tmp_path / "bare", plan("policy"))
    own, others = ([replace(one, reader_ms=0.0) for one in timeless(run)] for run in (bare, oracle))
    assert own == others
    assert not (bare.path / CLOSED_BOOK).exists()
    assert bare.closed_book == {}


def test_E13_the_oracle_knows_nothing_without_memory_so_gain_is_em(oracle: Run) -> None:
    assert len(oracle.closed_book) == 8
    assert {row.em for row in oracle.closed_book.values()} == {0.0}
    for cell in make_report(oracle).cells:
        assert cell.gain["gain"].mean == cell.metrics["em"].mean
        assert cell.gain["closed_book"].mean == 0.0


def test_E13_gain_is_em_minus_that_of_the_same_reader_with_nothing_shown(tmp_path: Path) -> None:
    run, _ = play(tmp_path / "run", plan(f"{__name__}:reading", agents=["keep_all"]))
    book = {row.id: row for row in run.closed_book.values()}
    assert {row.answer for row in book.values()} <= {"yes", ""}
    gains = []
    for result in run.results:
        assert result.em is not None
        before = fmean(book[question.id].em for question in result.questions)
        gains.append(result.em - before)
        assert gain(result, run.closed_book) == gains[-1]
        assert result.reader_calls == 2
        assert result.reader_prompt_tokens is None
    [cell] = make_report(run).cells
    assert cell.gain["gain"].mean == pytest.approx(fmean(gains))


def test_E13_the_closed_book_filter_leaves_what_the_reader_does_not_know(oracle: Run) -> None:
    key = next(iter(oracle.closed_book))
    known = {**oracle.closed_book, key: replace(oracle.closed_book[key], em=1.0)}
    rows = [json.loads(line) for line in (oracle.path / CLOSED_BOOK).read_text("utf-8").splitlines()]
    assert [row["known"] for row in rows] == [False] * 8
    assert known[key].to_values()["known"] is True
    before, after = (make_report(replace(oracle, closed_book=book)).cells[0] for book in (oracle.closed_book, known))
    results = [one for one in oracle.results if one.agent == before.cell.agent]
    left = [question.em for one in results for question in one.questions if question.id != key[2]]
    assert after.gain["em_unknown"].mean == pytest.approx(fmean(left))
    assert before.gain["em_unknown"].mean == before.metrics["em"].mean


def test_E13_the_reader_is_asked_once_and_only_for_what_is_missing(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    play(folder, plan())
    file = folder / CLOSED_BOOK
    lines = file.read_text("utf-8").splitlines(keepends=True)
    marked = [line.replace('"answer": "unknown"', '"answer": "kept"') for line in lines]
    assert marked != lines
    file.write_text("".join(marked[:-2]), "utf-8")
    (folder / "results.jsonl").write_text("", "utf-8")
    (folder / "traces.jsonl").unlink()
    again, _ = play(folder, plan(), resume=True)
    assert sorted(row.answer for row in again.closed_book.values()) == ["kept"] * 6 + ["unknown"] * 2


def test_E13_a_run_that_is_stopped_and_resumed_gains_the_same(oracle: Run, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    play(folder, plan())
    rows = (folder / "results.jsonl").read_text("utf-8").splitlines(keepends=True)
    (folder / "results.jsonl").write_text("".join(rows[:3]), "utf-8")
    again, _ = play(folder, plan(), resume=True)
    assert to_gains(again) == to_gains(oracle)


def to_gains(run: Run) -> list[Any]:
    return [cell.gain for cell in make_report(run).cells]


def test_E13_an_episode_whose_questions_were_not_all_asked_has_no_gain(oracle: Run) -> None:
    result = oracle.results[0]
    fewer = {key: row for key, row in oracle.closed_book.items() if key[2] != result.questions[0].id}
    assert gain(result, fewer) is None
    assert gain(result, {}) is None


def test_R5_with_the_oracle_what_has_no_answer_is_in_no_gain(oracle: Run) -> None:
    result = oracle.results[0]
    one, two = ((result.env, result.docs, question.id) for question in result.questions)
    unanswerable = replace(oracle.closed_book[one], em=1.0, answerable=False, counted=False)
    assert gain(result, {one: unanswerable, two: oracle.closed_book[two]}) == result.em
    both = {one: unanswerable, two: replace(unanswerable, id=two[2])}
    assert gain(replace(result, em=None), both) is None


def test_E13_tables_and_numbers_show_gain_where_there_is_a_reader(oracle: Run, tmp_path: Path) -> None:
    page = markdown(make_report(oracle))
    for header in ("memory gain", "closed-book EM", "EM if unknown"):
        assert f" {header} |" in page
    assert "gain,gain_low,gain_high,closed_book," in to_csv(make_report(oracle))
    bare = markdown(make_report(replace(oracle, closed_book={})))
    assert "gain" not in bare


def test_E13_gain_can_be_compared_item_by_item(oracle: Run) -> None:
    found = compare(oracle, oracle, "gain", agents=("silent", "keep_all"))
    em = compare(oracle, oracle, "em", agents=("silent", "keep_all"))
    assert [row.difference.mean for row in found.rows] == [row.difference.mean for row in em.rows]
    with pytest.raises(EvaluationError, match="needs a frozen reader"):
        compare(replace(oracle, closed_book={}), oracle, "gain", agents=("silent", "keep_all"))


def test_E13_a_reader_that_is_down_is_an_error_before_the_first_episode(tmp_path: Path) -> None:
    down = plan("http://127.0.0.1:9/v1")
    settings = {**down.settings, "reader_options": {"model": "m", "tries": 1}}
    with pytest.raises(ReaderError):
        play(tmp_path / "run", replace(down, settings=settings))
    assert not (tmp_path / "run").exists()


def test_E13_a_damaged_row_of_what_was_asked_names_its_line(oracle: Run, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    play(folder, plan(episodes=1))
    with (folder / CLOSED_BOOK).open("a", encoding="utf-8") as file:
        file.write('{"version": 1, "env": "Synthetic"}\n')
    with pytest.raises(Exception, match=r"closed_book.jsonl, line 3 is damaged"):
        read_run(folder)
    row = next(iter(oracle.closed_book.values()))
    assert ClosedBook.from_values(row.to_values()) == row


def test_E13_the_command_shows_gain_and_draws_it(
    server: OpenAIServer,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def answer(request: Request, number: int) -> Reply:
        usage = {"prompt_tokens": 30, "completion_tokens": 2}
        message = {"content": "<think>hm</think>yes"}
        return Reply({"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage})

    server.answer = answer
    monkeypatch.setenv("COLUMNS", "200")
    folder = tmp_path / "run"
    arguments = ["eval", "Synthetic", "--agent", "keep_all", "silent", "--docs", "10", "--episodes", "3"]
    arguments += ["--set", "store=numpy", f"reader={server.url}", 'reader_options={"model":"tiny"}', "-o", str(folder)]
    assert main(arguments) == 0, capsys.readouterr()
    printed = capsys.readouterr().out
    assert "gain" in printed
    run = read_run(folder)
    asked = len(server.asked("/v1/chat/completions"))
    assert asked == 3 + 3, "each question with nothing shown, and once for keep_all; silent answers by itself"
    [keep_all] = [cell for cell in make_report(run).cells if cell.cell.agent == "keep_all"]
    assert keep_all.reader_tokens == 32
    assert keep_all.gain["gain"].mean == 0.0, "this reader says the same whatever it sees"
    assert not math.isnan(keep_all.gain["em_unknown"].mean) or all(row.known for row in run.closed_book.values())
    assert main(["eval", "--report-only", "-o", str(folder)]) == 0
    assert len(server.asked("/v1/chat/completions")) == asked


@pytest.mark.parametrize(
    ("reader", "said"), [("oracle", "an oracle reader's"), (f"{__name__}:reading", "frozen reader")]
)
def test_E13_a_run_says_who_answers(reader: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["run", "Synthetic", "--agent", "keep_all", "--episodes", "1"]
    assert main([*arguments, "--set", "num_docs=10", "store=numpy", f"reader={reader}"]) == 0, capsys.readouterr().err
    assert said in " ".join(capsys.readouterr().out.split())
