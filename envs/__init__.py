"""The faces of an episode: Gymnasium environments, their wrappers and renderings."""

from atommem_gym.envs.atommem_env import AtomMemEnv
from atommem_gym.envs.curriculum import Curriculum, CurriculumSchedule, VectorCurriculum
from atommem_gym.envs.pool import AtomMemPool
from atommem_gym.envs.pool_env import PoolEnv
from atommem_gym.envs.tasks import (
    DriftEnv,
    DriftVectorEnv,
    HotpotQAEnv,
    HotpotQAVectorEnv,
    MuSiQueEnv,
    MuSiQueVectorEnv,
    NeedleEnv,
    NeedleVectorEnv,
    SyntheticEnv,
    SyntheticVectorEnv,
    TwoWikiMultiHopQAEnv,
    TwoWikiMultiHopQAVectorEnv,
)
from atommem_gym.envs.trace_wrapper import RecordTraces, RecordVectorTraces
from atommem_gym.envs.vector_env import AtomMemVectorEnv
from atommem_gym.envs.wrappers import (
    ChatObservation,
    EvidenceReward,
    FormatPenalty,
    MemoryCost,
    PromptObservation,
    ShapedReward,
)

__all__ = [
    "AtomMemEnv",
    "AtomMemPool",
    "AtomMemVectorEnv",
    "ChatObservation",
    "Curriculum",
    "CurriculumSchedule",
    "DriftEnv",
    "DriftVectorEnv",
    "EvidenceReward",
    "FormatPenalty",
    "HotpotQAEnv",
    "HotpotQAVectorEnv",
    "MemoryCost",
    "MuSiQueEnv",
    "MuSiQueVectorEnv",
    "NeedleEnv",
    "NeedleVectorEnv",
    "PoolEnv",
    "PromptObservation",
    "RecordTraces",
    "RecordVectorTraces",
    "ShapedReward",
    "SyntheticEnv",
    "SyntheticVectorEnv",
    "TwoWikiMultiHopQAEnv",
    "TwoWikiMultiHopQAVectorEnv",
    "VectorCurriculum",
]
