"""``atommem --import MODULE``: registers custom tasks before a command looks for them."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

from atommem_gym.errors import ConfigError


def import_modules(names: Sequence[str]) -> None:
    """Import modules; as with ``python -m``, they are also looked for in the working directory, and there first.

    Only the command line names modules: plans and traces hold ids, so that opening somebody's file runs no code.

    Raises:
        ConfigError: a module, or one that it imports, is not there.
    """
    if names and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ConfigError(
                f"--import {name} failed ({error}); give the name of a module that is installed or lies in "
                f"{os.getcwd()}, such as my_task for my_task.py"
            ) from error
