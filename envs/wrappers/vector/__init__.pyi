from .plain import ChatObservation as ChatObservation
from .plain import EvidenceReward as EvidenceReward
from .plain import FormatPenalty as FormatPenalty
from .plain import MemoryCost as MemoryCost
from .plain import PromptObservation as PromptObservation
from .plain import ShapedReward as ShapedReward
