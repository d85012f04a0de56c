from . import numpy_store as numpy_store
from .lite.store import MilvusLiteStore as MilvusLiteStore
from .loading import open_store as open_store
from .milvus_server import MilvusServerStore as MilvusServerStore
from .numpy_store import NumpyStore as NumpyStore
from .purging import export_memory as export_memory
from .purging import purge as purge
