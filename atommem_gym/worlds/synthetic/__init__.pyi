import atommem_gym.task

from .items import GroundTruth as GroundTruth
from .items import SyntheticItems as SyntheticItems
from .names import SPLITS as SPLITS
from .shapes import SHAPES as SHAPES

TASK: atommem_gym.task.Task
