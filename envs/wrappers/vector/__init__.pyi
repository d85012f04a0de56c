from .curriculum import Curriculum as Curriculum
from .prompts import ChatObservation as ChatObservation
from .prompts import PromptObservation as PromptObservation
from .record_traces import RecordTraces as RecordTraces
from .shaped_reward import EvidenceReward as EvidenceReward
from .shaped_reward import FormatPenalty as FormatPenalty
from .shaped_reward import MemoryCost as MemoryCost
from .shaped_reward import ShapedReward as ShapedReward
