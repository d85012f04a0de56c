"""The parts scripted agents are made of: the oracle's reader, the reading policy, documents, and words."""

from __future__ import annotations

from support.agents.scripted import FixedItems, fixed, make, question, trace

import atommem_gym  # noqa: F401
from atommem_gym.actions import Read
from atommem_gym.agents.play import atommem_env
from atommem_gym.config import EnvConfig
from atommem_gym.policies.answering import fill
from atommem_gym.policies.documents import DocumentReader, entries, sentences, split
from atommem_gym.policies.oracle_reader import OracleReader
from atommem_gym.policies.words import Rarity, content_words, names
from atommem_gym.readers.oracle import visible_texts
from atommem_gym.records.record import Document, Evidence
from atommem_gym.tokenizers import load_tokenizer


def test_E12_oracle_reader_answers_if_and_only_if_all_evidence_is_visible() -> None:
    first, second = Evidence("A", "Ada met Bob.", "Bob"), Evidence("B", "Bob lives in Rome.", "Rome")
    with fixed(FixedItems([Document("A", "x")], question("Where?", "Rome", first, second))) as env:
        observation, _ = env.reset()
        reader = OracleReader(atommem_env(env).episode)

        def answer(scratchpad: str, *memories: str) -> str:
            shown = tuple({"id": 2 * i, "text": text, "score": 0.5} for i, text in enumerate(memories))
            return reader.answer({**observation, "scratchpad": scratchpad, "memories": shown})

        assert answer("", "ada met bob") == "unknown"
        assert answer("Bob lives in Rome") == "unknown"
        assert answer("Bob lives in Rome", "they say Ada met Bob, once") == "Rome"
        assert answer("", "Ada met Bobby. Bob lives in Rome.") == "unknown"
        # Rome is in sight, its evidence is not.
        assert answer("Rome", "Rome", "Ada met Bob.") == "unknown"


def test_oracle_reader_never_answers_a_question_without_evidence() -> None:
    with fixed(FixedItems([Document("A", "x")], question("Where?", "Rome"))) as env:
        observation, _ = env.reset()
        assert OracleReader(atommem_env(env).episode).answer(observation) == "unknown"


def test_oracle_reader_joins_memories_of_consecutive_ids_only() -> None:
    def shown(*ids: int) -> list[tuple[int, str, float]]:
        return [(i, f"t{i}", 0.0) for i in ids]

    assert visible_texts(shown(5, 3, 4, 9), "") == ["", "t3", "t4", "t5", "t9", "t3 t4 t5"]
    assert visible_texts(shown(1, 3), "") == ["", "t1", "t3"]
    assert visible_texts(shown(), "notes") == ["notes"]


def test_reading_policy_asks_the_question_then_with_the_names_of_the_best_new_hit() -> None:
    item = FixedItems(
        [
            Document("Night Train", "Night Train is a film by Ada Byron."),
            Document("Ada Byron", "Ada Byron was born in Bath."),
            *(Document(f"Film {i}", f"Film {i} is a film about a train.") for i in range(20)),
        ],
        question(
            "In which city was the director of Night Train born?",
            "Bath",
            Evidence("Night Train", "Night Train is a film by Ada Byron.", "Ada Byron"),
            Evidence("Ada Byron", "Ada Byron was born in Bath.", "Bath"),
        ),
    )
    with fixed(item, top_k=2, chunk_tokens=2000) as env:
        record, actions, _ = trace(env, "keep_all")
    queries = [op.query for action in actions for op in action if isinstance(op, Read)]
    assert queries[0] == "In which city was the director of Night Train born?"
    assert queries[1] == f"{queries[0]} Ada Byron"
    assert record.em == 1.0


def test_document_reader_gives_the_documents_back_whatever_the_chunks_are() -> None:
    tokenizer = load_tokenizer("words")
    with make() as env:
        for tokens, overlap in ((5, 0), (37, 0), (37, 9), (400, 100), (9, 4)):
            config = EnvConfig.from_keywords(
                {"chunk_tokens": tokens, "chunk_overlap": overlap}, {"source": "synthetic"}
            )
            documents = atommem_env(env).items.item(2).documents
            from atommem_gym.records.stream import Stream

            stream = Stream(documents, tokenizer, tokens, overlap)
            reader, found = DocumentReader(config), []
            for i in range(stream.num_chunks):
                observation = {"phase": 0, "progress": (i, stream.num_chunks), "chunk": stream.chunk(i)}
                found += reader.read(observation)
                assert reader.read(observation) == []
            assert tuple(found) == documents


def test_a_document_that_quotes_another_header_stays_whole() -> None:
    config = EnvConfig.from_keywords({})
    chunk = "Document 1:\nA\nsee\n\nDocument 7:\nquoted\n\nDocument 2:\nB\nend"
    documents = DocumentReader(config).read({"phase": 0, "progress": (0, 1), "chunk": chunk})
    assert documents == [Document("A", "see\n\nDocument 7:\nquoted"), Document("B", "end")]


def test_texts_are_split_within_the_limit_and_lose_no_word() -> None:
    tokenizer = load_tokenizer("words")
    text = "One two three. Four five six seven eight nine ten eleven twelve. Supercalifragilisticexpialidocious!"
    for limit in (1, 2, 3, 5, 8, 100):
        pieces = split(text, tokenizer, limit)
        assert all(0 < tokenizer.count(piece) <= limit for piece in pieces)
        assert "".join(pieces).replace(" ", "") == text.replace(" ", "")
    assert split("", tokenizer, 5) == []
    assert entries(Document("T", "text"), tokenizer, 5) == ["T\ntext"]
    assert " ".join(sentences(text)) == text


def test_fill_takes_what_fits_in_the_given_order() -> None:
    tokenizer = load_tokenizer("words")
    assert fill(["", "one two", "three four five", "six"], tokenizer, 3) == "one two\nsix"
    assert fill(["notes", "one"], tokenizer, 1) == "notes"


def test_rare_shared_words_weigh_more() -> None:
    rarity = Rarity()
    for words in (["film", "ada"], ["film"], ["film"]):
        rarity.note(words)
    assert rarity.relevance(["ada"], ["ada", "film"]) > rarity.relevance(["film"], ["ada", "film"]) > 0
    assert rarity.relevance(["train"], ["ada"]) == 0
    assert content_words("The Ada of ADA") == ["ada"]
    assert names("She saw Ada, ADA and Bob in 1932") == ["Ada", "Bob", "1932"]
