"""Whether the Hugging Face hub has a model, asked once: the libraries that load models ask again for minutes."""

from __future__ import annotations

import os
from collections.abc import Sequence

ASKED_S = 10.0
"""Seconds that the hub may take to answer."""

MODEL_FILES = ("config.json",)
"""Of a model, one of these is in the local cache if the model is."""

TOKENIZER_FILES = ("tokenizer_config.json", "tokenizer.json", "config.json")
"""Of a tokenizer, one of these; it need not have a model beside it."""


def why_not_there(names: Sequence[str], files: Sequence[str] = MODEL_FILES) -> str | None:
    """Why a model can be loaded neither from a folder, nor from the local cache, nor from the hub; ``None`` if it can.

    Args:
        names: A folder or hub name, and further hub names of the same model.
        files: One of them is in the local cache if the model is.
    """
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError:
        return None
    if os.path.lexists(names[0]):
        return None
    held = [
        huggingface_hub.try_to_load_from_cache(name, file) for name in filter(_is_hub_name, names) for file in files
    ]
    if any(isinstance(path, str) for path in held) or huggingface_hub.constants.HF_HUB_OFFLINE:
        return None  # nothing is asked
    reason = f"there is no folder {names[0]!r}, and that is no name on the Hugging Face hub"
    for name in filter(_is_hub_name, names):
        try:
            huggingface_hub.HfApi().model_info(name, timeout=ASKED_S)
        except errors.RepositoryNotFoundError:
            reason = f"there is no folder {names[0]!r}, and the Hugging Face hub has no model {name!r} that you may see"
        except Exception as error:  # of whichever library the hub is asked with
            return f"there is no folder {names[0]!r}, and the Hugging Face hub does not answer ({type(error).__name__})"
        else:
            return None
    return reason


def _is_hub_name(name: str) -> bool:
    from huggingface_hub import errors
    from huggingface_hub.utils._validators import validate_repo_id

    try:
        validate_repo_id(name)
    except errors.HFValidationError:
        return False
    return True
