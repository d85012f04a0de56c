"""Where public names are imported from today: the one file of the net that changes when a module moves.

Everything else here imports only ``atommem_gym``, ``gymnasium``, ``atommem_gym.envs`` and ``atommem_gym.testing``, and
starts the command line by its entry point.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

PUBLIC: dict[str, tuple[str, ...]] = {
    "atommem_gym": ("__version__",),
    "atommem_gym.actions": (
        "Answer",
        "Create",
        "Delete",
        "Invalid",
        "Read",
        "Scratchpad",
        "Update",
        "format_action",
        "parse",
    ),
    "atommem_gym.actions.operations": ("operation", "text_of"),
    "atommem_gym.agents": ("AGENTS", "Agent", "make_agent", "register_agent"),
    "atommem_gym.agents.players.language_model": ("Completion", "Sampling", "load_model"),
    "atommem_gym.envs.macro": ("EmbeddingObservation", "MacroActions"),
    "atommem_gym.agents.players.openai_model": ("OpenAIModel",),
    "atommem_gym.agents.play": ("play_episode",),
    "atommem_gym.agents.players.player": ("Turn", "make_player", "player_keywords"),
    "atommem_gym.agents.rollout": ("rollout",),
    "atommem_gym.agents.session": ("TOTALS", "Messages", "Policy", "Reply", "Session", "SessionStep", "play_session"),
    "atommem_gym.agents.shared_pools": ("SharedPool", "close_pools", "shared_pool"),
    "atommem_gym.agents.team": ("make_team",),
    "atommem_gym.agents.token_policy": ("Generated", "TokenLimits", "TokenPolicy"),
    "atommem_gym.agents.players.team": ("make_llm_team",),
    "atommem_gym.agents.team_play": ("aplay_team", "play_team"),
    "atommem_gym.agents.players.transformers_model": ("TransformersModel",),
    "atommem_gym.config": ("EnvConfig",),
    "atommem_gym.custom": ("CustomTask",),
    "atommem_gym.records.layout": ("arrange", "stable_rng"),
    "atommem_gym.records.record": ("Document", "Evidence", "Item", "Record"),
    "atommem_gym.envs": (
        "AtomMemEnv",
        "AtomMemPool",
        "AtomMemVectorEnv",
        "ChatObservation",
        "Curriculum",
        "CurriculumSchedule",
        "ConversationEnv",
        "DriftEnv",
        "FactConsolidationEnv",
        "EvidenceReward",
        "ForgetEnv",
        "FormatPenalty",
        "HindsightCredit",
        "HotpotQAEnv",
        "LoCoMoEnv",
        "LongMemEvalEnv",
        "MemoryCost",
        "MuSiQueEnv",
        "NeedleEnv",
        "PoolEnv",
        "PromptObservation",
        "RecordTraces",
        "ShapedReward",
        "SyntheticEnv",
        "TwoWikiMultiHopQAEnv",
    ),
    "atommem_gym.envs.shaping": ("load_shaping",),
    "atommem_gym.envs.team": ("env", "parallel_env", "raw_env"),
    "atommem_gym.envs.wrappers.vector": (
        "ChatObservation",
        "Curriculum",
        "EvidenceReward",
        "FormatPenalty",
        "HindsightCredit",
        "MemoryCost",
        "PromptObservation",
        "RecordTraces",
        "ShapedReward",
    ),
    "atommem_gym.errors": ("AtomMemError", "ConfigError", "DatasetUnavailableError", "EmbedderError", "StoreError"),
    "atommem_gym.evaluation": ("Plan", "compare", "evaluate", "make_report", "read_plan", "read_run"),
    "atommem_gym.embedders.hashing_embedder": ("HashingEmbedder",),
    "atommem_gym.stores.numpy_store": ("NumpyStore",),
    "atommem_gym.memory.protocols": ("Embedder", "Rows", "Store", "StoredEpisode"),
    "atommem_gym.policies.documents": ("harmless",),
    "atommem_gym.policies.writing": ("write_action",),
    "atommem_gym.prompts": ("PromptTemplate",),
    "atommem_gym.registration": ("TASKS", "Task", "register_task"),
    "atommem_gym.scoring": ("Scorer", "exact_match"),
    "atommem_gym.task": ("load_attribute",),
    "atommem_gym.testing": (
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
    ),
    "atommem_gym.traces": (
        "CAUSES",
        "AgentTrace",
        "EpisodeTrace",
        "StepSeconds",
        "StepTrace",
        "TraceError",
        "TraceRecorder",
        "TraceWriter",
        "count_traces",
        "evidence_fates",
        "failure_causes",
        "read_traces",
        "write_traces",
    ),
    "atommem_gym.traces.replay": ("Replayer",),
    "atommem_gym.traces.counterfactual": ("Counterfactual", "Edit", "counterfactuals"),
}
"""Every public name that the documentation and the testing kit name, by the module it is imported from.

A name may move to another module. That one disappears, or is called otherwise, is a change of what was promised.
"""

OPTIONAL: dict[str, tuple[str, ...]] = {
    "atommem_gym.agents.learn.grpo": ("Options", "train"),
    "atommem_gym.agents.learn.ppo": ("Options", "train"),
    "atommem_gym.agents.learn.ppo_episodes": ("Options", "train"),
    "atommem_gym.bridges.trl": ("AtomMemRolloutWorker",),
}
"""The same, of modules that need an extra."""


def labels() -> list[str]:
    """``module:name`` of every public name."""
    return [f"{module}:{name}" for module, names in {**PUBLIC, **OPTIONAL}.items() for name in names]


def public(label: str) -> Any:
    """The object of a label ``module:name``; of a bare name, from the one module that has it."""
    module, _, name = label.rpartition(":")
    if not module:
        homes = [home for home, names in PUBLIC.items() if name in names]
        assert len(homes) == 1, f"{name} is imported from {homes or 'no module'} in {__file__}"
        (module,) = homes
    return getattr(import_module(module), name)
