import atommem_gym.task

from .items import ForgetItems as ForgetItems
from .options import ForgetOptions as ForgetOptions

TASK: atommem_gym.task.Task
