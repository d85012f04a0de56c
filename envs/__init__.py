"""The faces of an episode: Gymnasium environments, their wrappers and renderings."""

from atommem_gym.envs.atommem_env import AtomMemEnv
from atommem_gym.envs.pool import AtomMemPool
from atommem_gym.envs.pool_env import PoolEnv
from atommem_gym.envs.tasks import (
    DriftEnv,
    DriftVectorEnv,
    HotpotQAEnv,
    HotpotQAVectorEnv,
    MuSiQueEnv,
    MuSiQueVectorEnv,
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
    "DriftEnv",
    "DriftVectorEnv",
    "EvidenceReward",
    "FormatPenalty",
    "HotpotQAEnv",
    "HotpotQAVectorEnv",
    "MemoryCost",
    "MuSiQueEnv",
    "MuSiQueVectorEnv",
    "PoolEnv",
    "PromptObservation",
    "RecordTraces",
    "RecordVectorTraces",
    "ShapedReward",
    "SyntheticEnv",
    "SyntheticVectorEnv",
    "TwoWikiMultiHopQAEnv",
    "TwoWikiMultiHopQAVectorEnv",
]
