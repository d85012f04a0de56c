"""A test kit that checks stores, environments and other plugins against the rules of the suite.

It needs Hypothesis, which the rest of the package does not: ``pip install 'atommem-gym[test]'``.
"""

try:
    import hypothesis  # noqa: F401  (imported here, so that its absence is explained once)
except ImportError as error:
    raise ImportError(
        "atommem_gym.testing needs Hypothesis, which is not installed: pip install 'atommem-gym[test]'"
    ) from error

from atommem_gym.testing.agent_check import check_agent
from atommem_gym.testing.dialect_check import check_dialect
from atommem_gym.testing.embedder_check import check_embedder
from atommem_gym.testing.env_check import check_memory_env
from atommem_gym.testing.env_machine import MemoryEnvMachine
from atommem_gym.testing.env_model import EpisodeModel, Malformed, Predicted
from atommem_gym.testing.hostile import HOSTILE_TEXTS, hostile_texts
from atommem_gym.testing.profiles import budget
from atommem_gym.testing.reader_check import check_reader
from atommem_gym.testing.store_check import check_store
from atommem_gym.testing.store_machine import MemoryStoreMachine, NetEffect
from atommem_gym.testing.strategies import actions, operations, texts
from atommem_gym.testing.tasks import EpisodePlan, documents, episodes, items, records
from atommem_gym.testing.tokenizer_check import check_tokenizer

__all__ = [
    "HOSTILE_TEXTS",
    "EpisodeModel",
    "EpisodePlan",
    "Malformed",
    "MemoryEnvMachine",
    "MemoryStoreMachine",
    "NetEffect",
    "Predicted",
    "actions",
    "budget",
    "check_agent",
    "check_dialect",
    "check_embedder",
    "check_memory_env",
    "check_reader",
    "check_store",
    "check_tokenizer",
    "documents",
    "episodes",
    "hostile_texts",
    "items",
    "operations",
    "records",
    "texts",
]
