"""Scores generated pairs with the official scripts of HotpotQA and MuSiQue, which are not part of this repository.

    git clone https://github.com/hotpotqa/hotpot && git clone https://github.com/StonyBrookNLP/musique
    python tests/scoring/official/make.py hotpot musique        # writes pairs.json.xz beside this file

The file holds predictions, accepted answers, and what ``exact_match_score`` and ``f1_score`` of
``hotpot_evaluate_v1.py`` (against the first answer; it knows no others) and ``AnswerMetric`` of MuSiQue's
``metrics/answer.py`` (against all) say. It was made with commits 3635853 of hotpotqa/hotpot and 922ac98 of
StonyBrookNLP/musique, on Python 3.11.
"""

from __future__ import annotations

import importlib
import json
import lzma
import random
import sys
import unicodedata
from pathlib import Path
from typing import Any

PAIRS = 20_000
SEED = 20_000
FILE = Path(__file__).with_name("pairs.json.xz")
_TEXT = """
the a an The A of and in New York City Beatles Barack Obama Ada Lovelace River Thames 1990 1,000 3.5 $5 50% U.S. U.S.A.
St. rock-and-roll O'Neill Müller São Paulo Łódź İzmir ΟΔΟΣ 東京 naïve café “quoted” (1960) & + - – ... !? C++ theatre
another bath yes no noanswer Yes No. not \ufb01ve ª x_y a.m. Ph.D. 1st
"""
WORDS = tuple(_TEXT.split())
CLOSED = ("yes", "no", "noanswer", "Yes.", "NO", "no answer", "the", "A.", "!?", "", " ", "an a the", "unknown")


def pairs(count: int, seed: int) -> list[tuple[str, list[str]]]:
    """Predictions with one to three accepted answers; every other prediction is made of one of them."""
    rng = random.Random(seed)
    found = []
    for _ in range(count):
        answers = [_answer(rng) for _ in range(rng.choice((1, 1, 1, 2, 3)))]
        found.append((_varied(rng, rng.choice(answers)) if rng.random() < 0.75 else _answer(rng), answers))
    return found


def _answer(rng: random.Random) -> str:
    if rng.random() < 0.2:
        return rng.choice(CLOSED)
    return " ".join(rng.choice(WORDS) for _ in range(rng.choice((1, 1, 2, 2, 3, 4, 6))))


def _varied(rng: random.Random, text: str) -> str:
    """The text in another spelling: case, articles, marks, spaces, order, words more or fewer, another normal form."""
    words = text.split(" ")
    for _ in range(rng.choice((0, 1, 1, 2, 3))):
        place = rng.randrange(len(words) + 1)
        draw = rng.randrange(8)
        if draw == 0:
            words = [rng.choice((word.upper(), word.lower(), word.title())) for word in words]
        elif draw == 1:
            words.insert(place, rng.choice(("the", "a", "An", ",", ".", "\t", "\u00a0", "  ", "\n")))
        elif draw == 2:
            words.insert(place, rng.choice(WORDS))
        elif draw == 3 and len(words) > 1:
            words.pop(rng.randrange(len(words)))
        elif draw == 4:
            rng.shuffle(words)
        elif draw == 5:
            i = rng.randrange(len(words))
            words[i] = rng.choice(("{}.", "({})", '"{}"', "{},", "{}'s", "{}-", "the{}", "{}-a-{}")).format(
                *[words[i]] * 2
            )
        elif draw == 6:
            words = [unicodedata.normalize(rng.choice(("NFD", "NFKC")), word) for word in words]
        else:
            words.insert(place, rng.choice(words))
    return " ".join(words)


def official(hotpot: Path, musique: Path, made: list[tuple[str, list[str]]]) -> list[list[Any]]:
    """Prediction, answers, HotpotQA's EM and F1, MuSiQue's EM and F1."""
    # HotpotQA's script imports it for its command line alone.
    sys.modules.setdefault("ujson", json)
    sys.path[:0] = [str(hotpot), str(musique)]
    one, two = importlib.import_module("hotpot_evaluate_v1"), importlib.import_module("metrics.answer")
    rows = []
    for prediction, answers in made:
        metric = two.AnswerMetric()
        metric(prediction, answers)
        em, f1 = metric.get_metric()
        own = [int(one.exact_match_score(prediction, answers[0])), one.f1_score(prediction, answers[0])[0]]
        rows.append([prediction, answers, *own, int(em), f1])
    return rows


def main() -> None:
    """The command line."""
    rows = official(Path(sys.argv[1]), Path(sys.argv[2]), pairs(PAIRS, SEED))
    columns = list(zip(*rows, strict=True))
    FILE.write_bytes(lzma.compress(json.dumps(columns, ensure_ascii=False, separators=(",", ":")).encode(), preset=9))
    print(f"{FILE.name}: {len(rows):,} pairs, {FILE.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
