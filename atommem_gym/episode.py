"""The episode as a state machine without I/O: begin a step, let a driver do the I/O, finish it (SPEC E, M).

A driver does for one or many episodes::

    step = episode.begin(action)              # parse, decide; nothing has changed yet
    step.take(reader.read(step.unread.values()))  # where a frozen reader answers
    scores = scorer.score(step.requests)      # any of the four may fail:
    store.write(...step.writes, deletes...)   # the episode is untouched
    hits = rank(...step.query...)             # and the same step may be begun again
    result = episode.finish(step, scores, hits)
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from gymnasium.error import ResetNeeded

from atommem_gym.actions import Answer, Create, Delete, Invalid, Operation, Read, Scratchpad, Update, parse, tag_names
from atommem_gym.actions.operations import text_of
from atommem_gym.config import EnvConfig
from atommem_gym.evidence import holds, suggests
from atommem_gym.memory.memory import Draft, Limits, Memory, Outcome, squeezed
from atommem_gym.readers.options import ORACLE
from atommem_gym.readers.protocol import Reading, ReadRequest
from atommem_gym.records.identity import identity
from atommem_gym.records.record import Item, Record
from atommem_gym.records.stream import Stream
from atommem_gym.scoring import ScoreRequest, abstention_metrics, exact_match, f1, measured
from atommem_gym.step import (
    Closing,
    EpisodeState,
    Intervention,
    Observation,
    OperationOutcome,
    Past,
    Phase,
    Shown,
    Step,
    StepResult,
)
from atommem_gym.tokenizers import Tokenizer


class Episode:
    """One episode of one item, by the rules of a configuration; it does no I/O and knows neither store nor embedder.

    Args:
        config: The configuration.
        item: The questions and documents.
        stream: The documents, cut into chunks.
        tokenizer: Counts the tokens of entries and of the scratchpad.
        memory: The memory to begin with; ``None``: an empty one.
        state: The state to continue with; ``None``: a new one.
    """

    _empty_texts = False
    """Whether reads, updates and scratchpads with an empty text are executed (SPEC A1)."""

    def __init__(
        self,
        config: EnvConfig,
        item: Item,
        stream: Stream,
        tokenizer: Tokenizer,
        memory: Memory | None = None,
        state: EpisodeState | None = None,
    ) -> None:
        self.config = config
        self.item = item
        self.stream = stream
        self.state = state or EpisodeState(memory or Memory(), peak_entries=len(memory.entries) if memory else 0)
        self.max_steps = config.max_steps or stream.num_chunks + 4 * len(item.questions)
        self._kinds = config.kinds
        self._tokenizer = tokenizer
        self._limits = limits_of(config, item)
        self.outcomes: tuple[OperationOutcome, ...] = ()
        """The result of each operation of the last action; empty after a reset or a restored snapshot. A fork has those
        of its parent."""
        self.readings: tuple[Reading, ...] = ()
        """Requests and answers of the frozen reader in the last step; empty when ``outcomes`` is."""
        self.past: Past | None = None
        """Set by a recorder that watches this episode, or taken over from its parent."""
        self.ledger: Past | None = None
        """The ledger of hindsight credit (``atommem_gym.envs.credit``), if it is in use (SPEC R7)."""
        self.intervention: Intervention | None = None
        """Set in a fork that plays a counterfactual; not part of a snapshot."""

    @property
    def phase(self) -> Phase:
        """Reading or answering."""
        return Phase.READING if self.state.chunk < self.stream.num_chunks else Phase.ANSWERING

    @cached_property
    def identity(self) -> dict[str, str]:
        """Id and hashes of the item, by which a snapshot recognises it (SPEC M14)."""
        return identity(self.item, self.stream.documents_hash)

    @property
    def open_question(self) -> int:
        """Index of the first question that is not closed; the number of questions if all are."""
        return len(self.state.closings)

    @property
    def evidence_recall(self) -> float:
        """Share of the evidence seen so far while answering, exactly or by the lenient heuristic; else 1."""
        needed = sum(len(question.evidence) for question in self.item.questions)
        return len(self.state.found) / needed if needed else 1.0

    def fork(self) -> Episode:
        """A copy in the same state that continues independently (SPEC M14); both share the item and the stream."""
        twin = object.__new__(type(self))
        # Everything that changes is in the state; the rest is never changed in place.
        twin.__dict__.update(self.__dict__)
        twin.state = self.state.copy()
        twin.past = None if self.past is None else self.past.branch()
        twin.ledger = None if self.ledger is None else self.ledger.branch()
        return twin

    def open(self, draft: Draft | None = None) -> Step:
        """The step before the first observation; it searches ``initial_query`` if there is one.

        Args:
            draft: Where to write, if several episodes share a memory; by default the episode's own memory.
        """
        return Step(self._draft() if draft is None else draft, query=self.config.initial_query, opening=True)

    def begin(self, action: str, draft: Draft | None = None) -> Step:
        """Decide what an action does; nothing changes until :meth:`finish`.

        Args:
            action: Any text, in the dialect of the configuration.
            draft: Where to write, if several episodes share a memory; by default the episode's own memory.

        Raises:
            ResetNeeded: the episode is over.
            TypeError: the action is not a string.
        """
        if self.state.over:
            raise ResetNeeded("the episode is over; call reset() before the next step()")
        if not isinstance(action, str):
            raise TypeError(
                f"the action {action!r} is a {type(action).__name__}; an action is a str, see env.action_space"
            )
        step = Step(
            self._draft() if draft is None else draft,
            query=self._standing_query(),
            reads=self.state.reads,
            names=tag_names(self.config.dialect),
        )
        limit = self.config.max_action_chars
        if len(action) > limit:
            gone = f"an action may have {limit} characters; the last {len(action) - limit} were not read"
            step.note(0, None, Outcome(True, reason="too_long", detail=gone))
            action = action[:limit]
        said = parse(action, self.config.dialect, self.config.thinking)
        if self.intervention is not None:
            said = self.intervention.operations(said)
        step.operations = [encodable(op) for op in said]
        for position, op in enumerate(step.operations, 1):
            self._apply(step, position, op)
        return step

    def finish(self, step: Step, scores: Sequence[float], hits: Sequence[tuple[int, float]]) -> StepResult:
        """Apply what was decided, and build the observation.

        Args:
            step: The step from :meth:`begin` or :meth:`open`.
            scores: One per request in ``step.requests``, in [0, 1].
            hits: Ids and cosine similarities of the entries most similar to ``step.query``, best first.
        """
        step.draft.commit()
        self._settle(step, scores, hits)
        return self._result(step)

    # The operations, one method each; ReleasedEpisode overrides what the released code does differently.

    def _apply(self, step: Step, position: int, op: Operation | Invalid) -> None:
        if op.kind not in self._kinds:
            step.reject(position, op, "disabled", f"this environment has no {op.kind}")
            return
        if isinstance(op, (Read, Update, Scratchpad)) and not (self._empty_texts or text_of(op)):
            step.reject(position, op, "empty", f"{op.kind} needs a text")
            return
        empty_create = isinstance(op, Invalid) and (op.kind, op.reason) == ("create", "empty")
        step.wrote |= empty_create or isinstance(op, (Create, Update))
        if isinstance(op, Invalid):
            step.reject(position, op, op.reason, op.detail)
        elif isinstance(op, Create):
            step.note(position, op, step.draft.create(op.text))
        elif isinstance(op, Update):
            self._update(step, position, op)
        elif isinstance(op, Delete):
            self._delete(step, position, op)
        elif isinstance(op, Scratchpad):
            step.note(position, op, step.draft.write_scratchpad(op.text))
        elif isinstance(op, Read):
            self._read(step, position, op)
        else:
            self._answer(step, position, op)

    def _update(self, step: Step, position: int, op: Update) -> None:
        entry_id = self._resolve(step, position, op)
        if entry_id is not None:
            step.note(position, op, step.draft.update(entry_id, op.text))

    def _delete(self, step: Step, position: int, op: Delete) -> None:
        entry_id = self._resolve(step, position, op)
        if entry_id is not None:
            step.note(position, op, step.draft.delete(entry_id))

    def _read(self, step: Step, position: int, op: Read) -> None:
        if step.closings:
            step.reject(position, op, "question_closed", _ONE_QUESTION)
            return
        if self.phase is Phase.ANSWERING:
            limit = self.config.max_reads_per_question
            if step.reads >= limit:
                step.reject(position, op, "read_limit", f"a question allows {limit} reads; it is closed unanswered")
                self._close_question(step, Closing("read_limit"))
                return
            step.reads += 1
        step.query = op.query
        step.note(position, op, Outcome(True))

    def _answer(self, step: Step, position: int, op: Answer) -> None:
        if self.phase is Phase.READING and not self.config.early_answer:
            step.reject(position, op, "not_yet", "questions are answered after the last chunk")
        elif step.closings:
            step.reject(position, op, "question_closed", _ONE_QUESTION)
        else:
            self._score_answer(step, op)
            step.note(position, op, Outcome(True))

    def _score_answer(self, step: Step, op: Answer) -> None:
        if self._holds_erased():
            # Such an answer does not count, and no scorer is called (SPEC D9).
            self._close_question(step, Closing("not_erased", op.text))
            return
        question = self.item.questions[self.open_question + len(step.closings)]
        if not (question.answerable or op.text) and self.config.dialect == "released":
            # In this dialect it is an answer without a box, not an abstention (SPEC A1).
            self._close_question(step, Closing("unscored"))
            return
        if not (op.text or self.config.policy_answers):
            step.unread[len(step.requests)] = ReadRequest(question, self.state.shown, self._visible_scratchpad)
        step.requests.append(self._request(question, op.text))
        self._close_question(step, Closing("answered", op.text))

    def _holds_erased(self) -> bool:
        """Whether the memory before this step holds an erased code, or an entry that ever held one (SPEC D9)."""
        if not self._limits.watched:
            return False
        entries = self.state.memory.entries.values()
        texts = [entry.text for entry in entries] + (self._scratchpads() if self.config.scratchpad else [])
        return any(entry.held for entry in entries) or any(map(self._limits.codes_in, texts))

    def _scratchpads(self) -> list[str]:
        """All scratchpads of the episode's memory."""
        return [self.state.memory.scratchpad]

    def _close_question(self, step: Step, closing: Closing) -> None:
        step.closings.append(closing)
        step.reads = 0

    def _resolve(self, step: Step, position: int, op: Update | Delete) -> int | None:
        """The id that an operation addresses; if it may not be addressed, report that and return ``None``."""
        entry_id = self._named(step, position, op)
        if self.config.dialect == "released":
            if entry_id in self.state.addressable:
                return entry_id
            shown = len(self.state.addressable)
            step.reject(position, op, "unknown_id", f"there was no Memory {op.id} among the {shown} shown")
            return None
        unknown = entry_id is None or step.draft.entry(entry_id) is None
        if self.config.addressing == "visible" and entry_id not in self.state.addressable:
            reason = (
                ("unknown_id", "there is no") if unknown else ("not_visible", "the current observation does not show")
            )
            step.reject(position, op, reason[0], f"{reason[1]} entry {op.id}")
            return None
        if entry_id is None:
            step.reject(position, op, "unknown_id", f"there is no entry {op.id}")
        return entry_id

    def _named(self, step: Step, position: int, op: Update | Delete) -> int | None:
        """The id that an operation names, live or not; ``None`` if it names none."""
        if self.intervention is not None:
            return self.intervention.addressed(step, position, op)
        if self.config.dialect == "released":
            shown = self.state.addressable
            return shown[op.id - 1] if 1 <= op.id <= len(shown) else None
        return op.id

    # What follows a step.

    def _draft(self) -> Draft:
        return Draft(self.state.memory, self._limits, self._tokenizer)

    def _settle(self, step: Step, scores: Sequence[float], hits: Sequence[tuple[int, float]]) -> None:
        """Apply everything that a step changes except the entries."""
        state = self.state
        state.peak_entries = max(state.peak_entries, len(state.memory.entries))
        self.outcomes = tuple(step.outcomes)
        self.readings = step.readings
        # If a reader answers, an action closes at most one question (SPEC E3).
        state.reader.add(self.open_question, step.readings)
        for kind, count in step.applied.items():
            state.applied[kind] += count
        state.rejected += len(step.reports)
        state.feedback = tuple(step.feedback)
        self._close(step, scores)
        if not step.opening:
            state.steps += 1
            if state.chunk < self.stream.num_chunks and (self.config.advance == "always" or step.wrote):
                state.chunk += 1
        state.reads = step.reads
        state.query = step.query
        self._show(hits)

    def _standing_query(self) -> str:
        return self.state.query if self.config.sticky_query else ""

    def _close(self, step: Step, scores: Sequence[float]) -> None:
        answered = zip(step.requests, scores, strict=True)
        for closing in step.closings:
            if closing.how == "answered":
                request, score = next(answered)
                closing = Closing("answered", request.prediction, score)
            self.state.closings.append(closing)

    def _show(self, hits: Sequence[tuple[int, float]]) -> None:
        """Show whole entries, best first, as long as they fit into ``max_memory_tokens`` (SPEC M10)."""
        room = self.config.max_memory_tokens
        shown = []
        for entry_id, score in hits:
            entry = self.state.memory.entries[entry_id]
            room -= entry.tokens
            if room < 0:
                break
            shown.append(Shown(entry_id, entry.text, score))
        self.state.shown = tuple(shown)
        self.state.addressable = tuple(entry.id for entry in shown)

    def _result(self, step: Step) -> StepResult:
        state = self.state
        terminated = self.open_question >= len(self.item.questions)
        truncated = not terminated and state.steps >= self.max_steps
        recall_before = self.evidence_recall
        self._note_evidence(self.open_question - len(step.closings), truncated)
        state.recall_gained = self.evidence_recall - recall_before
        info = self._info(step)
        reward = 0.0
        if terminated or truncated:
            state.over = True
            missing = len(self.item.questions) - len(state.closings)
            state.closings += [Closing("unanswered")] * missing
            counted = [state.closings[number].score for number in self.counted]
            reward = float(np.mean(counted)) if counted else 0.0
            info["episode_metrics"] = self._metrics()
        return StepResult(self.observation(), reward, terminated, truncated, info)

    def _info(self, step: Step) -> dict[str, Any]:
        """The ``info`` of every step (SPEC E11)."""
        return {
            "applied": {kind: step.applied.get(kind, 0) for kind in self._kinds},
            "rejected": [
                {"operation": r.operation, "position": r.position, "reason": r.reason, "detail": r.detail}
                for r in step.reports
            ],
            "entries": len(self.state.memory.entries),
            "item": self.item.id,
        }

    def _note_evidence(self, first_open: int, truncated: bool) -> None:
        """Note the evidence that the answering phase shows, and that of the scratchpad when a question is closed.

        Args:
            first_open: The first question that was open when the step began.
            truncated: Whether this step truncates the episode, so that no question stays open.
        """
        scratchpad = [self.state.memory.scratchpad] if self.config.scratchpad else []
        questions = len(self.item.questions)
        for question in range(first_open, questions if truncated else self.open_question):
            self._look_for_evidence(question, scratchpad)
        if self.phase is Phase.ANSWERING:
            texts = [entry.text for entry in self.state.shown] + scratchpad
            for question in range(self.open_question, questions):
                self._look_for_evidence(question, texts)

    def _look_for_evidence(self, question: int, texts: Sequence[str]) -> None:
        for i, evidence in enumerate(self.item.questions[question].evidence):
            key = (question, i)
            if key in self.state.found_exactly:
                continue
            if any(holds(evidence, text) for text in texts):
                self.state.found_exactly.add(key)
                self.state.found.add(key)
            elif key not in self.state.found and any(suggests(evidence, text) for text in texts):
                self.state.found.add(key)

    def _metrics(self) -> dict[str, Any]:
        state = self.state
        pairs = list(zip(self.item.questions, state.closings, strict=True))
        answers = [
            {
                "id": question.id,
                "question": question.question,
                "type": question.type,
                "gold": list(question.answers),
                "answer": closing.answer,
                "closed": closing.how,
                "score": closing.score,
                "em": measured(exact_match, self._request(question, closing.answer))
                if closing.how == "answered"
                else 0.0,
                "f1": measured(f1, self._request(question, closing.answer)) if closing.how == "answered" else 0.0,
                **({} if question.answerable else {"answerable": False}),
                **({"reader": True} if number in state.reader.answered else {}),
            }
            for number, (question, closing) in enumerate(pairs)
        ]
        counted = [answers[number] for number in self.counted]
        needed = sum(len(question.evidence) for question, _ in pairs)
        return {
            # None if no question counts.
            "em": float(np.mean([answer["em"] for answer in counted])) if counted else None,
            "f1": float(np.mean([answer["f1"] for answer in counted])) if counted else None,
            "answers": answers,
            "operations": {kind: state.applied[kind] for kind in self._kinds},
            "rejected": state.rejected,
            "peak_entries": state.peak_entries,
            "final_entries": len(state.memory.entries),
            # None if no question names evidence.
            "evidence_recall": self.evidence_recall if needed else None,
            "evidence_recall_exact": len(state.found_exactly) / needed if needed else None,
            "steps": state.steps,
            **(abstention_metrics(answers) if self._may_abstain else {}),
            **({} if self.config.policy_answers else {"reader": state.reader.counted()}),
        }

    @cached_property
    def counted(self) -> Sequence[int]:
        """Indices of the questions that count: all, or with the oracle reader those with an answer (SPEC R5)."""
        questions = range(len(self.item.questions))
        if self.config.reader != ORACLE:
            return questions
        return [number for number in questions if self.item.questions[number].answerable]

    def _request(self, question: Record, answer: str) -> ScoreRequest:
        answerable = question.answerable if self._may_abstain else None
        return ScoreRequest(question.question, answer, question.answers, answerable)

    @cached_property
    def _may_abstain(self) -> bool:
        """Whether questions of this task, or of this item, may have no answer (SPEC R5)."""
        return self.config.abstention or not all(question.answerable for question in self.item.questions)

    @property
    def _visible_scratchpad(self) -> str:
        return self.state.memory.scratchpad if self.config.scratchpad else ""

    def observation(self) -> Observation:
        """The current observation (SPEC E10)."""
        state = self.state
        return {
            "phase": int(self.phase),
            "progress": np.array([state.chunk, self.stream.num_chunks], np.int64),
            "question": self._question_text(),
            "chunk": self.stream.chunk(state.chunk) if state.chunk < self.stream.num_chunks else "",
            "scratchpad": self._visible_scratchpad,
            "query": state.query,
            "memories": tuple(
                {"id": entry.id, "text": entry.text, "score": np.array(entry.score)} for entry in state.shown
            ),
            "feedback": "\n".join(state.feedback),
            "reads_left": max(0, self.config.max_reads_per_question - state.reads),
            "steps_left": self.max_steps - state.steps,
        }

    def _question_text(self) -> str:
        """The open question; while reading, all open questions, numbered if the episode has several."""
        questions = [question.question for question in self.item.questions]
        if self.phase is Phase.ANSWERING:
            return questions[self.open_question] if self.open_question < len(questions) else ""
        if self.config.question_visible == "end":
            return ""
        if len(questions) == 1:
            return questions[0] if self.open_question == 0 else ""
        return "\n".join(f"{i}. {q}" for i, q in enumerate(questions, 1) if i > self.open_question)


def limits_of(config: EnvConfig, item: Item) -> Limits:
    """The limits of memory in an episode (SPEC M10), and the erased codes to watch for (SPEC D9)."""
    erased = tuple(map(squeezed, item.erased))
    return Limits(config.max_entry_tokens, config.max_scratchpad_tokens, config.max_entries, erased)


_ONE_QUESTION = "an action closes at most one question, and this one has"


def encodable(op: Operation | Invalid) -> Operation | Invalid:
    """The operation with lone surrogates replaced by U+FFFD, since no store, model or file can encode them."""
    if isinstance(op, (Invalid, Delete)):
        return op
    text = op.query if isinstance(op, Read) else op.text
    if text.isascii():
        return op
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return Read(text) if isinstance(op, Read) else Update(op.id, text) if isinstance(op, Update) else type(op)(text)
    return op
