"""Raw records of the three data sets become what they say (SPEC D2, E12)."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from atommem_gym.errors import RecordError
from atommem_gym.records.formats import hotpotqa, musique, twowiki
from atommem_gym.records.formats.mentions import YES_NO, find, hop_answer, occurs, options, plain
from atommem_gym.records.reading import read
from atommem_gym.records.record import Evidence
from atommem_gym.records.sources import parse

Make = Callable[..., dict[str, Any]]


def columns(rows: list[list[Any]], *names: str) -> dict[str, list[Any]]:
    return {name: list(values) for name, values in zip(names, zip(*rows, strict=True), strict=True)}


def hub_form(raw: dict[str, Any]) -> dict[str, Any]:
    hub = {key: value for key, value in raw.items() if key != "_id"} | {"id": raw["_id"]}
    hub["context"] = columns(raw["context"], "title", "sentences")
    hub["supporting_facts"] = columns(raw["supporting_facts"], "title", "sent_id")
    if "evidences" in raw:
        hub["evidences"] = columns(raw["evidences"], "fact", "relation", "entity")
    return hub


def test_D2_hotpotqa_official_record(hotpot_raw: Make) -> None:
    record = hotpotqa.parse(hotpot_raw(7))
    assert (record.id, record.question, record.answer) == ("h7", "In which region was Writer 7 born?", "Region 7")
    assert record.type == "bridge"
    assert record.gold == (0, 1)
    assert record.options == ()
    assert len(record.documents) == 10
    assert record.documents[0].text == "Writer 7 was a novelist. Writer 7 was born in Town 7. Little else is known."
    assert record.evidence == (
        Evidence("Writer 7", "Writer 7 was born in Town 7.", "Town 7"),
        Evidence("Town 7", "Town 7 lies in Region 7.", "Region 7"),
    )


def test_D2_2wiki_official_record(twowiki_raw: Make) -> None:
    record = twowiki.parse(twowiki_raw(7))
    assert record.id == "w7"
    assert record.gold == (1, 3)
    assert record.documents[1].text == "Film 7 is a drama. It was directed by Director 7."
    assert record.evidence == (
        Evidence("Film 7 (1950 film)", "It was directed by Director 7.", "Director 7"),
        Evidence("Director 7", "Director 7 was born in City 7.", "City 7"),
    )


def test_D2_musique_record(musique_raw: Make) -> None:
    record = musique.parse(musique_raw(7))
    assert record.type == "2hop"
    assert record.gold == (1, 2)
    assert record.answers == ("1917", "in 1917")
    assert record.evidence == (
        Evidence("Band 7", "Band 7 signed with Label 7.", "Label 7"),
        Evidence("Label 7", "Label 7 was founded in 1917.", "1917"),
    )


def test_D2_musique_hops_name_paragraphs_by_number_not_by_place(musique_raw: Make) -> None:
    raw = musique_raw(7)
    raw["paragraphs"] = list(reversed(raw["paragraphs"]))
    record = musique.parse(raw)
    assert [(piece.title, piece.hop_answer) for piece in record.evidence] == [
        ("Band 7", "Label 7"),
        ("Label 7", "1917"),
    ]


@pytest.mark.parametrize(("parser", "make"), [(hotpotqa.parse, "hotpot_raw"), (twowiki.parse, "twowiki_raw")])
def test_D2_hub_form_gives_the_same_record(parser: Any, make: str, request: pytest.FixtureRequest) -> None:
    raw = request.getfixturevalue(make)(3)
    assert parser(hub_form(raw)) == parser(raw)


def test_D2_musique_columns_give_the_same_record(musique_raw: Make) -> None:
    raw = musique_raw(3)
    table = raw | {
        name: {key: [row[key] for row in raw[name]] for key in raw[name][0]}
        for name in ("paragraphs", "question_decomposition")
    }
    assert musique.parse(table) == musique.parse(raw)


def test_E12_a_sentence_number_out_of_range_is_left_out(hotpot_raw: Make) -> None:
    facts = [["Writer 7", 1], ["Writer 7", 9], ["Writer 7", -1], ["Town 7", 1]]
    record = hotpotqa.parse(hotpot_raw(7, supporting_facts=facts))
    assert [piece.text for piece in record.evidence] == ["Writer 7 was born in Town 7.", "Town 7 lies in Region 7."]


def test_E12_a_title_without_valid_sentence_gives_its_paragraph(hotpot_raw: Make) -> None:
    record = hotpotqa.parse(hotpot_raw(7, supporting_facts=[["Writer 7", 1], ["Town 7", 5]]))
    assert record.evidence[1].text == record.documents[1].text == "Town 7 is a town. Town 7 lies in Region 7."


@pytest.mark.parametrize("evidences", [[], None])
def test_E12_2wiki_without_evidences_has_paragraphs(twowiki_raw: Make, evidences: Any) -> None:
    record = twowiki.parse(twowiki_raw(7, evidences=evidences))
    assert [piece.text for piece in record.evidence] == [document.text for document in record.gold_documents]
    assert [piece.hop_answer for piece in record.evidence] == ["Director 7", "City 7"]


def test_hop_answer_is_whole_words_and_never_yes_or_no() -> None:
    assert hop_answer("There is no other Nova.", "no", []) == ""
    assert hop_answer("Novara is a city.", "Nova", []) == ""
    assert hop_answer("He lives in NOVARA.", "Novara", []) == "Novara"
    assert hop_answer("She met Ada Byron.", "1815", ["Ada Byron (writer)"]) == "Ada Byron"
    assert occurs("C++", "He wrote C++, mostly.")
    assert find("", "anything") == -1


@pytest.mark.parametrize(
    ("question", "answer", "kind", "titles", "expected"),
    [
        ("Are A One and B Two both bands?", "yes", "comparison", ["A One", "B Two"], YES_NO),
        ("Is it?", "No", "inference", [], YES_NO),
        ("Which is older, B Two or A One?", "A One", "comparison", ["A One (band)", "B Two"], ("B Two", "A One")),
        (
            "Which film is older, Red Sun Or Blue, Blue Sky?",
            "Red Sun",
            "bridge_comparison",
            ["Red Sun", "Blue, Blue Sky", "X", "Y"],
            ("Red Sun", "Blue, Blue Sky"),
        ),
        ("Who came first, Al Ek or Bo Ek?", "Bo Ek", "comparison", ["Albert Ek", "Bosse Ek"], ("Al Ek", "Bo Ek")),
        ("What do A One and B Two share?", "a label", "comparison", ["A One", "B Two"], ()),
        ("Which is older, A One or B Two?", "1950", "comparison", ["A One", "B Two"], ()),
        ("Who directed A One or B Two?", "A One", "bridge", ["A One", "B Two"], ()),
    ],
)
def test_options_are_what_the_question_offers(
    question: str, answer: str, kind: str, titles: list[str], expected: tuple[str, ...]
) -> None:
    assert options(question, answer, kind, titles) == expected


_WITH_TYPE = ("hotpot_raw", "twowiki_raw")
MALFORMED = [
    ("hotpot_raw", {"question": None}, "'question' is missing"),
    ("hotpot_raw", {"_id": None}, "'_id' or 'id' is missing"),
    ("hotpot_raw", {"answer": [7]}, "'answer' must be a string"),
    ("hotpot_raw", {"answer": "  "}, "'answer' must not be empty"),
    ("hotpot_raw", {"context": []}, "'context' must hold at least one paragraph"),
    ("hotpot_raw", {"context": "text"}, "'context' must be a list of rows"),
    ("hotpot_raw", {"context": [["A"]]}, r"'context', row 0 must be \[title, sentences\]"),
    ("hotpot_raw", {"context": [["A", "not a list"]]}, "'context', paragraph 0: the sentences must be a list"),
    ("hotpot_raw", {"context": [["", ["A."]]]}, "'context', paragraph 0: the title"),
    ("hotpot_raw", {"context": {"title": ["A"], "sentences": []}}, "columns of different lengths"),
    ("hotpot_raw", {"context": {"title": ["A"]}}, "'context': field 'sentences' or 'content' is missing"),
    ("hotpot_raw", {"supporting_facts": []}, "'supporting_facts' must name at least one"),
    ("hotpot_raw", {"supporting_facts": [["Nobody", 0]]}, "row 0: title 'Nobody' is not in the context"),
    ("hotpot_raw", {"supporting_facts": [["Town 7", "0"]]}, "row 0: the sentence number must be an integer"),
    ("hotpot_raw", {"question": "\ud800?"}, "'question' holds half a character"),
    ("twowiki_raw", {"evidences": [["A", "B"]]}, "'evidences', row 0 must be"),
    ("musique_raw", {"paragraphs": [{"title": "A", "paragraph_text": "B"}]}, "'is_supporting' must be true or false"),
    ("musique_raw", {"paragraphs": [{"title": "A", "paragraph_text": "B", "is_supporting": False}]}, "no gold"),
    ("musique_raw", {"paragraphs": [{"title": "A", "is_supporting": True}]}, "paragraph 0: the text must be a string"),
    ("musique_raw", {"paragraphs": ["A"]}, "'paragraphs', row 0 must be an object"),
    ("musique_raw", {"answer_aliases": "x"}, "'answer_aliases' must be a list of strings"),
    ("musique_raw", {"question_decomposition": [{"paragraph_support_idx": 99}]}, "99 is not the number of a paragraph"),
    ("musique_raw", {"question_decomposition": [{"paragraph_support_idx": []}]}, r"\[\] is not the number of a para"),
    ("musique_raw", {"question_decomposition": [{"paragraph_support_idx": True}]}, "True is not the number of a para"),
    ("musique_raw", {"answerable": False}, "MuSiQue-Full"),
    *((make, {"type": value}, "'type' must be a string") for make in _WITH_TYPE for value in (7, math.nan, [], {})),
    *((make, {"type": "\ud800"}, "'type' holds half a character") for make in _WITH_TYPE),
    *(("musique_raw", {"answer_aliases": value}, "'answer_aliases' must be a list") for value in (7, True, {"a": 1})),
    ("musique_raw", {"answer_aliases": ["\ud800"]}, "'answer_aliases' holds half a character"),
    ("hotpot_raw", {"answer": 10**5000}, "'answer' is no number that can be written"),
    ("hotpot_raw", {"question": 10**5000}, "'question' must be a string, it is a int with too many digits"),
]


@pytest.mark.parametrize(("make", "changes", "message"), MALFORMED)
def test_D2_a_malformed_record_says_which_field_is_wrong(
    make: str, changes: dict[str, Any], message: str, request: pytest.FixtureRequest
) -> None:
    parser = {"hotpot_raw": hotpotqa.parse, "twowiki_raw": twowiki.parse, "musique_raw": musique.parse}[make]
    with pytest.raises(RecordError, match=message):
        parser(request.getfixturevalue(make)(7, **changes))


@pytest.mark.parametrize("field", ["context", "supporting_facts", "paragraphs"])
def test_D2_a_message_on_names_of_any_length_is_short(field: str, request: pytest.FixtureRequest) -> None:
    make, parser = ("musique_raw", musique.parse) if field == "paragraphs" else ("hotpot_raw", hotpotqa.parse)
    for value in ({"x" * 10**6: [1]}, {"x" * 10**6: 1}, [{"x" * 10**6: 1}]):
        with pytest.raises(RecordError, match=field) as caught:
            parser(request.getfixturevalue(make)(7, **{field: value}))
        assert len(str(caught.value)) < 500


@pytest.mark.parametrize(("dataset", "records"), [("hotpotqa", 1100), ("2wikimultihopqa", 1538), ("musique", 1063)])
def test_D2_every_real_record_parses(shared_data: Path, dataset: str, records: int) -> None:
    count = 0
    for entry in read(shared_data / f"{dataset}.jsonl"):
        record = parse(dataset, entry)
        count += 1
        assert record.gold
        assert record.evidence
        texts: dict[str, list[str]] = {document.title: [] for document in record.documents}
        for document in record.gold_documents:
            texts[document.title].append(document.text)
        for piece in record.evidence:
            assert piece.text
            assert any(piece.text in text for text in texts[piece.title]), record.id
        assert {piece.title for piece in record.evidence} == {document.title for document in record.gold_documents}
        assert not record.options or plain(record.answer) in map(plain, record.options)
    assert count == records
