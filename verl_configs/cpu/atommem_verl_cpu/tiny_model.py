"""Makes a tiny Qwen3 with random weights and a tokenizer of our own: real code paths, and nothing to download.

    python -m atommem_verl_cpu.tiny_model FOLDER [--hidden 64] [--layers 2] [--words] [--texts FILE.parquet …]

The tokenizer is byte-level BPE, trained on our prompts and the chats of the files, so prompts are short; with --words
it knows the words, tags and marks of the chats and no others, so that a model of 100,000 parameters can learn them. The
model has exactly as many tokens as the tokenizer: veRL masks the surplus in vLLM, but not in the actor.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

import atommem_gym.prompts

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
WORD = r"\A\n\Z|</?\w+>|\w+|[^\w\s]"
"""A tag, a word or a mark; other white space is lost, and a decoded text has a space between any two of them. A line
break alone is a token, as between the turns of a chat: veRL's rules for Qwen ask for one."""


def prompts() -> Iterator[str]:
    """Our templates."""
    for template in sorted(Path(atommem_gym.prompts.__file__).parent.glob("*.j2")):
        yield template.read_text(encoding="utf-8")


def chats(files: list[Path]) -> Iterator[str]:
    """The messages of SFT files."""
    for file in files:
        for chat in pq.read_table(file, columns=["messages"]).column("messages").to_pylist():
            yield from (message["content"] for message in chat)


def byte_pairs(files: list[Path], vocabulary: int) -> PreTrainedTokenizerFast:
    """A tokenizer that every text survives."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=SPECIAL,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator([*prompts(), *chats(files)], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|im_end|>", pad_token="<|endoftext|>", chat_template=CHAT_TEMPLATE
    )


def whole_words(files: list[Path]) -> PreTrainedTokenizerFast:
    """A tokenizer of the words that the chats use; any other word is ``<unk>``."""
    splitter = pre_tokenizers.Split(Regex(WORD), behavior="removed", invert=True)
    words = {"\n", "system", "user", "assistant", *"0123456789"}
    for text in chats(files):
        words |= {word for word, _ in splitter.pre_tokenize_str(text)}
    vocabulary = {word: number for number, word in enumerate([*SPECIAL, "<unk>", *sorted(words)])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = splitter
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        unk_token="<unk>",
        additional_special_tokens=["<|im_start|>"],
        chat_template=CHAT_TEMPLATE,
    )


def save(folder: Path, tokenizer: PreTrainedTokenizerFast, *, hidden: int, layers: int, context: int, seed: int) -> int:
    """Write model and tokenizer; how many parameters the model has."""
    torch.manual_seed(seed)
    model = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer),
            hidden_size=hidden,
            intermediate_size=3 * hidden,
            num_hidden_layers=layers,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=32,
            max_position_embeddings=context,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return int(sum(parameter.numel() for parameter in model.parameters()))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--texts", type=Path, nargs="*", default=[])
    parser.add_argument("--vocabulary", type=int, default=2000)
    parser.add_argument("--words", action="store_true")
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--context", type=int, default=2048)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    tokenizer = whole_words(given.texts) if given.words else byte_pairs(given.texts, given.vocabulary)
    parameters = save(
        given.folder, tokenizer, hidden=given.hidden, layers=given.layers, context=given.context, seed=given.seed
    )
    print(f"{given.folder}: a Qwen3 of {parameters:,} parameters")


if __name__ == "__main__":
    main()
