import atommem_gym.task

from .items import NeedleItems as NeedleItems
from .options import HAYSTACKS as HAYSTACKS
from .options import NEEDLE_KINDS as NEEDLE_KINDS
from .options import VALUE_TYPES as VALUE_TYPES
from .options import NeedleOptions as NeedleOptions

TASK: atommem_gym.task.Task
