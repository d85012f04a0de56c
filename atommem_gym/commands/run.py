"""``atommem run``: agents play an environment, with any keyword argument of it, and end in a table."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import gymnasium as gym
import tyro
from rich.console import Console
from rich.text import Text

import atommem_gym
from atommem_gym.agents import AGENTS, Agent, make_agent
from atommem_gym.agents.play import Env, OnStep
from atommem_gym.agents.players.roles import ROLES
from atommem_gym.agents.playing import EpisodeRecord
from atommem_gym.commands.consoles import output
from atommem_gym.commands.contest import Contest
from atommem_gym.config import EnvConfig
from atommem_gym.errors import AtomMemError, ConfigError, counted, reason_of
from atommem_gym.registration import resolve_env_id, task_of
from atommem_gym.task import load_attribute
from atommem_gym.trust import without_secrets

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""
RESULTS_VERSION = 1
Repeated: TypeAlias = tuple[tuple[str, ...], ...]
"""Values of an option that may be given several times with several values each."""


@dataclass
class Run:
    """Let scripted agents play an environment side by side, and print a table of results.

    Example: atommem run Synthetic --agent keep_all tidy --set num_docs=400

    Example: atommem run HotpotQA --set source=hotpot_dev_distractor_v1.json num_docs=400 --agent keep_all tidy
    """

    env_id: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ENV_ID")]
    """AtomMem-HotpotQA-v0 or, for short, HotpotQA; `atommem envs` lists all."""
    agents: Annotated[Repeated, tyro.conf.UseAppendAction, tyro.conf.arg(name="agent", metavar="NAME…")] = ()
    """The agents: random, silent, keep_all, overwrite, tidy, oracle, or an agent of yours, package.module:name. By
    default all."""
    episodes: Annotated[int, tyro.conf.arg(metavar="N")] = 20
    """Episodes per agent; all agents meet the same ones."""
    seed: Annotated[int, tyro.conf.arg(metavar="S")] = 0
    """Draws the episodes and seeds the agents."""
    settings: Annotated[Repeated, tyro.conf.UseAppendAction, tyro.conf.arg(name="set", metavar="KEY=VALUE…")] = ()
    """Keyword arguments of the environment, such as num_docs=400 embedder=minilm scratchpad=false
    'operations=["create","read"]'. A value that is valid JSON is read as JSON, any other as text."""
    results: Annotated[Path | None, tyro.conf.arg(name="json", metavar="FILE")] = None
    """Write the record of every episode to this file, as JSON."""
    watch: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Show every step."""

    def run(self) -> int:
        """Play and print; the exit status."""
        refuse_agents([self.env_id], "run")
        agents = make_agents(dict.fromkeys(chain.from_iterable(self.agents)) or AGENTS)
        if self.episodes < 1:
            raise ConfigError(f"--episodes {self.episodes} must be at least 1")
        if self.results and not self.results.parent.is_dir():
            raise ConfigError(f"--json {self.results}: there is no folder {self.results.parent}; make it first")
        if self.results:
            check_writable(self.results)
        env_id, keywords = resolve_env_id(self.env_id), parse_settings(list(chain.from_iterable(self.settings)))
        unknown = [key for key in keywords if key not in {one.name for one in fields(EnvConfig)}]
        if unknown:
            check_set(env_id, unknown)
        console = output()
        with open_env(env_id, keywords, watch=self.watch) as env:
            contest = Contest(env, agents, self.episodes, self.seed)
            try:
                contest.run(printer(env, console) if self.watch else None)
            finally:
                # What was played is worth a table, also where the rest was given up.
                contest.show(console)
        if self.results:
            write_results(self.results, env_id, keywords, contest)
            console.print(Text(f"{counted(len(contest.records), 'record')} written to {self.results}"))
        return INTERRUPTED if contest.interrupted else int(bool(contest.failures))


def check_set(env_id: str, keys: Collection[str]) -> None:
    """Refuse keys behind ``--set`` that belong to an option of another command.

    Raises:
        ConfigError: one does; the message says to which.
    """
    # What it takes for models is loaded only to say where such a key belongs.
    from atommem_gym.commands.options import check_places

    check_places({"--set": keys}, _own(env_id), " of `atommem eval`")


def _own(env_id: str) -> list[str]:
    """The keyword arguments of the environment's task."""
    task = task_of(env_id)
    kind = None if task is None or task.options is None else load_attribute(task.options, f"options of {task.name}")
    return [] if kind is None else [one.name for one in fields(kind)]


def refuse_agents(env_ids: Iterable[str], command: str) -> None:
    """Refuse names of agents where environments are wanted.

    Raises:
        ConfigError: one of the names is an agent's.
    """
    for name in env_ids:
        if name in AGENTS or name in ROLES:
            raise ConfigError(
                f"{name!r} is an agent, and an ENV_ID is wanted; write: atommem {command} Synthetic --agent {name}"
            )


def check_writable(path: Path) -> None:
    """Refuse a file that cannot be written: nobody wants to hear that after everything was played.

    Raises:
        ConfigError: it cannot be.
    """
    there = path.exists()
    try:
        with path.open("a", encoding="utf-8"):
            pass
        if not there:
            path.unlink()
    except OSError as error:
        raise ConfigError(f"--json {path} cannot be written ({reason_of(error)}); name another file") from error


def make_agents(names: Iterable[str]) -> list[Agent]:
    """The agents of these names; each has a row of its own in a table.

    Raises:
        ConfigError: there is none of a name, or two of them call themselves the same.
    """
    agents: dict[str, Agent] = {}
    for name in names:
        if name in ROLES:
            raise ConfigError(
                f"the agent {name!r} has a language model: use `atommem eval`, which plays it with --model"
            )
        agent = make_agent(name)
        if agent.name in agents:
            raise ConfigError(
                f"the agent {name!r} calls itself {agent.name!r}, as another one does that plays; rows are told apart "
                "by that: change its `name`, or let it play alone"
            )
        agents[agent.name] = agent
    return list(agents.values())


def parse_settings(settings: Sequence[str], option: str = "--set") -> dict[str, Any]:
    """Keyword arguments from ``KEY=VALUE`` texts.

    >>> parse_settings(["num_docs=400", "embedder=minilm", "scratchpad=false"])
    {'num_docs': 400, 'embedder': 'minilm', 'scratchpad': False}

    Raises:
        ConfigError: one has no ``=``.
    """
    keywords: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        key = key.strip().replace("-", "_")
        if not equals or not key:
            raise ConfigError(f"{option} {setting!r} is not KEY=VALUE; write for instance {option} num_docs=400")
        try:
            keywords[key] = json.loads(value)
        except (ValueError, RecursionError):
            keywords[key] = {"True": True, "False": False, "None": None}.get(value, value)
    return keywords


@contextlib.contextmanager
def open_env(env_id: str, keywords: dict[str, Any], *, watch: bool = False) -> Iterator[Env]:
    """The environment, closed at the end.

    Raises:
        ConfigError: a keyword argument is unknown or wrong.
    """
    if "render_mode" in keywords:
        raise ConfigError("render_mode is not set by --set; use --watch to see every step")
    # The checker of Gymnasium looks at every observation; the environments are checked by the tests.
    env: Env = gym.make(env_id, render_mode="ansi" if watch else None, disable_env_checker=True, **keywords)
    try:
        yield env
    finally:
        env.close()


def printer(env: Env, console: Console) -> OnStep:
    """Prints every step of an environment that renders ``ansi``."""

    def show(*_: object) -> None:
        frame = env.render()
        if isinstance(frame, str):
            # Through rich, so that colours go where there is no terminal.
            console.print(Text.from_ansi(frame.rstrip()), soft_wrap=True)

    return show


def _values(record: EpisodeRecord) -> dict[str, Any]:
    """The record as JSON has it; of answers it says nothing where all questions have some."""
    values = asdict(record)
    if not record.answers:
        del values["answers"]
    return values


def write_results(path: Path, env_id: str, keywords: dict[str, Any], contest: Contest) -> None:
    """Write the records of a contest, with what they were made by, as JSON.

    Raises:
        AtomMemError: the file cannot be written.
    """
    results = {
        "version": RESULTS_VERSION,
        "atommem_gym": atommem_gym.__version__,
        "env": env_id,
        "keywords": without_secrets(keywords),
        "seed": contest.seed,
        "interrupted": contest.interrupted,
        "records": [_values(record) for record in contest.records],
        "failures": [asdict(failure) for failure in contest.failures],
    }
    try:
        path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise AtomMemError(f"--json {path} cannot be written ({reason_of(error)}); name another file") from error
