"""The server: ``uvicorn server.app:app``, ``uv run server``, or ``python -m server.app``.

Environment variables configure it:

- ``ATOMMEM_ENV_ID``: a Gymnasium id, by default ``AtomMem-Synthetic-v0``;
- ``ATOMMEM_KEYWORDS``: its keyword arguments as a JSON object, such as ``{"num_docs": 40}``;
- ``ATOMMEM_SESSIONS``: sessions at a time, at most; by default 64.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
from typing import Any

import atommem_gym  # noqa: F401  (registers the ids)
from atommem_gym.envs import AtomMemPool
from atommem_gym.errors import ConfigError
from openenv.core.env_server.http_server import create_app

try:
    from ..models import AtomMemAction, AtomMemObservation
    from .atommem_openenv_environment import AtomMemEnvironment
except ImportError:  # started in this folder, as OpenEnv's images do
    from models import AtomMemAction, AtomMemObservation
    from server.atommem_openenv_environment import AtomMemEnvironment


def make_app() -> Any:
    """Make the application that the environment variables describe.

    Raises:
        ConfigError: a variable is malformed, or a keyword argument is wrong.
    """
    said = os.environ.get("ATOMMEM_KEYWORDS", "{}")
    try:
        keywords = json.loads(said)
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            f'ATOMMEM_KEYWORDS={said!r:.200} is not JSON ({error}); write an object such as {{"num_docs": 40}}'
        ) from None
    if not isinstance(keywords, dict):
        raise ConfigError(f'ATOMMEM_KEYWORDS={said!r:.200} is not a JSON object; write one such as {{"num_docs": 40}}')
    said = os.environ.get("ATOMMEM_SESSIONS", "64")
    if not (said.isascii() and said.isdecimal()) or len(said) > 6 or not int(said):
        raise ConfigError(f"ATOMMEM_SESSIONS={said!r:.40} must be a number of sessions, at least 1")
    pool = AtomMemPool(os.environ.get("ATOMMEM_ENV_ID", "AtomMem-Synthetic-v0"), capacity=int(said), **keywords)
    app = create_app(
        functools.partial(AtomMemEnvironment, pool),
        AtomMemAction,
        AtomMemObservation,
        env_name="atommem_openenv",
        max_concurrent_envs=int(said),
    )
    app.router.on_shutdown.append(pool.aclose)
    return app


app = make_app()


def main() -> None:
    """Run the server on ``--host`` and ``--port``."""
    import uvicorn

    parser = argparse.ArgumentParser(description="Serve an environment of atommem-gym by OpenEnv's protocol.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    given = parser.parse_args()
    uvicorn.run(app, host=given.host, port=given.port)


if __name__ == "__main__":
    main()
