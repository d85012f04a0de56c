"""``atommem eval``: plays environments x document counts x agents x seeds, resumably, and reports."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.text import Text

from atommem_gym.agents.players.player import player_keywords
from atommem_gym.agents.players.roles import ROLES
from atommem_gym.commands.consoles import messages, output
from atommem_gym.commands.options import check_places, server_of_environment
from atommem_gym.commands.run import INTERRUPTED, Repeated, parse_settings, refuse_agents
from atommem_gym.embedders.loading import check_embedder
from atommem_gym.endpoints import lacks_scheme
from atommem_gym.errors import ConfigError, check_integer, counted, is_integer, reason_of
from atommem_gym.evaluation.folder import PLAN, RESULTS, EvaluationError, Run, read_run
from atommem_gym.evaluation.grids import expand
from atommem_gym.evaluation.limits import LimitReachedError, Limits
from atommem_gym.evaluation.plan import Plan, read_values
from atommem_gym.evaluation.plots import PlotsUnavailableError, write_plots
from atommem_gym.evaluation.progress import progress
from atommem_gym.evaluation.protocols.protocol import FIXED, FREE, load_protocol, lock
from atommem_gym.evaluation.report import Report, make_report
from atommem_gym.evaluation.runner import evaluate
from atommem_gym.evaluation.tables import markdown, notes, terminal_tables, to_csv
from atommem_gym.evaluation.work import work_lines
from atommem_gym.prompts.render import check_template_file
from atommem_gym.registration import resolve_env_id
from atommem_gym.terminal import printable
from atommem_gym.trust import BASE_URL, check_import, check_plan, check_template, masked

INCOMPLETE = 1
"""Exit status if episodes failed."""
_OF_REPORTS = ("report_only", "out")
"""Fields that ``--report-only`` needs."""
_OF_LOCKS = ("lock", "envs", "config", "protocol", "agents", "docs", "seeds", "episodes", "items_seed", "source",
    "settings", "grid")  # fmt: skip
"""Fields that say which items a lock holds."""
_TYPED = {"envs": "ENV_ID", "agents": "--agent", "settings": "--set", "out": "-o"}
"""How fields are typed that have another name."""
LIMITED = 3
"""Exit status if a limit ended the run before all was played."""


@dataclass
class Eval:
    """Evaluate agents: each agent plays each environment at each number of documents, once with each seed.

    A cell is one such combination. Tables, plots and traces go into a folder; --resume continues a run that stopped.
    What the command line gives wins over a plan.

    Example: atommem eval HotpotQA MuSiQue --source HotpotQA=hotpot.jsonl MuSiQue=musique.jsonl --docs 200 400
    --agent keep_all tidy --episodes 50 -o runs/first

    Example: atommem eval --config plan.yaml -o runs/first

    Example: atommem eval Needle --grid depth=0,0.5,1 length=4000,16000 --agent keep_all tidy
    """

    envs: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[ENV_ID…]")] = ()
    """AtomMem-HotpotQA-v0 or, for short, HotpotQA; `atommem envs` lists all."""
    out: Annotated[Path, tyro.conf.arg(name="output", aliases=("-o",), metavar="DIR")] = Path("runs/eval")
    """The folder for the plan, results, traces, tables and plots."""
    config: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """A plan as YAML."""
    protocol: Annotated[str | None, tyro.conf.arg(metavar="NAME|FILE")] = None
    """A fixed protocol, which says what environments, documents, seeds and settings are: streams-v1, or a file that
    --lock wrote. Records that differ from its hashes are refused."""
    lock: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Play nothing; write the items of the plan, with their hashes, to this file: a protocol of that name."""
    agents: Annotated[Repeated, tyro.conf.UseAppendAction, tyro.conf.arg(name="agent", metavar="NAME…")] = ()
    """The agents: random, silent, keep_all, overwrite, tidy, oracle; with a language model crud, add_only,
    overwrite_llm, long_context, retrieve_then_read, mem0; or an agent of yours, package.module:name."""
    docs: Annotated[tuple[int, ...], tyro.conf.arg(metavar="N…")] = ()
    """Documents per episode, one number or several; 200 by default."""
    seeds: Annotated[tuple[int, ...], tyro.conf.arg(metavar="S…")] = ()
    """Seeds of the agents; 0 by default. An agent plays every item once with each seed."""
    episodes: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Items per cell, the same for all agents, documents and seeds; 50 by default."""
    items_seed: Annotated[int | None, tyro.conf.arg(metavar="S")] = None
    """Draws the items; 0 by default."""
    source: Annotated[Repeated, tyro.conf.UseAppendAction, tyro.conf.arg(metavar="ENV=PATH…")] = ()
    """The records of an environment, as in HotpotQA=hotpot_dev_distractor_v1.json."""
    settings: Annotated[Repeated, tyro.conf.UseAppendAction, tyro.conf.arg(name="set", metavar="KEY=VALUE…")] = ()
    """Keyword arguments of all environments, such as embedder=minilm chunk_tokens=2000; of one alone as in
    HotpotQA.split=validation."""
    grid: Annotated[Repeated, tyro.conf.UseAppendAction, tyro.conf.arg(metavar="KEY=V,V,…")] = ()
    """Play each environment once for each combination of these values, such as depth=0,0.5,1 length=4000,16000. Two
    keys with numbers give a heat map."""
    model: Annotated[str | None, tyro.conf.arg(metavar="URL|NAME")] = None
    """The language model: the URL of an OpenAI-compatible server, or a name or folder for transformers. By default the
    server at OPENAI_BASE_URL."""
    model_name: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """The server's name of the model, if it serves several."""
    option: Annotated[Repeated, tyro.conf.UseAppendAction, tyro.conf.arg(metavar="KEY=VALUE…")] = ()
    """Options of agents with a language model, such as temperature=0.7 max_tokens=1024."""
    model_option: Annotated[Repeated, tyro.conf.UseAppendAction, tyro.conf.arg(metavar="KEY=VALUE…")] = ()
    """Settings of the model, such as timeout=60 'extra_body={"chat_template_kwargs": {"enable_thinking": false}}'. A
    server takes timeout, patience, concurrency, extra_body, opens_think; a local model dtype, device, max_batch."""
    token_limit: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Stop when this run has used so many tokens of language models, counted when episodes end; --resume continues."""
    time_limit: Annotated[float | None, tyro.conf.arg(metavar="SECONDS")] = None
    """Stop after so many seconds; --resume continues."""
    concurrency: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Episodes played at the same time; by default 4 if all agents are scripted and the embedder is built in, else
    32."""
    traces: Annotated[Literal["jsonl", "jsonl.gz", "none"] | None, tyro.conf.arg(metavar="FORMAT")] = None
    """How whole episodes are recorded: jsonl, jsonl.gz or none; jsonl by default."""
    give_up_after: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Stop after so many failed episodes in a row; 20 by default."""
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Continue the run in the folder."""
    report_only: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Play nothing; make tables and plots of the results in the folder."""

    def run(self) -> int:
        """Play and report; the exit status."""
        if self.report_only:
            self._check_alone("--report-only", _OF_REPORTS)
            return self._report(read_run(self.out))
        if self.lock is not None:
            self._check_alone("--lock", _OF_LOCKS)
        refuse_agents(self.envs, "eval")
        plan = self.plan()
        console = messages()
        if self.lock is not None:
            return self._lock(plan, self.lock)
        # Asks the hub, so it comes after the check of what must be trusted.
        named = [keywords.get("embedder") for _, keywords in plan.places()]
        for embedder in dict.fromkeys(one for one in named if isinstance(one, str)):
            check_embedder(embedder)
        protocol = None if self.protocol is None else load_protocol(self.protocol)
        try:
            with progress(console) as listener:
                run = evaluate(plan, self.out, listener, resume=self.resume, protocol=protocol, limits=self._limits())
        except LimitReachedError as error:
            run = read_run(self.out)
            self._report(run)
            left = f"{len(run.results)} of {plan.episodes_in_all} episodes; go on with: atommem eval --resume"
            console.print(Text(printable(f"{error}: {left} -o {self.out}"), style="yellow"))
            return LIMITED
        except EvaluationError:
            # What was finished before the server went is worth a table.
            if (self.out / PLAN).is_file():
                self._report(read_run(self.out))
            raise
        except KeyboardInterrupt:
            if not (self.out / PLAN).is_file():
                raise
            run = read_run(self.out)
            self._report(run)
            done, total = len(run.results), plan.episodes_in_all
            line = f"interrupted after {done} of {total} episodes; go on with: atommem eval --resume -o {self.out}"
            console.print(Text(line, style="yellow"), soft_wrap=True)
            return INTERRUPTED
        return self._report(run)

    def plan(self) -> Plan:
        """What to play: the folder's own plan at a resume, else the file's, under what the command line gives.

        Raises:
            ConfigError: something is wrong or missing, or a file names a prompt template, a module, a folder or a model
                on a hub, and the command line does not.
        """
        values = self._base()
        given = self._given()
        for name in ("settings", "model"):
            if name in given and isinstance(values.get(name), Mapping):
                options = {**(values[name].get("options") or {}), **given[name].get("options", {})}
                given[name] = {**values[name], **given[name], **({"options": options} if options else {})}
        values |= given
        if self.lock is not None:
            values.setdefault("agents", ["silent"])
        if self.protocol is not None:
            if self.config is not None or self.grid:
                raise ConfigError("--protocol contradicts --config and --grid: it fixes what they say")
            fixed = load_protocol(self.protocol)
            known = values.pop("protocol", fixed.title)
            if self.resume and known == fixed.title:
                values = {name: value for name, value in values.items() if name not in FIXED or name == "settings"}
                values["settings"] = {k: v for k, v in (values.get("settings") or {}).items() if k in FREE}
            values = fixed.apply(values)
        if "envs" not in values or "agents" not in values:
            missing = "environments" if "envs" not in values else "agents (--agent)"
            raise ConfigError(f"no {missing} given; for instance: atommem eval Synthetic --agent keep_all tidy")
        values["envs"] = _with_settings(values["envs"], self._env_settings())
        if self.grid:
            values["envs"] = expand(values["envs"], _grid(list(chain.from_iterable(self.grid))))
        options = parse_settings(list(chain.from_iterable(self.option)), "--option")
        self._check_places(options)
        values["agents"] = _with_options(values["agents"], options)
        self._add_server(values)
        if self.model_option and not any(
            isinstance(one, dict) and one.get("name") in ROLES for one in values["agents"]
        ):
            raise ConfigError(
                f"--model-option {' '.join(chain.from_iterable(self.model_option))} is for agents with a "
                "language model, and none of them plays"
            )
        plan = Plan.from_values(values)
        for where, template in plan.templates():
            check_template(template, where)
            check_template_file(template)
        for where, module in plan.code():
            check_import(module, where)
        for agent in plan.agents:
            player_keywords(agent.name)  # says if there is none of the name, and what was meant
        for where, keywords in plan.places():
            check_plan(keywords, where)
        return plan

    def _check_alone(self, option: str, taken: Collection[str]) -> None:
        """Refuse what an option that plays nothing would ignore."""
        for one in fields(self):
            if one.name not in taken and getattr(self, one.name) != one.default:
                name = _TYPED.get(one.name) or f"--{one.name.replace('_', '-')}"
                raise ConfigError(f"{option} plays nothing, so {name} means nothing beside it; leave one of them out")

    def _lock(self, plan: Plan, file: Path) -> int:
        protocol = lock(file.stem, plan)
        try:
            file.write_text(protocol.to_text(), encoding="utf-8")
        except OSError as error:
            raise EvaluationError(f"the protocol cannot be written to {file} ({reason_of(error)})") from error
        items = sum(map(len, protocol.items.values()))
        output().print(
            Text(f"{counted(items, 'item')} of the protocol {protocol.title} written to {file}"), soft_wrap=True
        )
        return 0

    def _base(self) -> dict[str, Any]:
        if self.config is not None:
            return read_values(self.config)
        if self.resume and (self.out / PLAN).is_file() and (self.out / RESULTS).is_file():
            return read_values(self.out / PLAN)
        if self.resume and not self.envs:
            # With all its arguments given, --resume in a loop may well be the first start.
            read_run(self.out)
        return {}

    def _given(self) -> dict[str, Any]:
        """Fields of the plan that the command line gives."""
        names = {one.name for one in fields(Plan)} & {one.name for one in fields(self)} - {
            "agents",
            "settings",
            "model",
            "protocol",
        }
        given: dict[str, Any] = {name: getattr(self, name) for name in names}
        given = {name: value for name, value in given.items() if value not in (None, ())}
        given = {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}
        if self.agents:
            given["agents"] = list(dict.fromkeys(chain.from_iterable(self.agents)))
        common = [text for text in chain.from_iterable(self.settings) if "." not in text.partition("=")[0]]
        if common:
            given["settings"] = parse_settings(common)
            if "num_docs" in given["settings"]:
                count = given["settings"]["num_docs"]
                instead = f"write --docs {count}" if is_integer(count) and count > 0 else "leave it out"
                raise ConfigError(f"--set num_docs={count}: `atommem eval` takes documents by --docs; {instead}")
        if self.model is not None or self.model_name is not None:
            given["model"] = self._model()
        options = parse_settings(list(chain.from_iterable(self.model_option)), "--model-option")
        if options:
            given["model"] = {**given.get("model", {}), "options": options}
        return given

    def _limits(self) -> Limits:
        if self.token_limit is not None:
            check_integer("--token-limit", self.token_limit, 1)
        if self.time_limit is not None and not self.time_limit > 0:
            raise ConfigError(f"--time-limit {self.time_limit} must be a number of seconds above 0")
        return Limits(tokens=self.token_limit, seconds=self.time_limit)

    def _check_places(self, options: Mapping[str, Any]) -> None:
        """Keys that belong to another option are refused, also where nothing is played with them."""
        common = (text.partition("=")[0] for text in chain.from_iterable(self.settings))
        keys = [key.rpartition(".")[2].strip().replace("-", "_") for key in common]
        model = parse_settings(list(chain.from_iterable(self.model_option)), "--model-option")
        check_places({"--option": options, "--model-option": model, "--set": keys})

    def _add_server(self, values: dict[str, Any]) -> None:
        """Where agents need a model and nothing says which, the server that the environment names, which is said."""
        model = dict(values.get("model") or {})
        local = model.get("name") and self.model is not None
        agents = [one for one in values["agents"] if isinstance(one, dict) and one.get("name") in ROLES]
        needing = [one for one in agents if not one.get("model")]
        if not needing or model.get("url") or local or (model.get("name") and self.model_name is None):
            return
        url = server_of_environment()
        if url is None:
            return
        values["model"] = {**model, "url": url}
        messages().print(Text(printable(f"note: the model's server is {masked(url)}, from {BASE_URL}"), style="yellow"))

    def _model(self) -> dict[str, Any]:
        if self.model is not None and lacks_scheme(self.model) and not Path(self.model).exists():
            raise ConfigError(f"--model {self.model!r} is a URL without a scheme; write --model http://{self.model}")
        if self.model is None or self.model.startswith(("http://", "https://")):
            named = {"name": self.model_name} if self.model_name else {}
            return {**({"url": self.model} if self.model else {}), **named}
        if self.model_name is not None:
            raise ConfigError(
                f"--model {self.model!r} is not a URL, so it is a local model's name, and --model-name "
                f"{self.model_name!r} says another one; give one of them, or the URL of a server"
            )
        return {"name": self.model}

    def _env_settings(self) -> list[tuple[str, dict[str, Any]]]:
        """Settings of one environment alone, by its name as it was typed."""
        found = []
        for text in chain.from_iterable(self.source):
            name, equals, path = text.partition("=")
            if not equals or not path:
                raise ConfigError(
                    f"--source {text!r} is not ENV=PATH; write for instance --source HotpotQA=hotpot.json"
                )
            found.append((name, {"source": path}))
        for text in chain.from_iterable(self.settings):
            key = text.partition("=")[0]
            if "." in key:
                name, _, setting = text.partition(".")
                found.append((name, parse_settings([setting])))
        return found

    def _report(self, run: Run) -> int:
        report = make_report(run)
        console = output()
        try:
            write_report(report, self.out, messages())
        except OSError as error:
            raise EvaluationError(f"the report cannot be written to {self.out} ({reason_of(error)})") from error
        for table in terminal_tables(report, console.width):
            console.print(table)
            console.print()
        console.print(Text("Where the wall time went", style="italic"))
        for line in work_lines(report.sessions):
            console.print(Text(line), soft_wrap=True)
        console.print()
        for note in notes(report)[:2]:
            console.print(Text(note, style="dim"))
        console.print(Text("What the other numbers mean: report.md.", style="dim"))
        for warning in report.warnings():
            console.print(Text(printable(warning), style="bold yellow"), soft_wrap=True)
        console.print(Text(f"written to {self.out}"), soft_wrap=True)
        return INCOMPLETE if report.failed else 0


def write_report(report: Report, folder: Path, console: Console) -> None:
    """Write the page, the numbers and the plots into a folder; says so on the console where there can be no plots.

    Raises:
        OSError: a file cannot be written.
    """
    try:
        plots = write_plots(report, folder)
    except PlotsUnavailableError as error:
        console.print(Text(str(error)), soft_wrap=True)
        plots = []
    for name, text in (("report.md", markdown(report, plots)), ("cells.csv", to_csv(report))):
        (folder / name).write_text(text, encoding="utf-8")


def _grid(texts: list[str]) -> dict[str, list[Any]]:
    """The values of each setting: ``depth=0,0.5,1``.

    >>> _grid(["depth=0,0.5", "kind=single,multi_key"])
    {'depth': [0, 0.5], 'kind': ['single', 'multi_key']}

    Raises:
        ConfigError: one is not written so.
    """
    grid: dict[str, list[Any]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        if not (name and equals and values):
            raise ConfigError(f"--grid {text!r} is not KEY=V,V,…; write for instance --grid depth=0,0.5,1")
        grid[name] = [parse_settings([f"{name}={value}"], "--grid")[name] for value in values.split(",")]
    return grid


def _with_settings(envs: Any, settings: list[tuple[str, dict[str, Any]]]) -> list[Any]:
    """Environments with the settings that are for them alone; they are named by label or id."""
    listed = _mappings(envs, "id")
    for name, values in settings:
        known = [env for env in listed if isinstance(env, dict) and env.get("label") == name]
        if not known:
            env_id = resolve_env_id(name)
            known = [env for env in listed if isinstance(env, dict) and resolve_env_id(str(env.get("id"))) == env_id]
        if not known:
            raise ConfigError(f"settings are given for {name!r}, which is not played; add it or leave them out")
        for env in known:
            env["settings"] = {**env.get("settings", {}), **values}
    return listed


def _with_options(agents: Any, options: dict[str, Any]) -> list[Any]:
    """Agents with options for all that play with a language model."""
    listed = _mappings(agents, "name")
    players = [agent for agent in listed if isinstance(agent, dict) and agent.get("name") in ROLES]
    if options and not players:
        raise ConfigError(f"--option {', '.join(options)} is for agents with a language model, and none of them plays")
    for agent in players:
        if options:
            agent["options"] = {**agent.get("options", {}), **options}
    return listed


def _mappings(values: Any, key: str) -> list[Any]:
    """A list in which names are mappings; what is neither is left for the plan to complain about."""
    listed = values if isinstance(values, list) else [values]
    return [{key: one} if isinstance(one, str) else dict(one) if isinstance(one, Mapping) else one for one in listed]
