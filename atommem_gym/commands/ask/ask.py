"""``atommem ask``: a policy reads the user's documents chunk by chunk and answers questions from its memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console, Group
from rich.text import Text

from atommem_gym.agents import AGENTS, BUILT_IN, Agent, make_agent
from atommem_gym.agents.players.language_model import LanguageModel, load_model
from atommem_gym.agents.players.openai_model import await_server
from atommem_gym.agents.players.player import Player, ScriptedPlayer, Turn, make_player, player_keywords
from atommem_gym.agents.players.roles import ROLES
from atommem_gym.agents.scripted.quoting import QUOTING, make_quoting_agent
from atommem_gym.commands.ask.display import Display
from atommem_gym.commands.ask.episode import Asked, Seen, in_sight, play, unscored
from atommem_gym.commands.ask.memory import Memory, answering_from, find_memory, without_kept
from atommem_gym.commands.consoles import messages, output, print_json
from atommem_gym.commands.options import check_places, server_of_environment
from atommem_gym.commands.run import Repeated, parse_settings
from atommem_gym.envs import AtomMemEnv
from atommem_gym.errors import ConfigError, counted
from atommem_gym.plugins.loading import is_plugin
from atommem_gym.records.own_files import OwnFiles, OwnItems, read_files
from atommem_gym.step import Observation
from atommem_gym.terminal import Line, on_one_line, printable
from atommem_gym.traces import EpisodeTrace, TraceWriter
from atommem_gym.trust import BASE_URL, masked

UNREAD = 1
"""Exit status if a file could not be read, and the others were."""
_FIXED = {
    "source": "the FILEs are read",
    "split": "the FILEs are read",
    "num_docs": "all of the FILEs is read",
    "questions_per_episode": "each -q is a question",
    "order": "documents are read in their order",
    "reward": "there are no gold answers to score by",
    "store": "use --memory to keep entries",
    "keep_memory": "use --memory to keep entries",
    "chunk_tokens": "use --chunk-tokens",
}
"""Keyword arguments of an environment that --set may not give here, and why."""


@dataclass
class Ask:
    """Ask questions about your own documents.

    An agent reads the files chunk by chunk, stores in memory what it will need, and answers from memory alone. With
    --model the agent uses a language model. Without, a scripted agent stores passages and quotes the sentences that
    share most words with the question. --memory keeps the memory, and continues it next time, with more files or none.

    Example: atommem ask report.pdf notes/ -q "Who decided it?" -q "When?"

    Example: atommem ask -q "Why?" --memory notes.db
    """

    files: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[FILE…]")] = ()
    """Text, Markdown, HTML and PDF files, folders of these, or patterns in quotes; read in this order."""
    questions: Annotated[
        tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(name="question", aliases=("-q",), metavar="TEXT")
    ] = ()
    """A question. Several are answered in their order."""
    agent: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """The agent: keep_all, tidy or overwrite, which quote; with --model crud, add_only, overwrite_llm, long_context or
    retrieve_then_read; or an agent of yours, package.module:name. By default keep_all, with --model crud."""
    model: Annotated[str | None, tyro.conf.arg(metavar="URL|NAME")] = None
    """The language model: the URL of an OpenAI-compatible server, or a name or folder for transformers. By default, for
    an agent that needs one, the server at OPENAI_BASE_URL."""
    model_name: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """The server's name of the model, if it serves several."""
    option: Annotated[Repeated, tyro.conf.UseAppendAction, tyro.conf.arg(metavar="KEY=VALUE…")] = ()
    """Options of agents with a language model, such as temperature=0.7 max_tokens=1024."""
    model_option: Annotated[Repeated, tyro.conf.UseAppendAction, tyro.conf.arg(metavar="KEY=VALUE…")] = ()
    """Settings of the model, such as timeout=60 'extra_body={"chat_template_kwargs": {"enable_thinking": false}}'. A
    server takes timeout, patience, concurrency, extra_body, opens_think; a local model dtype, device, max_batch."""
    memory: Annotated[str | None, tyro.conf.arg(metavar="DATABASE")] = None
    """Keep the memory in this database, a folder or http://host:19530. A memory that is there already is continued."""
    key: Annotated[str | None, tyro.conf.arg(metavar="KEY")] = None
    """Which memory to continue, if the database keeps several; its beginning is enough. `atommem memory ls` lists
    them."""
    new_memory: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Begin a new memory in the database, instead of continuing one."""
    chunk_tokens: Annotated[int, tyro.conf.arg(metavar="N")] = 4000
    """Tokens per chunk."""
    settings: Annotated[Repeated, tyro.conf.UseAppendAction, tyro.conf.arg(name="set", metavar="KEY=VALUE…")] = ()
    """Keyword arguments of the environment, such as embedder=minilm top_k=12."""
    trace: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Append the episode to this file of traces, for `atommem view`."""
    quiet: Annotated[bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(aliases=("-Q",))] = False
    """Print only questions and answers. Standard error still names files that cannot be read, and the server if
    OPENAI_BASE_URL names it."""
    as_json: Annotated[bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(name="json")] = False
    """Print JSON: questions, answers, and what the agent saw when it answered."""

    def run(self) -> int:
        """Read, answer, print; the exit status."""
        if self.model is None and self._agent in ROLES and (server := server_of_environment()) is not None:
            self.model = server
            note = f"note: the model's server is {masked(server)}, from {BASE_URL}"
            messages().print(Text(printable(note), style="yellow"))
        self._check()
        make, model = self._player()
        files = read_files(self.files)
        console = messages()
        for note in () if self.quiet else files.notes:
            console.print(Text(printable(f"note: {note}"), style="yellow"))
        for unread in files.unread:
            console.print(Text(printable(f"not read: {unread}"), style="bold yellow"))
        given = self._given()
        memory = find_memory(self.memory, self.key, new=self.new_memory, settings=given)
        if memory.key is None and not files.documents:
            raise ConfigError("there is nothing to answer from: name FILEs to read, or a --memory that holds something")
        if self.memory is not None and memory.key is not None and files.documents:
            files, known = without_kept(files, self.memory, memory.key)
            for name in known:
                note = (
                    f"{name} is kept in {masked(self.memory)} already, passages of it that are there are not read "
                    "again; leave the file out to answer from memory, or begin anew with --new-memory"
                )
                console.print(Text(printable(f"note: {note}"), style="yellow"), soft_wrap=True)
        # With files to read it is written, and where that cannot be, opening it says so.
        usable = nullcontext((memory, None)) if files.documents else answering_from(memory, self.memory)
        with usable as (memory, caution):
            if caution is not None:
                console.print(Text(printable(f"note: {caution}"), style="yellow"), soft_wrap=True)
            return self._ask(make, model, files, memory, given)

    def _ask(
        self,
        make: Callable[[], Player],
        model: LanguageModel | None,
        files: OwnFiles,
        memory: Memory,
        given: dict[str, Any],
    ) -> int:
        role = player_keywords(self._agent)
        keywords = {"chunk_tokens": self.chunk_tokens, **memory.keywords, **given, **memory.embedding, **role}
        env = AtomMemEnv(items=OwnItems(files.documents, self.questions), reward=unscored, **keywords)
        try:
            # Opened first: nobody wants to hear after an hour of reading that the record cannot be written.
            with TraceWriter(self.trace) if self.trace is not None else nullcontext() as writer:
                trace = asyncio.run(self._play(env, Asked(files, keywords, memory.key), make, model))
                if self.as_json:
                    print_json(self._values(trace, files, env.memory_key))
                else:
                    self._print(trace, env.memory_key)
                if writer is not None:
                    writer.write(trace)
                if writer is not None and not (self.quiet or self.as_json):
                    line = f"recorded in {self.trace}; look at it with: atommem view {self.trace}"
                    output().print(Text(printable(line), style="dim"), soft_wrap=True)
        finally:
            env.close()
        return UNREAD if files.unread else 0

    def _check(self) -> None:
        if not any(question.strip() for question in self.questions):
            raise ConfigError('no question given; ask one with -q, as in: atommem ask notes.txt -q "Who decided it?"')
        if self.memory is None and (self.key is not None or self.new_memory):
            raise ConfigError("--key and --new-memory go with --memory; name the database")
        if self.key is not None and self.new_memory:
            raise ConfigError("--key goes on with a memory and --new-memory begins one; give one of the two")
        if "," in self._agent and not is_plugin("agent", self._agent):
            raise ConfigError(f"one agent answers, and --agent {self._agent!r} names several; give one of them")
        player_keywords(self._agent)  # says if there is none of the name, and what was meant
        if self._agent in ROLES and self.model is None:
            raise ConfigError(f"the agent {self._agent!r} needs a language model; name one with --model URL")
        if self._agent not in ROLES and self.model is not None:
            raise ConfigError(
                f"the agent {self._agent!r} uses no language model; leave out --model, or use --agent crud"
            )
        if self.memory is not None and player_keywords(self._agent).get("storage") is False:
            raise ConfigError(f"the agent {self._agent!r} stores nothing, so --memory has nothing to keep; use another")

    @property
    def _agent(self) -> str:
        return self.agent or ("keep_all" if self.model is None else "crud")

    @property
    def _quotes(self) -> bool:
        """Whether a scripted agent of this package plays, which quotes."""
        return self._agent in BUILT_IN or not (is_plugin("agent", self._agent) or self._agent in AGENTS)

    def _player(self) -> tuple[Callable[[], Player], LanguageModel | None]:
        """A maker of the player, and its model."""
        name = self._agent
        options = parse_settings(list(chain.from_iterable(self.option)), "--option")
        settings = parse_settings(list(chain.from_iterable(self.settings)))
        check_places({"--option": options, "--model-option": self._model_options(), "--set": settings})
        if name in ROLES:
            assert self.model is not None
            model = load_model(self.model, self.model_name, **self._model_options())
            return make_player(name, model, **options), model
        if self.model_option:
            raise ConfigError(f"--model-option is for a language model, and the agent {name!r} uses none")
        if options:
            raise ConfigError(f"the scripted agent {name!r} has no options, but {', '.join(options)} was given")
        # An agent of the user's own answers by itself, from what it sees.
        agent: Agent = make_quoting_agent(name) if self._quotes else make_agent(name)
        return lambda: ScriptedPlayer(agent), None

    def _model_options(self) -> dict[str, Any]:
        return parse_settings(list(chain.from_iterable(self.model_option)), "--model-option")

    def _given(self) -> dict[str, Any]:
        """Keyword arguments of the environment that the user gives."""
        given = parse_settings(list(chain.from_iterable(self.settings)))
        for name, why in _FIXED.items():
            # A store of the user's own may keep nothing, or what it keeps elsewhere.
            if name in given and not (name == "store" and self.memory is None and is_plugin(name, given[name])):
                raise ConfigError(f"--set {name}=… means nothing here: {why}")
        return given

    async def _play(
        self, env: AtomMemEnv, asked: Asked, make: Callable[[], Player], model: LanguageModel | None
    ) -> EpisodeTrace:
        console = messages()
        display = Display(console, lambda: env.episode, quiet=self.quiet)

        def on_step(turn: Turn | None, observation: Observation, info: Mapping[str, Any]) -> None:
            if turn is None and asked.files.documents and not self.quiet:
                read = (counted(len(asked.files.files), "file"), counted(len(asked.files.documents), "passage"))
                chunks = counted(int(observation["progress"][1]), "chunk")
                console.print(Text(", ".join([*read, chunks]), style="dim"))
            display.on_step(turn, observation, info)

        try:
            if model is not None:
                await await_server(model, self._model_options())  # only it knows its model
            with display:
                return await play(env, make(), asked, on_step)
        except BaseException:
            # A model that is gone, Ctrl-C, a full disk: what was written is kept, and can be gone on with.
            if self.memory is not None and display.begun:
                kept = f"what was remembered so far is kept in {masked(self.memory)} under key {env.memory_key}"
                console.print(Text(printable(kept), style="yellow"), soft_wrap=True)
            raise
        finally:
            if model is not None:
                await model.aclose()

    def _print(self, trace: EpisodeTrace, key: str) -> None:
        console = output()
        answers = trace.metrics["answers"]
        if self.quiet:
            for answer in answers:
                print_answer(console, answer)
            return
        # First what was found, which may fill screens; where a terminal stops, the answers are in sight.
        sights = [in_sight(trace, number) for number in range(len(answers))]
        sights = sights if any(seen.reads or seen.scratchpad for seen in sights) else []
        for answer, seen in zip(answers, sights, strict=False):
            if len(answers) > 1:
                console.print(Text(f"to answer “{on_one_line(answer['question'])}”:", style="dim"))
            print_sight(console, seen)
        for number, answer in enumerate(answers):
            if number or sights:
                console.print()
            print_answer(console, answer)
        console.print(Text(printable("\n".join(["", *self._closing(trace, key)])), style="dim"))

    def _values(self, trace: EpisodeTrace, files: OwnFiles, key: str | None) -> dict[str, Any]:
        """What ``--json`` prints."""
        answers = []
        for number, answer in enumerate(trace.metrics["answers"]):
            seen = in_sight(trace, number)
            answers.append(
                {
                    "question": answer["question"],
                    "answer": answer["answer"],
                    "closed": answer["closed"],
                    "reads": [
                        {
                            "query": query,
                            "entries": [{name: entry[name] for name in ("id", "score", "text")} for entry in entries],
                        }
                        for query, entries in seen.reads
                    ],
                    "scratchpad": seen.scratchpad,
                }
            )
        return {
            "answers": answers,
            "agent": self._agent,
            "model": self._model_shown(trace),
            "files": [str(path) for path in files.files],
            "notes": list(files.notes),
            "not_read": list(files.unread),
            "memory": None if self.memory is None else {"database": masked(self.memory), "key": key},
        }

    def _model_shown(self, trace: EpisodeTrace) -> str | None:
        """What the model calls itself, or where it is; without a password."""
        model = trace.agent.settings.get("model") or self.model
        return None if model is None else masked(str(model))

    def _closing(self, trace: EpisodeTrace, key: str) -> list[str]:
        """Who answered, and where the memory is kept."""
        if self._agent in QUOTING:
            who = (
                f"{self._agent}, which quotes the sentences that share most words with the question (no language model)"
            )
        elif self._agent not in ROLES:
            who = f"{self._agent} (no language model)"
        else:
            who = f"{self._agent} with {self._model_shown(trace)}"
        lines = [f"answered by {who}"]
        if self.memory is not None:
            kept = counted(trace.metrics["final_entries"], "entry is", "entries are")
            where = masked(self.memory)
            lines.append(f"{kept} kept in {where} under key {key}")
            lines.append(f"ask on with: atommem ask -q … --memory {where}")
        return lines


def print_sight(console: Console, seen: Seen) -> None:
    """Print what was in sight for a question: each text once, under the first query that found it; the scratchpad."""
    shown: set[tuple[int, str]] = set()
    for query, entries in seen.reads:
        new = [entry for entry in entries if (entry["id"], entry["text"]) not in shown]
        shown |= {(entry["id"], entry["text"]) for entry in new}
        lines = [Line(entry["text"], "dim", f"  [{entry['id']}] {entry['score']:+.2f} ") for entry in new]
        heading = f"found with “{on_one_line(query)}”:" if new else f"nothing more with “{on_one_line(query)}”"
        console.print(Group(Text(heading, style="dim"), *lines))
    if seen.scratchpad:
        console.print(Line(seen.scratchpad, "dim", f"scratchpad of {len(seen.scratchpad):,} characters: "))


def print_answer(console: Console, answer: Mapping[str, Any]) -> None:
    """Print a question and what was answered."""
    console.print(Text(printable(answer["question"]), style="bold yellow"))
    answered = answer["closed"] in ("answered", "unscored")
    said = printable(answer["answer"]) if answered else f"(no answer: {answer['closed']})"
    console.print(Text(said, style="bold" if answered else "red"))
