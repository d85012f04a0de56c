from . import inspect as inspect
from . import mcp as mcp
from . import skyrl as skyrl
from . import trl as trl
from . import verifiers as verifiers
