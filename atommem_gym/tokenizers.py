"""Counts and cuts text in tokens, so that every limit means the same with every tokenizer."""

from __future__ import annotations

import functools
import itertools
import re
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from atommem_gym.errors import ConfigError
from atommem_gym.files.model_hub import TOKENIZER_FILES, why_not_there
from atommem_gym.plugins.forms import FORMS
from atommem_gym.plugins.loading import check_colon, is_plugin, load_plugin, module_of
from atommem_gym.trust import check_import

Offsets = npt.NDArray[np.int64]

# Hangul jamo, radicals and ideographic marks, kana, bopomofo, ideographs, Hangul syllables, half-width forms,
# and the supplementary planes of ideographs and kana.
CJK = (
    "\u1100-\u11ff\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3038-\u303c\u3041-\u3096\u3099-\u30ff"
    "\u3105-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\uff66-\uffdc"
    "\U0001aff0-\U0001b16f\U00020000-\U0003ffff"
)
"""Characters that are each a word, as ranges for the inside of a regular expression's ``[]``."""

_LETTER = rf"[^\W{CJK}]"
_WORDS = re.compile(rf"{_LETTER}{{1,8}}|\S|\s{{8}}")
_ASCII_WORDS = re.compile(r"[0-9A-Z_a-z]{1,8}|\S|\s{8}")
"""The same for ASCII texts, nearly twice as fast."""
_SINGLE, _WORD, _SPACE, _GAP = range(4)
# By kind: every 8 characters of a word are a token, and so is the rest; every 8 of white space, but not the rest.
_SHIFT = np.array([0, 3, 3, 62], np.int64)
_ROUNDING = np.array([0, 7, 0, 0], np.int64)
_SHORT = 256
"""Up to this many characters or tokens the regular expression is faster than arrays."""
_SURROGATES = re.compile("[\ud800-\udfff]")


@runtime_checkable
class Tokenizer(Protocol):
    """Finds, counts and cuts the tokens of texts."""

    name: str
    """The name by which ``load_tokenizer`` finds it again."""

    def starts(self, text: str) -> Offsets:
        """Character offset at which each token begins: ``[n]``, non-decreasing.

        Tokens that begin inside a character (bytes of an emoji) are given the offset of that character, so cutting
        a text at any of these offsets never splits one.
        """
        ...

    def count(self, text: str) -> int:
        """The number of tokens in ``text``: ``len(starts(text))``, without special tokens."""
        ...

    def counts(self, texts: Sequence[str]) -> list[int]:
        """``count`` of each text, in one batch if the library supports it."""
        ...

    def cut(self, text: str, limit: int) -> str:
        """Cut ``text`` to its longest prefix of whole tokens with at most ``limit`` tokens.

        A text that has at most ``limit`` tokens is returned unchanged. A prefix has no trailing white space, and has at
        most ``limit`` tokens when it is counted by itself.
        """
        ...


class WordTokenizer:
    r"""Words and punctuation, with no vocabulary: the built-in tokenizer ``"words"``.

    A token is up to 8 characters of one word (letters, digits, underscore), one CJK character, or one punctuation
    mark or symbol. White space belongs to no token, but every full run of 8 white-space characters is one, so a text
    of *n* tokens is never longer than 15 *n* + 7 characters. Any ``str`` is valid, also with lone surrogates.

    >>> words = WordTokenizer()
    >>> words.starts("Marie Curie's notebooks, 1897").tolist()
    [0, 6, 11, 12, 14, 22, 23, 25]
    >>> words.count("東京 Tokyo")
    3
    >>> words.cut("Marie Curie's notebooks", 4)
    "Marie Curie's"
    """

    name = "words"

    def starts(self, text: str) -> Offsets:
        """See ``Tokenizer.starts``."""
        begins, kinds, tokens = _runs(text)
        before = np.cumsum(tokens) - tokens
        run = np.repeat(np.arange(len(tokens)), tokens)
        within = np.arange(len(run)) - before[run]
        offsets: Offsets = begins[run] + (within << _SHIFT[kinds[run]])
        return offsets

    def start(self, text: str, token: int) -> int:
        """Where one token begins: ``starts(text)[token]``, without computing the others.

        Raises:
            IndexError: ``text`` has no such token.
        """
        if token < _SHORT:
            found = _token(text, token)
            if found is None:
                raise IndexError(f"token {token} of a text that has {self.count(text)}")
            return found.start()
        begins, kinds, tokens = _runs(text)
        up_to = np.cumsum(tokens)
        run = int(np.searchsorted(up_to, token, "right"))
        within = token - int(up_to[run] - tokens[run])
        return int(begins[run]) + (within << int(_SHIFT[kinds[run]]))

    def count(self, text: str) -> int:
        """See ``Tokenizer.count``."""
        if len(text) <= _SHORT:
            # Quicker than findall, which makes a string per token.
            return _words(text).subn("", text)[1]
        return int(_runs(text)[2].sum())

    def counts(self, texts: Sequence[str]) -> list[int]:
        """See ``Tokenizer.counts``."""
        # All at once, which is ten times as fast as one by one.
        ends = np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)) + 1) - 1
        begins, _, tokens = _runs("\0".join(texts), gaps=ends[:-1])
        up_to = np.concatenate([[0], np.cumsum(tokens)])[np.searchsorted(begins, ends)]
        counts: list[int] = np.diff(up_to, prepend=0).tolist()
        return counts

    def cut(self, text: str, limit: int) -> str:
        """See ``Tokenizer.cut``."""
        # A token has at least one character.
        if len(text) <= limit:
            return text
        beyond = _token(text, max(limit, 0))
        return text if beyond is None else text[: beyond.start()].rstrip()


def _words(text: str) -> re.Pattern[str]:
    return _ASCII_WORDS if text.isascii() else _WORDS


def _token(text: str, number: int) -> re.Match[str] | None:
    return next(itertools.islice(_words(text).finditer(text), number, None), None)


def _runs(text: str, gaps: Offsets | None = None) -> tuple[Offsets, npt.NDArray[np.uint8], Offsets]:
    """Maximal runs of characters of one kind: where each begins, its kind, and its number of tokens, ``[runs]`` each.

    The characters at ``gaps`` belong to no token and end a run.
    """
    kinds = _kinds()[np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), np.uint32)]
    if gaps is not None:
        kinds[gaps] = _GAP
    edges = np.ones(len(kinds) + 1, np.bool_)
    np.not_equal(kinds[1:], kinds[:-1], out=edges[1:-1])
    bounds = np.flatnonzero(edges) if len(kinds) else np.zeros(1, np.int64)
    begins = bounds[:-1]
    kinds = kinds[begins]
    return begins, kinds, (np.diff(bounds) + _ROUNDING[kinds]) >> _SHIFT[kinds]


@functools.cache
def _kinds() -> npt.NDArray[np.uint8]:
    """The kind of each code point (a token by itself, part of a word, or white space): ``[0x110000]``."""
    everything = "".join(map(chr, range(sys.maxunicode + 1)))
    kinds = np.full(len(everything), _SINGLE, np.uint8)
    for kind, pattern in ((_WORD, f"{_LETTER}+"), (_SPACE, r"\s+")):
        for match in re.finditer(pattern, everything):
            kinds[match.start() : match.end()] = kind
    return kinds


class _VocabularyTokenizer:
    """The base of tokenizers with a vocabulary: it cuts so that the prefix, tokenized again, keeps the limit."""

    def __init__(self, name: str) -> None:
        self.name = name

    def starts(self, text: str) -> Offsets:
        """See ``Tokenizer.starts``."""
        raise NotImplementedError

    def count(self, text: str) -> int:
        """See ``Tokenizer.count``."""
        raise NotImplementedError

    def cut(self, text: str, limit: int) -> str:
        """See ``Tokenizer.cut``."""
        if self.count(text) <= limit:
            return text
        starts = self.starts(text)
        # A prefix may merge differently than within the whole text, and then have one token more.
        for kept in range(max(limit, 0), 0, -1):
            prefix = text[: int(starts[kept])].rstrip()
            if self.count(prefix) <= limit:
                return prefix
        return ""


class HuggingFaceTokenizer(_VocabularyTokenizer):
    """A fast Hugging Face tokenizer, from the hub or a folder; no special tokens are added.

    Text that spells a special token (``<|im_end|>``) counts as that one token, as it would in a prompt.
    """

    def __init__(self, name: str, backend: Any) -> None:
        """Wrap ``backend``, a ``tokenizers.Tokenizer``; its own truncation and padding are switched off."""
        super().__init__(name)
        backend.no_truncation()
        backend.no_padding()
        self._backend = backend

    def starts(self, text: str) -> Offsets:
        """See ``Tokenizer.starts``."""
        encoding = self._backend.encode(_encodable(text), add_special_tokens=False)
        starts = np.fromiter((start for start, _ in encoding.offsets), np.int64, len(encoding.offsets))
        # A normalizer may report offset 0 for an inserted character; it begins where the token before it does.
        return np.maximum.accumulate(starts)

    def count(self, text: str) -> int:
        """See ``Tokenizer.count``."""
        return self.counts([text])[0]

    def counts(self, texts: Sequence[str]) -> list[int]:
        """See ``Tokenizer.counts``."""
        encodings = self._backend.encode_batch_fast([_encodable(text) for text in texts], add_special_tokens=False)
        return [len(encoding) for encoding in encodings]


class TiktokenTokenizer(_VocabularyTokenizer):
    """An encoding of OpenAI's ``tiktoken``; text that spells a special token is ordinary text."""

    def __init__(self, name: str, encoding: Any) -> None:
        """Wrap ``encoding``, a ``tiktoken.Encoding``."""
        super().__init__(name)
        self._encoding = encoding

    def starts(self, text: str) -> Offsets:
        """See ``Tokenizer.starts``."""
        tokens = self._encoding.encode_ordinary(_encodable(text))
        _, starts = self._encoding.decode_with_offsets(tokens)
        return np.asarray(starts, np.int64)

    def count(self, text: str) -> int:
        """See ``Tokenizer.count``."""
        return len(self._encoding.encode_ordinary(_encodable(text)))

    def counts(self, texts: Sequence[str]) -> list[int]:
        """See ``Tokenizer.counts``."""
        batch = self._encoding.encode_ordinary_batch([_encodable(text) for text in texts])
        return [len(tokens) for tokens in batch]


def _encodable(text: str) -> str:
    """``text`` with each lone surrogate replaced by one character, since UTF-8 cannot hold them; offsets stay."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return _SURROGATES.sub("\ufffd", text)
    return text


_loaded: dict[str, Tokenizer] = {}
_loading = threading.RLock()  # reentrant: a custom tokenizer may load the tokenizer that it wraps


def load_tokenizer(name: str) -> Tokenizer:
    """Load the tokenizer called ``name``, once per process.

    Args:
        name: ``"words"``; ``"tiktoken:NAME"``, for example ``"tiktoken:cl100k_base"``; ``"package.module:name"``, a
            custom tokenizer, called without arguments; otherwise a Hugging Face hub name, for example
            ``"Qwen/Qwen3-8B"``, or a folder that holds a saved tokenizer.

    Raises:
        ConfigError: there is no such tokenizer, or a custom one has another form (:mod:`atommem_gym.plugins`) or
            may not be imported (:mod:`atommem_gym.trust`); the message says what was tried and what helps.
    """
    if not isinstance(name, str) or not name.strip():
        raise ConfigError(
            f"tokenizer={name!r}: a tokenizer is named by a non-empty string; "
            "use 'words', 'tiktoken:NAME', 'package.module:name', or a Hugging Face name or folder"
        )
    if is_plugin("tokenizer", name):
        check_import(module_of(name), f"tokenizer={name!r}")
    with _loading:
        if name not in _loaded:
            _loaded[name] = _load(name)
        return _loaded[name]


def _load(name: str) -> Tokenizer:
    if name == "words":
        return WordTokenizer()
    if name.startswith("tiktoken:"):
        return TiktokenTokenizer(name, _tiktoken_encoding(name))
    if is_plugin("tokenizer", name):
        return _own_tokenizer(name)
    check_colon("tokenizer", name)
    return HuggingFaceTokenizer(name, _hugging_face_backend(name))


def _own_tokenizer(name: str) -> Tokenizer:
    """Load a custom tokenizer, checked by tokenizing one text."""
    tokenizer: Tokenizer = load_plugin("tokenizer", name)
    text, remedy = "One text, to begin with.", FORMS["tokenizer"].remedy
    # Counts are cached by the name.
    if tokenizer.name in {"words", *(other.name for other in _loaded.values())}:
        raise ConfigError(
            f"tokenizer={name!r} has name={tokenizer.name!r}, which is another tokenizer's; give it {name!r}{remedy}"
        )
    try:
        starts: object = tokenizer.starts(text)
        count, counts, cut = tokenizer.count(text), tokenizer.counts([text]), tokenizer.cut(text, 1)
    except Exception as error:  # whatever the user's code raises
        raise ConfigError(
            f"tokenizer={name!r}: its first text raised {type(error).__name__}: {error}{remedy}"
        ) from error
    for what, found, fits in (
        ("starts", starts, isinstance(starts, np.ndarray) and starts.dtype == np.int64 and starts.shape == (count,)),
        ("count", count, type(count) is int and count > 0),
        ("counts", counts, counts == [count]),
        ("cut", cut, isinstance(cut, str) and text.startswith(cut)),
    ):
        if not fits:
            raise ConfigError(
                f"tokenizer={name!r}: {what} of {text!r} is {found!r}; atommem_gym.tokenizers.Tokenizer says what "
                f"it must be{remedy}"
            )
    return tokenizer


def _tiktoken_encoding(name: str) -> Any:
    try:
        import tiktoken
    except ImportError as error:
        raise ConfigError(f"tokenizer={name!r} needs the package tiktoken: pip install 'atommem-gym[llm]'") from error
    encoding = name.removeprefix("tiktoken:")
    if encoding not in tiktoken.list_encoding_names():
        known = ", ".join(sorted(tiktoken.list_encoding_names()))
        raise ConfigError(f"tokenizer={name!r}: tiktoken has no encoding {encoding!r}; it has {known}")
    try:
        return tiktoken.get_encoding(encoding)
    except Exception as error:  # requests, file system and checksum errors, whose types tiktoken does not promise
        raise ConfigError(
            f"tokenizer={name!r}: tiktoken could not download its vocabulary ({type(error).__name__}: {error}). "
            "Download it where there is a network and point TIKTOKEN_CACHE_DIR to its folder, or use 'words'"
        ) from error


def _hugging_face_backend(name: str) -> Any:
    try:
        import tokenizers
    except ImportError as error:
        raise ConfigError(
            f"tokenizer={name!r} is a Hugging Face name and needs the packages tokenizers and transformers: "
            "pip install 'atommem-gym[llm]' (the built-in tokenizer 'words' needs neither)"
        ) from error
    file = Path(name) / "tokenizer.json"
    reason = None if file.is_file() else why_not_there([name], TOKENIZER_FILES)
    if reason is not None:
        raise ConfigError(
            f"tokenizer={name!r}: {reason}. Check the name, download it first (`hf download NAME`), or use the "
            "built-in 'words'"
        )
    try:
        if file.is_file():
            return tokenizers.Tokenizer.from_file(str(file))
        import transformers

        fast = transformers.AutoTokenizer.from_pretrained(name, use_fast=True)
    except Exception as error:  # OSError, ValueError, ImportError, or the Rust library's bare Exception
        tried = str(file) if file.is_file() else f"the folder {Path(name).absolute()}, then the Hugging Face hub"
        raise ConfigError(
            f"tokenizer={name!r} could not be loaded; tried {tried} ({type(error).__name__}: {error}). "
            "Check the name, download it first (`hf download NAME`), or use the built-in 'words'"
        ) from error
    if not getattr(fast, "is_fast", False):
        raise ConfigError(
            f"tokenizer={name!r} has no fast version, and only fast tokenizers report character offsets; "
            "save one with a tokenizer.json, or use the built-in 'words'"
        )
    return fast.backend_tokenizer
