from . import conversation as conversation
from . import drift as drift
from . import forget as forget
from . import needle as needle
from . import synthetic as synthetic
