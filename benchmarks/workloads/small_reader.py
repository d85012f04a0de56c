"""A real small model as a frozen reader: the folder of a chat model, run by transformers on the CPU.

``atommem --import workloads.small_reader eval … --set reader=workloads.small_reader:answer`` with ``benchmarks`` on the
path and the folder in ``ATOMMEM_READER_MODEL``. Greedy, and each question by itself, so what it answers to one does not
depend on the others.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from typing import Any

VARIABLE = "ATOMMEM_READER_MODEL"
MAX_NEW_TOKENS = 24
INSTRUCTION = "You answer questions from notes. Reply with the answer alone, in quotation marks."
EXAMPLES = (
    (["Mira Olsen\nMira Olsen was born in Trondheim. She sang in two choirs.", "Trondheim\nTrondheim lies on the Nid."],
     "Which river flows through the town where Mira Olsen was born?", "Nid"),
    (["Port Hela\nPort Hela is a harbour with 2,310 inhabitants. The number of the blue heron is 44716."],
     "What is the number of the blue heron?", "44716"),
    (["The Glass Orchard\nThe Glass Orchard was published in 1931."], "Who wrote The Glass Orchard?", "unknown"),
    (["Aurora\nThe ferry Aurora was built by Jan Prins in 1907.", "Jan Prins\nJan Prins lived in Delft."],
     "In which town did the builder of the ferry Aurora live?", "Delft"),
)  # fmt: skip
"""Notes, question and answer; invented, and of no world that is measured."""
QUOTE = '"'
"""Opens the answer in the model's stead: without it, so small a model repeats the question as a sentence."""


@functools.cache
def _model() -> tuple[Any, Any]:
    folder = os.environ.get(VARIABLE)
    if not folder:
        raise RuntimeError(f"{VARIABLE} must name the folder of a chat model (python benchmarks/smollm2.py FOLDER)")
    # Here, so that who only wants the name of the variable needs no extra.
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    return tokenizer, AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def prompt(question: str, notes: Sequence[str], scratchpad: str) -> str:
    """What the model is asked; notes that the scratchpad repeats stand once."""
    shown = list(dict.fromkeys([*notes, *([scratchpad] if scratchpad else [])]))
    listed = "\n".join(f"- {note}" for note in shown) if shown else "(none)"
    return f"Notes:\n{listed}\n\nQuestion: {question}"


def answer(question: str, memories: Sequence[Mapping[str, Any]], scratchpad: str) -> str:
    """A reader by SPEC E13: what the model says up to the closing quotation mark."""
    import torch

    tokenizer, model = _model()
    messages = [{"role": "system", "content": INSTRUCTION}]
    for notes, asked, said in EXAMPLES:
        messages.append({"role": "user", "content": prompt(asked, notes, "")})
        messages.append({"role": "assistant", "content": f"{QUOTE}{said}{QUOTE}"})
    messages.append({"role": "user", "content": prompt(question, [str(one["text"]) for one in memories], scratchpad)})
    given = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False) + QUOTE
    tokens = tokenizer(given, add_special_tokens=False, return_tensors="pt")
    with torch.inference_mode():
        out = model.generate(**tokens, max_new_tokens=MAX_NEW_TOKENS, do_sample=False)
    said = tokenizer.decode(out[0, tokens["input_ids"].shape[1] :], skip_special_tokens=True)
    return said.partition(QUOTE)[0].strip().removesuffix(".")
