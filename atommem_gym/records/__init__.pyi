from . import layout as layout
from . import record as record
from .record import Document as Document
from .record import Evidence as Evidence
from .record import Item as Item
from .record import Items as Items
from .record import Record as Record
