"""Loads the frozen reader that ``reader=`` names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from atommem_gym.plugins.loading import is_plugin, load_plugin
from atommem_gym.readers.function import FunctionReader
from atommem_gym.readers.options import ORACLE, check_reader, is_url, reader_name
from atommem_gym.readers.oracle import OracleFrozenReader
from atommem_gym.readers.protocol import POLICY, FrozenReader


def load_reader(
    spec: Any = POLICY, options: Mapping[str, Any] | None = None, *, abstention: bool = False
) -> FrozenReader | None:
    """The reader that ``reader=spec`` names; ``None`` if the policy answers by itself.

    Args:
        spec: ``"policy"``, ``"oracle"``, the URL of an OpenAI-compatible server, ``"package.module:name"``, a function
            ``(question, memories, scratchpad) -> str``, or a reader, which is returned unchanged.
        options: For a server: the fields of :class:`~atommem_gym.readers.options.ReaderOptions`.
        abstention: Whether questions may have no answer.

    >>> load_reader("oracle").name
    'oracle'

    Raises:
        ConfigError: there is no such reader, an option is wrong, or a module may not be imported
            (:mod:`atommem_gym.trust`).
        ReaderError: no model is named, and the server that was asked for it did not answer.
    """
    check_reader(spec, options)
    if spec == POLICY:
        return None
    if spec == ORACLE:
        return OracleFrozenReader()
    if is_url(spec):
        # Imported here, because it loads an HTTP client and `import atommem_gym` must be quick.
        from atommem_gym.readers.server import ServerReader

        return ServerReader(spec, options, abstention=abstention)
    if is_plugin("reader", spec):
        return FunctionReader(load_plugin("reader", spec), spec)
    if isinstance(spec, FrozenReader):
        return spec
    return FunctionReader(spec, reader_name(spec))
