from . import loading as loading
from . import options as options
from . import protocol as protocol
