import atommem_gym.task

from .items import ConversationItems as ConversationItems
from .options import QUESTION_KINDS as QUESTION_KINDS
from .options import ConversationOptions as ConversationOptions

TASK: atommem_gym.task.Task
