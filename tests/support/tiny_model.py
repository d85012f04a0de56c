"""A tiny Qwen3 with random weights and a byte-level tokenizer of our own: real code paths, meaningless words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import atommem_gym.prompts

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if tools %}{% for tool in tools %}[{{ tool.function.name }}]{% endfor %}{% endif %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% if thinking %}<think>\n{% endif %}{% endif %}"
)
CONTEXT = 4096
NEEDS_TORCH = "needs torch and transformers: pip install 'atommem-gym[llm]'"


def save_tiny_model(folder: Path, *, context: int = CONTEXT, seed: int = 0) -> Path:
    """Write a Qwen3 of some 40,000 parameters and its tokenizer into a folder.

    The tokenizer is byte-level BPE, trained on our own prompts: every text survives it, and prompts are short.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    special = ["<|im_start|>", "<|im_end|>"]
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=1000, special_tokens=special, initial_alphabet=sorted(alphabet), show_progress=False
    )
    templates = sorted(Path(atommem_gym.prompts.__file__).parent.glob("*.j2"))
    backend.train_from_iterator([template.read_text(encoding="utf-8") for template in templates], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|im_end|>", pad_token="<|im_end|>", chat_template=CHAT_TEMPLATE
    )
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        max_position_embeddings=context,
        tie_word_embeddings=True,
    )
    model = Qwen3ForCausalLM(config)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    model.generation_config = GenerationConfig(eos_token_id=end, pad_token_id=end)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny model; import it into a test module to use it."""
    pytest.importorskip("torch", reason=NEEDS_TORCH)
    pytest.importorskip("transformers", reason=NEEDS_TORCH)
    return save_tiny_model(tmp_path_factory.mktemp("tiny-qwen3"))


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Torch computes in one thread: for a tiny model on busy cores several are ten times as slow."""
    torch = pytest.importorskip("torch", reason=NEEDS_TORCH)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
