"""``atommem --import MODULE`` registers custom tasks and agents before a command looks for them; names find modules."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterable, Sequence

from atommem_gym.errors import ConfigError


def import_modules(names: Sequence[str]) -> None:
    """Import modules; as with ``python -m``, they are also looked for in the working directory, and there first.

    What only a file names is imported by none of them (:mod:`atommem_gym.trust`), so that opening it runs no code.

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


def find_modules(names: Iterable[str]) -> None:
    """Let Python find modules that the command line names within a value, such as ``--set store=my_store:MyStore``.

    The working directory is looked at last, and only for what is nowhere else: nothing in it takes the place of a
    module that is installed.
    """
    for name in names:
        top = name.partition(".")[0]
        # What is loaded already, such as `__main__`, may have no specification to find.
        if top not in sys.modules and importlib.util.find_spec(top) is None and os.getcwd() not in sys.path:
            sys.path.append(os.getcwd())
