"""The environments by task. Their docstrings, completed by the shared sections, are the manual pages."""

from __future__ import annotations

import inspect
from typing import TypeVar

from atommem_gym.envs.atommem_env import AtomMemEnv

_SHARED = """
## Action Space

`ActionText(max_action_chars)`: any `str`. It may hold any number of operations, executed in the order written; text
outside of tags is free, and `<think>…</think>` is ignored.

| operation | effect |
|---|---|
| `<create>text</create>` | adds an entry; its id is reported in the next observation |
| `<read>query</read>` | shows the `top_k` most similar entries in the next observation |
| `<update id="3">text</update>` | replaces the text of entry 3 |
| `<delete id="3"/>` | removes entry 3 |
| `<scratchpad>text</scratchpad>` | replaces the scratchpad |
| `<answer>text</answer>` | closes the open question; `<answer/>` with an empty answer |

Malformed and impossible operations are rejected one by one and reported; no text raises.

## Observation Space

A `Dict`:

| field | space | meaning |
|---|---|---|
| `phase` | `Discrete(2)` | 0 reading, 1 answering |
| `progress` | `Box(0, …, (2,), int64)` | chunks read, chunks in total |
| `question` | text | the open question; while reading all of them, numbered, or none with `question_visible="end"` |
| `chunk` | text | the chunk to read; empty when answering |
| `scratchpad` | text | the scratchpad |
| `query` | text | the query of the step before; with `sticky_query` the last one |
| `memories` | `Sequence(Dict(id, text, score))` | the entries found, best first; `score` is the cosine similarity |
| `feedback` | text | one line per created entry and per rejected or cut operation of the step before |
| `reads_left` | `Discrete` | reads that the open question still allows |
| `steps_left` | `Discrete` | steps until truncation |

`PromptObservation` and `ChatObservation` turn it into a prompt.

## Starting State

Memory is empty and the first chunk is shown. `reset(seed=…)` draws an item; `reset(options={…})` chooses:

| option | effect |
|---|---|
| `"index": i` | plays item `i`, from 0 to `num_items - 1` |
| `"shuffle_seed": s` | another layout of the item: order of documents and questions, distractors |
| `"memory": key` | continues the memory that a kept database holds under `key` |
| `"difficulty": d` | plays this episode at difficulty `d`, from 0 to 1 |

## Rewards

0 until the episode ends, then the mean exact match over its questions, in [0, 1] (`reward=` changes the measure).

## Episode End

Terminated when every question is closed: by an answer, or by a read over `max_reads_per_question`. Truncated
after `max_steps` (by default chunks + 4 per question); unanswered questions score 0. The limit is part of the task and
visible in `steps_left`, and the reward is final: learners must not bootstrap a value after truncation.

## Information

At every step `applied` (executed operations by kind), `rejected` (records with operation, position, reason, detail),
`entries` (number of live entries), `item` (its id). At the end also `episode_metrics`: `em`, `f1`, `answers` (one
record per question), `operations`, `rejected`, `peak_entries`, `final_entries`, `evidence_recall` (and
`evidence_recall_exact`; `None` if no question names evidence), `steps`. If questions may have no answer, also
`em_answerable`, `abstention_precision` and `abstention_recall`, `None` if there is nothing to count.

## Arguments

Keyword arguments of `gymnasium.make`, all JSON values; `EnvConfig` lists all with their defaults. The most used:
`source`, `split`, `num_docs`, `questions_per_episode`, `chunk_tokens`, `tokenizer`, `embedder`, `store`, `top_k`,
`operations`, `scratchpad`, `storage`, `dialect`, `preset`, `order`, `question_visible`, `reward`, `max_steps`,
`difficulty`.

## Version History

* v0: initial version.
"""

EnvClass = TypeVar("EnvClass", bound=type[AtomMemEnv])


def _manual(cls: EnvClass) -> EnvClass:
    """Complete the class docstring with the sections that all environments share."""
    cls.__doc__ = f"{inspect.cleandoc(cls.__doc__ or '')}\n{_SHARED}"
    return cls


@_manual
class HotpotQAEnv(AtomMemEnv):
    """Two-hop questions of HotpotQA in a stream of Wikipedia paragraphs: `AtomMem-HotpotQA-v0`.

    ## Description

    The agent reads `num_docs` paragraphs, among them the two that a question needs and its eight official distractors,
    in chunks of `chunk_tokens` tokens. *Bridge* questions go through an entity that the question does not name;
    *comparison* questions ask which of two is earlier, larger, …, or are answered by yes or no. Evidence is the
    official supporting sentences. Yang et al. 2018, "HotpotQA: A Dataset for Diverse, Explainable Multi-hop Question
    Answering".
    """

    task = "HotpotQA"


@_manual
class TwoWikiMultiHopQAEnv(AtomMemEnv):
    """Two- to four-hop questions of 2WikiMultiHopQA: `AtomMem-2WikiMultiHopQA-v0`.

    ## Description

    Types: *compositional*, *inference*, *comparison* and *bridge_comparison* (four paragraphs: two bridges, then a
    comparison). Evidence is the official supporting sentences, or the gold paragraphs of a record whose sentence
    numbers are not official. Only the record's answer is accepted. The official scorer also accepts the aliases and
    demonyms of its `answer_id`, from a separate file that is not read here, so exact match may be lower. Ho et al.
    2020, "Constructing A Multi-hop QA Dataset for Comprehensive Evaluation of Reasoning Steps".
    """

    task = "2WikiMultiHopQA"


@_manual
class MuSiQueEnv(AtomMemEnv):
    """Two- to four-hop questions of MuSiQue-Ans, designed to prevent short cuts: `AtomMem-MuSiQue-v0`.

    ## Description

    Questions are composed of two to four single-hop questions; answers have aliases. Evidence is the gold paragraphs.
    Trivedi et al. 2022, "MuSiQue: Multihop Questions via Single-hop Question Composition".
    """

    task = "MuSiQue"


@_manual
class SyntheticEnv(AtomMemEnv):
    """Generated multi-hop questions over a generated world, without network or files: `AtomMem-Synthetic-v0`.

    ## Description

    Every item is a separate small world, computed only from the split and the item's number: invented people,
    places, companies and works, one encyclopaedia-like document each, and questions of two to four hops (bridge,
    comparison, composition, intersection) whose facts are spread over several documents.
    Distractors state the same relations of other entities. A question alone does not reveal its answer, except that
    a comparison names both candidates.
    """

    task = "Synthetic"


@_manual
class NeedleEnv(AtomMemEnv):
    """Sentences hidden in a haystack of any length: `AtomMem-Needle-v0`.

    ## Description

    After RULER (Hsieh et al. 2024, "RULER: What's the Real Context Size of Your Long-Context Language Models?"). A
    needle states the code of a key: "The access code of the amber lighthouse is 4830217." `kind` is *single* (one key),
    *multi_key* (among needles of similar keys), *multi_value* (one key with several codes; all of them are asked for at
    once, in ascending order, which makes exact match well defined; `reward="f1"` gives partial credit) or *multi_query*
    (several keys, one question each). The haystack is documents of the synthetic world, pages of noise, or your own
    text file; `length` counts its tokens, in the environment's `tokenizer`, and documents are made when they are read:
    a stream of millions of tokens is never in memory as a whole. `depth` says where the needles are; lists of depths
    and lengths make a grid over the items. Evidence is the needles.

    Own keyword arguments (`NeedleOptions`): `kind`, `haystack`, `text`, `length`, `depth`, `needles`,
    `distractors`, `value_type`. If `length` is given, `num_docs` has no effect. `order` cannot be changed.
    """

    task = "Needle"


@_manual
class DriftEnv(AtomMemEnv):
    """Dated notices about institutions whose facts change, so that memory must be revised: `AtomMem-Drift-v0`.

    ## Description

    Every item is a separate small town: museums, schools and firms with a director, an address, a treasurer and so
    on. `num_docs` notices arrive in the order of time; the title of a notice is the institution. A fact is *stated*,
    *superseded* ("As of 12 May 2031, …"), *corrected* (with effect from the date of the corrected notice) and
    *withdrawn* (no longer known). Institutions close and new ones open; no question is about a closed one. Untrusted
    newspapers print hearsay, which changes no fact. Some notices are small talk. The first document states these rules.

    Each question is about a fact of an institution that is open at the end: *latest* (the present value), *as_of* (the
    value on a date, according to the whole stream), *count* (how often it changed), *known* (withdrawn: the answer is
    "unknown"). They are hidden while reading, chunks are short (`chunk_tokens=500`), and there are `max_entries=12`
    entries and a scratchpad of 512 tokens for 200 notices, so outdated entries must be updated or deleted. Evidence is
    the notices that decide the answer, never outdated ones.

    Own keyword arguments (`DriftOptions`): `entities`, `attributes`, `changes_per_fact`, `distance`,
    `distractors`, `sources`, `hearsay`, `corrections`, `turnover`, `question_kinds`. `order` cannot be changed: the
    stream is in the order of time.
    """

    task = "Drift"


@_manual
class ForgetEnv(AtomMemEnv):
    """Sessions in which codes are told, changed, and erased on request: `AtomMem-Forget-v0`.

    ## Description

    A context is `sessions` dated sessions between people and an assistant, each about one place. In most of them
    somebody tells a code ("The gate code of Harrow College is 7QK2-M4XP."), replaces one, or asks to erase one:
    such a request names the code and never its value. The first document states these rules. A question asks
    for a code that may be kept, or for an erased one; the latter has no answer: abstain.

    A question counts only if nothing erased is kept when it is answered: in the state on which the closing action was
    decided, before that action's own operations, no live entry may ever have held an erased code and no scratchpad may
    hold one, in any spelling (case, spaces and punctuation are ignored). An update keeps an entry's history; only a
    delete removes it. Otherwise the question scores 0 and is reported as closed `not_erased`. A code that the stream
    asks to erase counts as erased from the first step on, even before the request is read. There is no scratchpad,
    there are 20 entries for 60 sessions (`max_entries=20`), chunks are short (`chunk_tokens=500`), and questions are
    hidden while reading. Evidence is the line with the latest code.

    Own keyword arguments (`ForgetOptions`): `sessions`, `places`, `codes`, `erased`, `changed`, `distance`,
    `chatter`, `questions`, `unanswerable`. `num_docs` is refused and `order` is `"given"`.
    """

    task = "Forget"


@_manual
class ConversationEnv(AtomMemEnv):
    """Generated dialogues of two people over months, in dated sessions: `AtomMem-Conversation-v0`.

    ## Description

    A context is a conversation of `sessions` dated sessions between two invented people, computed only from the split
    and its number; each session is a document, each turn a line. They tell of events ("On Saturday I adopted a
    tortoise."), of plans and opinions that may change later, and of friends whom they met, and they make small talk.
    Often the other person tells of the same kind of thing with another value. An item is one complete conversation, in
    its order, and `questions_per_episode` of its questions, of five kinds: *one_session*, *several_sessions* (a friend
    who is not named, known from one session and described in another), *time* (the day of an event, which follows from
    what was said and the date of the session), *update* (a plan or an opinion as it is after all changes) and
    *unanswerable* (only the other person told of it: abstain). A question alone does not reveal its answer: values are
    drawn evenly from pools of 20 or more, or invented. Evidence is the turns that decide the answer, never outdated
    ones.

    Own keyword arguments (`ConversationOptions`): `sessions`, `small_talk`, `changes`, `lookalikes`,
    `questions`, `question_kinds`. `num_docs` is refused and `order` is `"given"`.
    """

    task = "Conversation"


@_manual
class LoCoMoEnv(AtomMemEnv):
    """Questions about long dialogues of two people, in dated sessions: `AtomMem-LoCoMo-v0`.

    ## Description

    A context is a conversation of some 20 to 35 sessions over months; each session is a document, each turn a line
    (`Ada: …`, with `[shares a photo of …]` if a picture was sent), and its head gives date and speakers. An item is one
    complete conversation, in its order, and `questions_per_episode` of its questions: *single-hop*, *multi-hop*
    (several sessions), *temporal*, *open-domain* and *adversarial*. The last have no answer: abstain. Evidence is the
    turns that the data set names; if none of them exists, evidence recall is absent. `corrections=PATH` reads a list of
    corrected answers and evidence. Maharana et al. 2024, "Evaluating Very Long-Term Conversational Memory of LLM
    Agents". Licence CC BY-NC 4.0: pass the file, `source="locomo10.json"`; it is not part of this package. `atommem
    data check` names evidence that does not exist and labels that contradict each other.

    Own keyword arguments (`LoCoMoOptions`): `corrections`. `num_docs` is refused and `order` is `"given"`.
    """

    task = "LoCoMo"


@_manual
class FactConsolidationEnv(AtomMemEnv):
    """Lists of numbered facts in which later ones win, with many questions: `AtomMem-FactConsolidation-v0`.

    ## Description

    From MemoryAgentBench. A context is a numbered list of hundreds to thousands of facts; each ten are a document. A
    fact may contradict an earlier one and then replaces it, so memory must be updated; questions are *single-hop* or
    *multi-hop* over the facts that hold at the end. Facts contradict the real world, so a model that answers from prior
    knowledge is wrong. The default scorer is the official one, `reward="subem"`: an accepted answer occurs in the given
    one as whole words. The data set names no evidence, so evidence recall is absent. Hu et al. 2025, "Evaluating Memory
    in LLM Agents via Incremental Multi-Turn Interactions".

    `num_docs` is refused and `order` is `"given"`: contexts are always complete.
    """

    task = "FactConsolidation"


@_manual
class LongMemEvalEnv(AtomMemEnv):
    """A question about months of chats with an assistant: `AtomMem-LongMemEval-v0`.

    ## Description

    A context is one user's history, some 40 sessions (`longmemeval_s`) or 500 (`longmemeval_m`), sorted by their dates;
    each session between `user` and `assistant` is a document. Each history has one question, which states on which day
    it is asked. Types are those of the data set: *single-session-user*, *multi-session*, *temporal-reasoning*,
    *knowledge-update* and others; questions whose id ends in `_abs` have no answer: abstain. Evidence is the turns
    that are marked as holding the answer, or else the sessions that are named. Wu et al. 2024, "LongMemEval:
    Benchmarking Chat Assistants on Long-Term Interactive Memory". Pass the published JSON,
    `source="longmemeval_s_cleaned.json"`.

    `num_docs` is refused and `order` is `"given"`: contexts are always complete.
    """

    task = "LongMemEval"
