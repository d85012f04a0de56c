"""Finds the reader that ``reader=`` names, so that environments know one form."""

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
    """The reader that ``reader=spec`` means; ``None`` if the policy answers by itself.

    Args:
        spec: ``"policy"``, ``"oracle"``, the URL of an OpenAI-compatible server, ``"package.module:name"``, a function
            ``(question, memories, scratchpad) -> str``, or a reader, which is returned as it is.
        options: Of a server: those of :class:`~atommem_gym.readers.options.ReaderOptions`.
        abstention: Whether questions may have no answer.

    >>> load_reader("oracle").name
    'oracle'

    Raises:
        ConfigError: there is no such reader, an option is wrong, or a module is named that is not the user's own word
            (:mod:`atommem_gym.trust`).
        ReaderError: the server was asked for its model, and is down.
    """
    check_reader(spec, options)
    if spec == POLICY:
        return None
    if spec == ORACLE:
        return OracleFrozenReader()
    if is_url(spec):
        # `import atommem_gym` must be quick, and this loads an HTTP client.
        from atommem_gym.readers.server import ServerReader

        return ServerReader(spec, options, abstention=abstention)
    if is_plugin("reader", spec):
        return FunctionReader(load_plugin("reader", spec), spec)
    if isinstance(spec, FrozenReader):
        return spec
    return FunctionReader(spec, reader_name(spec))
