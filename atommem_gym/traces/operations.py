"""What became of each operation of an action, from the action, what was reported, and the memory around it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from atommem_gym.actions import Delete, Invalid, Operation, Read, Update, parse
from atommem_gym.config import EnvConfig
from atommem_gym.episode import encodable
from atommem_gym.memory.memory import Memory
from atommem_gym.step import CUTS
from atommem_gym.traces.record import OperationOutcome, OperationTrace


def read_operations(
    action: str,
    config: EnvConfig,
    rejected: Iterable[Mapping[str, Any]],
    texts: Mapping[int, str],
    next_id: int,
    addressable: Sequence[int],
    memory: Memory,
) -> tuple[OperationTrace, ...]:
    """The operations of an action with their outcome, in the order in which they are written.

    Args:
        action: The action's text.
        config: Of its environment.
        rejected: ``info["rejected"]`` of its step.
        texts: The entries before it, by id.
        next_id: The id of the next entry before it.
        addressable: Ids of the entries that could be named by their place, in order.
        memory: The memory after it.
    """
    # Of two reports of one operation (its text was cut, and is embedded in part all the same), the first counts.
    reports = {report["position"]: report for report in reversed(list(rejected))}
    found = []
    if 0 in reports:
        whole = reports[0]
        found.append(OperationTrace(whole["operation"], 0, "cut", reason=whole["reason"], detail=whole["detail"]))
    ledger = _Ledger(config, dict(texts), next_id, addressable, memory)
    for position, op in enumerate(parse(action[: config.max_action_chars], config.dialect), 1):
        op = encodable(op)
        report = reports.get(position)
        outcome: OperationOutcome = "applied" if report is None else "cut" if report["reason"] in CUTS else "rejected"
        found.append(
            OperationTrace(
                kind=op.kind,
                position=position,
                outcome=outcome,
                text=None if isinstance(op, (Invalid, Read, Delete)) else op.text,
                query=op.query if isinstance(op, Read) else None,
                id=op.id if isinstance(op, (Update, Delete)) else None,
                reason=None if report is None else report["reason"],
                detail="" if report is None else report["detail"],
                entry_id=None if outcome == "rejected" or isinstance(op, Invalid) else ledger.entry(op),
            )
        )
    return tuple(found)


class _Ledger:
    """Follows an action operation by operation, to tell which entry each of them was about."""

    def __init__(
        self, config: EnvConfig, texts: dict[int, str], next_id: int, addressable: Sequence[int], memory: Memory
    ) -> None:
        self._by_place = config.dialect == "released"
        self._by_content = config.preset == "released"
        self._before = dict(texts)
        self._live = texts
        self._next_id = next_id
        self._addressable = addressable
        self._memory = memory

    def entry(self, op: Operation) -> int | None:
        """The entry that an executed operation created, updated or deleted."""
        if isinstance(op, (Update, Delete)):
            return self._addressed(op)
        return self._created(op.text) if op.kind == "create" and not isinstance(op, Read) else None

    def _addressed(self, op: Update | Delete) -> int:
        entry_id = self._addressable[op.id - 1] if self._by_place else op.id
        if not self._by_content:
            return entry_id
        # The released code finds the entry by its text, so the first of several equal ones goes, and updates by
        # adding anew (RELEASED 12, D6).
        text = self._before.get(entry_id, "")
        twin = min((i for i, one in self._live.items() if one == text), default=entry_id)
        self._live.pop(twin, None)
        return self._created(op.text) if isinstance(op, Update) else twin

    def _created(self, text: str) -> int:
        entry_id = self._next_id
        self._next_id += 1
        entry = self._memory.entries.get(entry_id)
        self._live[entry_id] = text if entry is None else entry.text
        return entry_id
