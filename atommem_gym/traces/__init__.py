"""Traces: versioned records of episodes, which can be written, read, replayed and explained."""

from atommem_gym.traces.causes import evidence_fates, failure_causes
from atommem_gym.traces.files import TraceWriter, count_traces, read_traces, write_traces
from atommem_gym.traces.record import CAUSES, AgentTrace, EpisodeTrace, StepSeconds, StepTrace, TraceError
from atommem_gym.traces.recorder import TraceRecorder

__all__ = [
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
]
