import atommem_gym.task

from .items import DriftItems as DriftItems
from .options import QUESTION_KINDS as QUESTION_KINDS
from .options import DriftOptions as DriftOptions

TASK: atommem_gym.task.Task
