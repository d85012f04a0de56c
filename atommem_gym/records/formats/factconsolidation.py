"""FactConsolidation in MemoryAgentBench's format: numbered facts, of which later ones win, and many questions."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

from atommem_gym.errors import RecordError
from atommem_gym.records.formats.contexts import ParsedContext
from atommem_gym.records.formats.fields import (
    Raw,
    answer_text,
    array,
    document,
    is_list,
    optional_text,
    shown,
    text,
)
from atommem_gym.records.formats.mentions import YES_NO, plain
from atommem_gym.records.record import Document, Record

NAME = "factconsolidation"
FACTS_A_DOCUMENT = 10
_FACT = re.compile(r"(?:^|\n)(?=\d+\. )")
_HOPS = {"_sh_": "single-hop", "_mh_": "multi-hop"}


def parse(raw: Raw) -> ParsedContext:
    """Parse one list of facts: each ten facts are a document. The data set names no evidence (SPEC D8).

    Raises:
        RecordError: a field is missing or malformed, or the context is not a numbered list of facts.
    """
    metadata = raw.get("metadata") if isinstance(raw.get("metadata"), Mapping) else {}
    assert isinstance(metadata, Mapping)
    source = optional_text(metadata, "source")
    facts = text(raw, "context")
    context = source or hashlib.blake2b(facts.encode(), digest_size=6).hexdigest()
    documents = _documents(facts)
    questions, answers = array(raw, "questions"), array(raw, "answers")
    if len(questions) != len(answers):
        raise RecordError(f"there are {len(questions)} questions and {len(answers)} answers; each needs its own")
    ids = array(metadata, "qa_pair_ids") if is_list(metadata.get("qa_pair_ids")) else ()
    named = len(ids) == len(questions)
    kind = next((name for mark, name in _HOPS.items() if mark in source), "")
    records = []
    for i, (question, accepted) in enumerate(zip(questions, answers, strict=True)):
        try:
            accepted = _accepted(accepted)
            records.append(
                Record(
                    id=answer_text({"qa_pair_ids": ids[i]}, "qa_pair_ids") if named else f"{context}_no{i}",
                    question=text({"question": question}, "question"),
                    answer=accepted[0],
                    documents=documents,
                    gold=(),
                    evidence=(),
                    aliases=accepted[1:],
                    type=kind,
                    options=YES_NO if plain(accepted[0]) in YES_NO else (),
                    context=context,
                )
            )
        except RecordError as error:
            raise RecordError(f"question {i}: {error}") from None
    if not records:
        raise RecordError("field 'questions' must not be empty")
    return ParsedContext(tuple(records))


def _documents(facts: str) -> tuple[Document, ...]:
    """Runs of ten facts with their own numbers; text before the first fact is left out."""
    found = [fact.strip() for fact in _FACT.split(facts.replace("\r\n", "\n"))]
    found = [fact for fact in found if re.match(r"\d+\. ", fact)]
    if not found:
        raise RecordError(
            "field 'context' is not a numbered list of facts, one a line, such as '0. Ada was born in London.'"
        )
    runs = (found[at : at + FACTS_A_DOCUMENT] for at in range(0, len(found), FACTS_A_DOCUMENT))
    return tuple(document(_title(run), "\n".join(run), "field 'context'") for run in runs)


def _title(run: list[str]) -> str:
    """The numbers of the facts, and the rule of the data set, which a policy sees only here."""
    first, last = (fact.partition(".")[0] for fact in (run[0], run[-1]))
    return f"Facts {first} to {last}, newer than all facts before"


def _accepted(given: object) -> tuple[str, ...]:
    values = given if is_list(given) else [given]
    assert isinstance(values, list | tuple)
    if not values:
        raise RecordError(f"its answers must be a list of accepted answers, they are {shown(given)}")
    return tuple(dict.fromkeys(answer_text({"answer": value}, "answer") for value in values))
