"""Tokenizers (SPEC M10, E1): the built-in one against its definition, Hugging Face and tiktoken ones by their laws."""

from __future__ import annotations

import os
import re
import sys
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.missing import without

from atommem_gym.errors import ConfigError
from atommem_gym.tokenizers import HuggingFaceTokenizer, TiktokenTokenizer, Tokenizer, load_tokenizer

__all__ = ["without"]

WORDS = load_tokenizer("words")
FAMILY = "👩‍👩‍👧"
AWKWARD = [
    "",
    " ",
    " " * 100,
    "a" * 1000,
    "<" * 1000,
    "\0\0 \0",
    "lone \ud83d and \udc69\ud83d surrogates\ud800",
    f"emoji {FAMILY}{FAMILY} 🎉🎉🎉 and 🇺🇳",
    "東京都は日本の首都 한국어 ㄱㄴ ﾊﾝｶｸ",
    "naïve e\u0301 \u00a0\u2003 wide\u3000space",
    "line\r\nline\n\n\n\n\n\n\n\n\n\n\nline",
]
anything = st.text(st.characters(), max_size=60) | st.text(st.sampled_from("ab東ア 🎉<\n\ud800'"), max_size=80)


def is_cjk(character: str) -> bool:
    name = unicodedata.name(character, "")
    scripts = "CJK|IDEOGRAPHIC (?!TALLY)|HIRAGANA|KA(TAKA)?NA|HENTAIGANA|MASU|HANGUL|HANGZHOU|BOPOMOFO"
    return re.match(rf"(HALFWIDTH |VERTICAL )?({scripts})", name) is not None


def reference_starts(text: str) -> list[int]:
    """The definition of a token in plain loops, to compare the regular expression with."""
    starts: list[int] = []
    kind, length = "", 0
    for position, character in enumerate(text):
        if character.isspace():
            now = "space"
        elif is_cjk(character) or not (character.isalnum() or character == "_"):
            now = "single"
        else:
            now = "word"
        length = length + 1 if now == kind else 1
        kind = now
        if now == "single" or (now == "word" and length % 8 == 1):
            starts.append(position)
        elif now == "space" and length % 8 == 0:
            starts.append(position - 7)
    return starts


@pytest.mark.parametrize("text", AWKWARD)
def test_M10_words_are_what_their_definition_says(text: str) -> None:
    assert WORDS.starts(text).tolist() == reference_starts(text)


@given(anything)
def test_M10_words_are_what_their_definition_says_for_any_text(text: str) -> None:
    starts = WORDS.starts(text)
    assert starts.dtype == np.int64
    assert starts.tolist() == reference_starts(text)
    assert len(text) <= 15 * len(starts) + 7


def test_M10_every_letter_is_of_a_word_or_a_cjk_token_by_itself() -> None:
    letters = [chr(point) for point in range(sys.maxunicode + 1) if chr(point).isalnum()]
    wrong = [letter for letter in letters if (WORDS.count(letter * 3) == 3) != is_cjk(letter)]
    assert wrong == []


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Hello, world!", ["Hello", ",", "world", "!"]),
        ("internationalisation", ["internat", "ionalisa", "tion"]),
        ("snake_case 3.14", ["snake_ca", "se", "3", ".", "14"]),
        ("東京Tower", ["東", "京", "Tower"]),
        ("カタカナ", list("カタカナ")),
        ("한국어", list("한국어")),
        ("Ünïcode", ["Ünïcode"]),
        ("<answer>", ["<", "answer", ">"]),
    ],
)
def test_M10_words_and_punctuation(text: str, tokens: list[str]) -> None:
    ends = [*WORDS.starts(text).tolist()[1:], len(text)]
    starts = WORDS.starts(text).tolist()
    assert [text[a:b].strip() for a, b in zip(starts, ends, strict=True)] == tokens


@pytest.mark.parametrize(("spaces", "tokens"), [(7, 2), (8, 3), (15, 3), (16, 4)])
def test_M10_a_full_run_of_8_spaces_is_a_token(spaces: int, tokens: int) -> None:
    assert WORDS.count("a" + " " * spaces + "b") == tokens


def test_A3_words_count_ten_megabytes_in_linear_time() -> None:
    def seconds(size: int) -> float:
        start = time.perf_counter()
        assert WORDS.count("<" * size) == size
        return time.perf_counter() - start

    seconds(1000)
    assert seconds(10_000_000) < 60
    assert WORDS.cut("word " * 2_000_000, 3) == "word word word"


def check_laws(tokenizer: Tokenizer, text: str) -> None:
    starts = tokenizer.starts(text)
    assert len(starts) == tokenizer.count(text) == tokenizer.counts([text, text])[1]
    assert (np.diff(starts) >= 0).all()
    assert ((starts >= 0) & (starts <= max(len(text) - 1, 0))).all()
    for limit in (0, 1, 2, 3, max(len(starts) - 1, 0), len(starts), len(starts) + 1):
        cut = tokenizer.cut(text, limit)
        if limit >= len(starts):
            assert cut == text
        else:
            assert text.startswith(cut)
            assert tokenizer.count(cut) <= limit
            assert cut == cut.rstrip()


@given(anything, st.integers(0, 30))
def test_M10_words_cut_keeps_the_longest_prefix(text: str, limit: int) -> None:
    check_laws(WORDS, text)
    starts = WORDS.starts(text)
    if limit < len(starts):
        assert WORDS.cut(text, limit) == text[: starts[limit]].rstrip()


@given(anything)
def test_E1_no_words_token_begins_inside_another(text: str) -> None:
    starts = WORDS.starts(text).tolist()
    assert len(set(starts)) == len(starts)
    for start in starts:
        assert WORDS.count(text[:start]) + WORDS.count(text[start:]) >= len(starts)


def test_the_same_tokenizer_is_loaded_once() -> None:
    assert load_tokenizer("words") is load_tokenizer("words")
    assert isinstance(WORDS, Tokenizer)
    assert WORDS.name == "words"


@pytest.fixture(scope="module")
def bpe_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level BPE tokenizer, as Qwen's and GPT-2's are, trained on a few lines and saved."""
    tokenizers = pytest.importorskip("tokenizers", reason="pip install 'atommem-gym[llm]'")
    folder = tmp_path_factory.mktemp("tokenizer")
    trained = tokenizers.Tokenizer(tokenizers.models.BPE())
    trained.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trained.decoder = tokenizers.decoders.ByteLevel()
    trained.post_processor = tokenizers.processors.ByteLevel(trim_offsets=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|im_end|>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    trained.train_from_iterator(["the memory of the agent", "created, read, updated and deleted"] * 10, trainer)
    # Settings that a saved tokenizer often has and that must not change what is counted.
    trained.enable_truncation(4)
    trained.enable_padding(length=8)
    trained.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="module")
def bpe(bpe_folder: Path) -> Tokenizer:
    return load_tokenizer(str(bpe_folder))


def test_hugging_face_folder_is_loaded_without_its_truncation_and_padding(bpe: Tokenizer, bpe_folder: Path) -> None:
    assert isinstance(bpe, HuggingFaceTokenizer)
    assert bpe.name == str(bpe_folder)
    text = "the memory of the agent, updated"
    starts = bpe.starts(text)
    assert len(starts) > 4
    assert bpe.count("x") == 1
    assert starts[0] == 0


@pytest.mark.parametrize("text", AWKWARD)
def test_M10_hugging_face_laws(bpe: Tokenizer, text: str) -> None:
    check_laws(bpe, text)


@settings(deadline=None, max_examples=60)
@given(text=anything)
def test_M10_hugging_face_laws_for_any_text(bpe: Tokenizer, text: str) -> None:
    check_laws(bpe, text)


def test_E1_bytes_of_one_emoji_all_begin_at_it(bpe: Tokenizer) -> None:
    assert bpe.starts("a🎉b").tolist() == [0, 1, 1, 1, 1, 2]
    assert bpe.cut("a🎉b", 3) == "a"
    assert bpe.cut("a🎉b", 5) == "a🎉"


def test_A3_a_lone_surrogate_takes_one_place(bpe: Tokenizer) -> None:
    assert bpe.starts("a\ud800b").tolist() == bpe.starts("a\ufffdb").tolist()
    assert bpe.cut("ab\ud800b" + "cd" * 9, 3).startswith("ab")


def test_hugging_face_folder_without_tokenizer_json_goes_through_transformers(bpe_folder: Path, tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers", reason="pip install 'atommem-gym[llm]'")
    pytest.importorskip("transformers", reason="pip install 'atommem-gym[llm]'")
    with pytest.raises(ConfigError, match="could not be loaded"):
        load_tokenizer(str(tmp_path))
    tokenizers.Tokenizer.from_file(str(bpe_folder / "tokenizer.json")).model.save(str(tmp_path))
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "GPT2Tokenizer"}')
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    text = "the memory of the agent🎉"
    assert load_tokenizer(str(tmp_path)).count(text) == load_tokenizer(str(bpe_folder)).count(text)


def test_hugging_face_name_comes_from_the_cache_or_says_what_was_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers", reason="pip install 'atommem-gym[llm]'")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match=r"(?s)nobody/nothing.*Hugging Face hub.*hf download") as caught:
        load_tokenizer("nobody/nothing")
    assert str(Path("nobody/nothing").absolute()) in str(caught.value)


@pytest.fixture(scope="module")
def tiny_tiktoken() -> Tokenizer:
    tiktoken = pytest.importorskip("tiktoken", reason="pip install 'atommem-gym[llm]'")
    ranks = {bytes([i]): i for i in range(256)} | {b"th": 256, b"the": 257, b" the": 258, b"ag": 259}
    encoding = tiktoken.Encoding(
        name="tiny", pat_str=r" ?\w+| ?[^\s\w]+|\s+", mergeable_ranks=ranks, special_tokens={"<|end|>": 260}
    )
    return TiktokenTokenizer("tiktoken:tiny", encoding)


@pytest.mark.parametrize("text", AWKWARD)
def test_M10_tiktoken_laws(tiny_tiktoken: Tokenizer, text: str) -> None:
    check_laws(tiny_tiktoken, text)


@settings(deadline=None, max_examples=60)
@given(text=anything)
def test_M10_tiktoken_laws_for_any_text(tiny_tiktoken: Tokenizer, text: str) -> None:
    check_laws(tiny_tiktoken, text)


def test_tiktoken_offsets_and_special_tokens(tiny_tiktoken: Tokenizer) -> None:
    assert tiny_tiktoken.starts("the the🎉!").tolist() == [0, 3, 7, 7, 7, 7, 8]
    assert tiny_tiktoken.cut("the the🎉!", 4) == "the the"
    assert tiny_tiktoken.count("<|end|>") == 7
    assert tiny_tiktoken.counts([]) == []


def test_M10_a_prefix_that_splits_otherwise_by_itself_is_cut_further() -> None:
    tiktoken = pytest.importorskip("tiktoken", reason="pip install 'atommem-gym[llm]'")
    ranks = {bytes([i]): i for i in range(256)} | {b"ab": 256, b"abc": 257}
    # A word is one token only where an exclamation mark follows.
    encoding = tiktoken.Encoding(
        name="fussy", pat_str=r"\w+(?=!)|\w|\W", mergeable_ranks=ranks, special_tokens={"<|end|>": 258}
    )
    fussy = TiktokenTokenizer("tiktoken:fussy", encoding)
    assert fussy.starts("x abc!").tolist() == [0, 1, 2, 5]
    assert fussy.cut("x abc!", 3) == "x"


def test_tiktoken_unknown_encoding_names_the_known_ones() -> None:
    pytest.importorskip("tiktoken", reason="pip install 'atommem-gym[llm]'")
    with pytest.raises(ConfigError, match=r"(?s)no encoding 'made_up'.*cl100k_base"):
        load_tokenizer("tiktoken:made_up")


def test_tiktoken_without_its_vocabulary_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    tiktoken = pytest.importorskip("tiktoken", reason="pip install 'atommem-gym[llm]'")

    def refuse(name: str) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(tiktoken, "get_encoding", refuse)
    with pytest.raises(ConfigError, match=r"no route to host.*TIKTOKEN_CACHE_DIR"):
        load_tokenizer("tiktoken:p50k_edit")


def test_real_tiktoken_vocabulary() -> None:
    if not os.environ.get("TIKTOKEN_CACHE_DIR"):
        pytest.skip("needs OpenAI's vocabulary: set TIKTOKEN_CACHE_DIR to a folder where tiktoken has downloaded it")
    tokenizer = load_tokenizer("tiktoken:cl100k_base")
    assert tokenizer.count("hello world") == 2
    for text in AWKWARD:
        check_laws(tokenizer, text)


@pytest.mark.parametrize(("package", "name"), [("tiktoken", "tiktoken:gpt2"), ("tokenizers", "Qwen/Qwen3-8B")])
def test_a_missing_package_is_named_with_its_command(without: Callable[[str], None], package: str, name: str) -> None:
    without(package)
    with pytest.raises(ConfigError, match=rf"{package}.*pip install 'atommem-gym\[llm\]'"):
        load_tokenizer(name)


@pytest.mark.parametrize("name", ["", "  ", None, 3])
def test_a_name_that_is_none(name: Any) -> None:
    with pytest.raises(ConfigError, match="non-empty string"):
        load_tokenizer(name)
