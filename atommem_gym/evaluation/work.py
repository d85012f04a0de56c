"""Shows where the wall time of an evaluation went: seconds of agents, environments and recording, per start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

HEADERS = (
    "started",
    "episodes",
    "wall s",
    "episodes/s",
    "tokens/s",
    "agents s",
    "waits for env s",
    "env's work s",
    "ms a step",
    "recording s",
)
"""Column headers of :func:`work_rows`."""
STAGES = ("opening", "reading", "scoring", "embedding", "storing", "releasing")
"""Parts of an environment's work, see ``PoolStats``."""
KILLED = "killed"
"""Stands for the numbers of a start that was killed."""
NOTE = (
    "Seconds in agents and waits for the environment are added up over all episodes in flight, so they may exceed the "
    "wall time. The environment's work is what its threads did for all of them, in all and by step: making episodes "
    "(opening), a frozen reader's answers (reading), scoring, embedding, storing and searching, and deleting "
    "(releasing); waits beyond it are for a turn. A scripted agent's seconds are computation; a language model's are "
    "waits for it."
)


def work_rows(sessions: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """One row per start, in the order of ``HEADERS``; a killed start has no numbers, one with nothing to play no row.

    >>> work_rows([{"at": "2026-11-22T10:00:00+00:00"}])[0][:3]
    ['2026-11-22 10:00', '', 'killed']
    """
    return [_row(session) for session in sessions if session.get("left") != 0]


def work_lines(sessions: Sequence[Mapping[str, Any]]) -> list[str]:
    """The same in words, one line per start.

    >>> played = {"episodes": 4, "steps": 9}
    >>> session = {"at": "2026-11-22T10:00:00", "seconds": 8, "played": played, "work": {"agents": 6.5}}
    >>> print(work_lines([session])[0])  # doctest: +NORMALIZE_WHITESPACE
    2026-11-22 10:00: 4 episodes in 8.0 s (0.50 a second); agents 6.5 s, waits for environments 0.0 s;
    environments worked 0.0 s (0.00 ms a step), recording 0.0 s
    """
    lines = []
    for started, episodes, wall, rate, tokens, agents, waits, worked, a_step, recording in work_rows(sessions):
        if wall == KILLED:
            lines.append(f"{started}: killed")
            continue
        played = f"{episodes} {'episode' if episodes == '1' else 'episodes'}"
        drawn = f", {tokens} tokens a second" if tokens != "–" else ""
        seconds, _, detail = worked.removesuffix(")").partition(" (")
        work = ": ".join(part for part in (f"{a_step} ms a step", detail) if part)
        lines.append(
            f"{started}: {played} in {wall} s ({rate} a second{drawn}); agents {agents} s, waits for "
            f"environments {waits} s; environments worked {seconds} s ({work}), recording {recording} s"
        )
    return lines


def _row(session: Mapping[str, Any]) -> list[str]:
    started = str(session.get("at", ""))[:16].replace("T", " ")
    if "seconds" not in session:
        return [started, "", KILLED, *[""] * (len(HEADERS) - 3)]
    played: Mapping[str, float] = session.get("played", {})
    work: Mapping[str, float] = session.get("work", {})
    wall = max(float(session["seconds"]), 1e-9)
    tokens = played.get("prompt_tokens", 0) + played.get("completion_tokens", 0)
    worked = sum(work.get(stage, 0) for stage in STAGES)
    parts = {stage: work[stage] for stage in STAGES if work.get(stage, 0) >= 0.05}
    detail = f" ({', '.join(f'{stage} {seconds:.1f}' for stage, seconds in parts.items())})" if parts else ""
    return [
        started,
        f"{played.get('episodes', 0):,}",
        f"{wall:,.1f}",
        f"{played.get('episodes', 0) / wall:.2f}",
        f"{tokens / wall:,.0f}" if tokens else "–",
        f"{work.get('agents', 0):,.1f}",
        f"{work.get('environments', 0):,.1f}",
        f"{worked:,.1f}{detail}",
        f"{1000 * worked / played['steps']:.2f}" if played.get("steps") else "–",
        f"{work.get('recording', 0):,.1f}",
    ]
