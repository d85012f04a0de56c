"""Opens the store that ``store=`` names."""

from __future__ import annotations

import os

from atommem_gym.errors import ConfigError, check_choice, nearest
from atommem_gym.memory.protocols import Store
from atommem_gym.plugins.loading import check_colon, is_plugin, load_plugin

_NAMES = ("milvus", "numpy")
_FORMS = (
    '"milvus" (Milvus Lite, embedded, temporary), "milvus:///path/to.db" (Milvus Lite, kept), '
    '"http://host:19530" or "https://…" (a Milvus server), "numpy" (in memory), "package.module:name" (your own)'
)


def check_store_name(store: object) -> None:
    """Refuse a value that names no store; nothing is opened or imported.

    Raises:
        ConfigError: it is neither a built-in form nor ``"package.module:name"``; the message proposes a form.
    """
    if not isinstance(store, str):
        raise ConfigError(f"store={store!r} must be a string: {_FORMS}")
    if store in _NAMES or store.startswith(("milvus://", "http://", "https://")) or is_plugin("store", store):
        return
    # Loads an HTTP client, which a right name does not need.
    from atommem_gym.endpoints import lacks_scheme

    if lacks_scheme(store):
        raise ConfigError(f"store={store!r} is a URL without a scheme; write http://{store}")
    if store.endswith(".db"):
        raise ConfigError(f"store={store!r} is a path; write milvus://{store}")
    check_colon("store", store)
    meant = None if ":" in store else nearest(store, _NAMES)
    if meant is not None:
        raise ConfigError(f"unknown store {store!r}; did you mean {meant!r}?")
    raise ConfigError(f"unknown store {store!r}; known are {_FORMS}")


def open_store(
    store: str, dim: int, *, store_reads: str = "mirror", keep: bool | None = None, embedder: str = ""
) -> Store:
    """Open a store for vectors of ``dim`` numbers.

    Args:
        store: ``"milvus"``, ``"milvus:///absolute/path.db"``, ``"milvus://relative.db"``, ``"http://host:port"``,
            ``"https://host:port"``, ``"numpy"``, or ``"package.module:name"``: a custom store, called as
            ``name(dim, *, keep, embedder)``.
        dim: numbers in a vector, at least 1.
        store_reads: what answers reads of the embedded database: ``"mirror"`` (an exact copy in memory) or
            ``"milvus"`` (the engine itself, slower, the same results). A server always answers itself.
        keep: whether a server keeps the rows after ``close`` (default: no). A path always does, the other built-in
            forms never do; a custom store gets this argument, and decides if it is ``None``.
        embedder: name of the embedder; a kept database records it and names it if another dimension is asked for.

    Raises:
        ConfigError: an unknown ``store`` or ``store_reads``, keywords that contradict each other, or a custom store
            that has another form (:mod:`atommem_gym.plugins`) or may not be imported (:mod:`atommem_gym.trust`).
        StoreLockedError: another process holds the database.
        StoreError: the database cannot be opened, cannot be reached, or holds vectors of another dimension.
    """
    check_store_name(store)
    if not isinstance(dim, int) or isinstance(dim, bool) or dim < 1:
        raise ConfigError(f"dim {dim!r} is not a positive integer; give the embedder's `dim`")
    check_choice("store_reads", store_reads, ("mirror", "milvus"))
    if store == "numpy":
        if store_reads == "milvus":
            raise ConfigError('store_reads="milvus" contradicts store="numpy", which has no Milvus; use store="milvus"')
        _refuse_keep(store, keep)
        from atommem_gym.stores.numpy_store import NumpyStore

        return NumpyStore(dim)
    # Imported here, since the engines take a second to import and the numpy store does not need them.
    if store == "milvus":
        _refuse_keep(store, keep)
        from atommem_gym.stores.lite.store import MilvusLiteStore

        return MilvusLiteStore(None, dim, reads=store_reads, embedder=embedder)
    if store.startswith("milvus://"):
        path = store.removeprefix("milvus://")
        if not path or "\0" in path:
            raise ConfigError(
                f"store {store!r} names no path; write milvus:///absolute/path.db or milvus://relative.db"
            )
        if keep is False:
            raise ConfigError(f'keep=False contradicts store={store!r}, which is kept; use store="milvus"')
        from atommem_gym.stores.lite.store import MilvusLiteStore

        return MilvusLiteStore(os.path.expanduser(path), dim, reads=store_reads, embedder=embedder)
    if store.startswith(("http://", "https://")):
        from atommem_gym.stores.milvus_server import MilvusServerStore

        return MilvusServerStore(store, dim, keep=bool(keep), embedder=embedder)
    return _own_store(store, dim, store_reads, keep, embedder)


def _own_store(store: str, dim: int, store_reads: str, keep: bool | None, embedder: str) -> Store:
    if store_reads == "milvus":
        raise ConfigError(f'store_reads="milvus" contradicts store={store!r}, which has no Milvus; use store="milvus"')
    opened: Store = load_plugin("store", store, dim, keep=keep, embedder=embedder)
    wrong = ""
    if opened.dim != dim:
        wrong = f"store={store!r} was opened for {dim} dimensions and has dim={opened.dim}; keep what it is given"
    elif keep is not None and opened.kept != keep:
        wrong = (
            f"keep_memory={keep} contradicts store={store!r}, which was given it and has kept={opened.kept}; "
            "leave keep_memory out, or use another store"
        )
    if wrong:
        opened.close()
        raise ConfigError(wrong)
    return opened


def _refuse_keep(store: str, keep: bool | None) -> None:
    if keep:
        raise ConfigError(
            f'keep=True contradicts store={store!r}, which is temporary; use store="milvus:///path/to.db"'
        )
