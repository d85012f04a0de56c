"""Says how to install the extra that a learner needs."""

from __future__ import annotations


def without_extra(error: ModuleNotFoundError, extra: str) -> ModuleNotFoundError:
    """The error of an import, with the remedy.

    Args:
        error: What the import of a package raised.
        extra: The extra of this package that installs it.

    Returns:
        An error of the same kind and ``name``, so that callers can tell which package is missing.
    """
    return ModuleNotFoundError(f"{error}: pip install 'atommem-gym[{extra}]'", name=error.name, path=error.path)
