from . import documents as documents
from . import writing as writing
