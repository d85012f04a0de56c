"""Plans of evaluations: environments × document counts × agents × seeds, checked before anything runs.

Users write plans as YAML files, and every evaluation writes its plan into its folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import yaml

from atommem_gym.agents.players.roles import ROLES
from atommem_gym.errors import AtomMemError, ConfigError, check_choice, check_integer, counted, reason_of, suggestion
from atommem_gym.plugins.loading import module_of, plugins_in
from atommem_gym.readers.options import ORACLE
from atommem_gym.readers.protocol import POLICY
from atommem_gym.registration import TASKS, Task, resolve_env_id
from atommem_gym.trust import without_secrets

T = TypeVar("T")

NOT_RESULTS = ("concurrency", "traces", "give_up_after")
"""Fields of a plan that do not change results, only how it is played; they may change at a resume."""
_WAITS = ("timeout", "patience", "concurrency")
"""Options of a model's server that do not change results either."""
TRACES = ("jsonl", "jsonl.gz", "none")
"""Values of ``Plan.traces``."""
_MOST_SAID, _MOST_VALUES, _DEEPEST = 400, 100_000, 50
"""Characters of another library's message in ours; values of a plan, and how deeply they are nested."""
_CELL_KEYWORDS = {"num_docs": "docs"}
"""Keyword arguments of environments that have their own field in the plan."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EnvPlan:
    """One environment of a plan; in YAML ``HotpotQA``, or ``{id: HotpotQA, label: …, settings: {…}}``."""

    id: str
    """Gymnasium id, or the task's name."""
    label: str = ""
    """Name of its rows in tables; by default the task's name."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Its keyword arguments; they win over those of the plan."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", resolve_env_id(self.id))
        if not self.label:
            object.__setattr__(self, "label", self.id.removeprefix("AtomMem-").rpartition("-v")[0])


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelPlan:
    """A language model: a server (``url``), or a local name or folder for transformers."""

    name: str = ""
    """Its name at the server, by default the only one there; without ``url`` a Hugging Face name or a folder."""
    url: str = ""
    """Base URL of an OpenAI-compatible server, such as ``http://localhost:8000/v1``. May change at a resume."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further keyword arguments of ``OpenAIModel`` or ``TransformersModel``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentPlan:
    """One agent of a plan; in YAML ``keep_all``, or ``{name: crud, label: …, options: {…}, model: {…}}``."""

    name: str
    """Name of the agent, as ``make_player`` takes it."""
    label: str = ""
    """Name of its rows in tables; by default the agent's name."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options for ``make_player``."""
    model: ModelPlan | None = None
    """Its language model; by default the plan's."""

    def __post_init__(self) -> None:
        if not self.label:
            object.__setattr__(self, "label", self.name)


@dataclass(frozen=True, slots=True)
class Cell:
    """Environment, document count and agent: the episodes of one row of a table."""

    env: str
    """Label of the environment."""
    docs: int
    """Document count; 0 for tasks whose contexts come whole (SPEC E14)."""
    agent: str
    """Label of the agent."""

    @property
    def text(self) -> str:
        """As progress shows it."""
        return (
            f"{self.env}, {counted(self.docs, 'document')}, {self.agent}" if self.docs else f"{self.env}, {self.agent}"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What an evaluation plays: environments × document counts × agents × seeds; JSON values only.

    >>> plan = Plan.from_values({"envs": ["Synthetic"], "agents": ["keep_all", "tidy"], "docs": [20, 40]})
    >>> len(plan.cells), plan.episodes_in_all
    (4, 200)
    """

    envs: tuple[EnvPlan, ...]
    """The environments."""
    agents: tuple[AgentPlan, ...]
    """The agents."""
    docs: tuple[int, ...] = (200,)
    """Documents per episode."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of the agents; every item is played once with each. They do not change the draw of items."""
    episodes: int = 50
    """Items per cell, the same for all agents, document counts and seeds."""
    items_seed: int = 0
    """Seeds the draw of items."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of all environments."""
    model: ModelPlan | None = None
    """The language model of agents that need one."""
    concurrency: int | None = None
    """Episodes in flight, at most; ``None``: see :attr:`in_flight`."""
    traces: str = "jsonl"
    """Format of the file with whole episodes: ``jsonl``, ``jsonl.gz`` (a quarter of the size) or ``none``."""
    protocol: str = ""
    """Name and hash of the fixed protocol that the plan follows, as ``NAME#HASH``; empty if none."""
    give_up_after: int = 20
    """Stop when this many episodes have failed in a row; `--resume` continues."""

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Plan:
        """Make a plan of plain values.

        Args:
            values: The fields of a plan, as a YAML file or the command line gives them; ``docs/evaluation.md`` lists
                them.

        Raises:
            ConfigError: a field is unknown, missing, of the wrong type, or contradicts another one.
        """
        known = _known(cls, values, "the plan")
        plan = cls(
            **{
                **known,
                "envs": tuple(_env(value) for value in _list("envs", values.get("envs"))),
                "agents": tuple(_agent(value) for value in _list("agents", values.get("agents"))),
                "docs": tuple(check_integer("docs", n, 1) for n in _list("docs", values.get("docs", 200))),
                "seeds": tuple(check_integer("seeds", n, 0) for n in _list("seeds", values.get("seeds", 0))),
                "settings": _mapping("settings", values.get("settings")),
                "model": _model(values.get("model")),
            }
        )
        plan._check()
        return plan

    def to_values(self) -> dict[str, Any]:
        """The plan as plain values; :meth:`from_values` is the inverse."""
        values = {name: _plain(getattr(self, name)) for name in (f.name for f in fields(self))}
        if not self.protocol:
            del values["protocol"]
        return values

    @property
    def cells(self) -> tuple[Cell, ...]:
        """All cells, in the order of tables."""
        return tuple(
            Cell(env.label, docs, agent.label)
            for env in self.envs
            for docs in self.docs_of(env)
            for agent in self.agents
        )

    def docs_of(self, env: EnvPlan) -> tuple[int, ...]:
        """The document counts of an environment; ``(0,)`` for tasks whose contexts come whole (SPEC E14)."""
        return (0,) if _task(env.id).contexts else self.docs

    @property
    def episodes_a_cell(self) -> int:
        """Episodes per cell: items times seeds."""
        return self.episodes * len(self.seeds)

    @property
    def episodes_in_all(self) -> int:
        """Episodes of the whole plan."""
        return self.episodes_a_cell * len(self.cells)

    @property
    def in_flight(self) -> int:
        """Episodes in flight, at most: ``concurrency``, or by default 32, or 4.

        Language models and embedders answer many requests at once faster than one after the other. Scripted agents
        with the built-in embedder and reader keep one core busy by themselves, so more than 4 would only wait for each
        other.
        """
        if self.concurrency is not None:
            return self.concurrency
        keywords = [{**self.settings, **env.settings} for env in self.envs]
        built_in = all(
            own.get("embedder", "hashing") in ("hashing", "random") and own.get("reader", POLICY) in (POLICY, ORACLE)
            for own in keywords
        )
        return 4 if built_in and all(agent.name not in ROLES for agent in self.agents) else 32

    def env_keywords(self, env: EnvPlan, docs: int) -> dict[str, Any]:
        """Keyword arguments of an environment at one document count, without those that an agent demands."""
        return {**self.settings, **env.settings, **({"num_docs": docs} if docs else {})}

    def templates(self) -> list[tuple[str, str]]:
        """All prompt templates that the plan names, as pairs of the part that names one and the template."""
        named: list[tuple[str, Any]] = [("the plan", self.settings.get("template"))]
        named += [(f"the plan for {env.label}", env.settings.get("template")) for env in self.envs]
        named += [(f"the plan for the agent {agent.label}", agent.options.get("template")) for agent in self.agents]
        return [(where, str(template)) for where, template in named if template is not None]

    def code(self) -> list[tuple[str, str]]:
        """All custom code that the plan names, as pairs of the part that names it and the module."""
        named = [("the plan", plugins_in(self.settings))]
        named += [(f"the plan for {env.label}", plugins_in(env.settings)) for env in self.envs]
        named += [("the plan", plugins_in({"agent": agent.name})) for agent in self.agents]
        return [
            (f"{where}: {keyword}={value!r}", module_of(value))
            for where, parts in named
            for keyword, value in parts.items()
        ]

    def places(self) -> list[tuple[str, dict[str, Any]]]:
        """The keyword arguments that may name files, folders or models, with the part of the plan that has them."""
        parts: list[tuple[str, dict[str, Any]]] = [("the plan", dict(self.settings))]
        parts += [(f"the plan for {env.label}", dict(env.settings)) for env in self.envs]
        models = [
            ("the plan", self.model),
            *((f"the plan for the agent {one.label}", one.model) for one in self.agents),
        ]
        return parts + [(where, {"model": model.name}) for where, model in models if model and not model.url]

    def differences(self, other: Plan) -> list[str]:
        """Differences to another plan that change results, one line each; with none, results belong together."""
        mine, others = (_identity(without_secrets(plan.to_values())) for plan in (self, other))
        names = dict.fromkeys([*mine, *others])
        return [line for name in names for line in _differences(name, mine.get(name), others.get(name))]

    def _check(self) -> None:
        for name, least in (("episodes", 1), ("give_up_after", 1), ("concurrency", 1), ("items_seed", 0)):
            if name != "concurrency" or self.concurrency is not None:
                check_integer(name, getattr(self, name), least)
        check_choice("traces", self.traces, TRACES)
        if not isinstance(self.protocol, str):
            raise ConfigError(f"protocol={self.protocol!r} must be name and hash of a protocol, or be left out")
        _distinct("docs", self.docs, "give each document count once")
        _distinct("seeds", self.seeds, "give each seed once")
        _distinct("envs", [env.label for env in self.envs], "give each a label of its own")
        _distinct("agents", [agent.label for agent in self.agents], "give each a label of its own")
        for env in self.envs:
            task = _task(env.id)
            for keywords in (self.settings, env.settings):
                for name in _CELL_KEYWORDS.keys() & keywords.keys():
                    field = _CELL_KEYWORDS[name]
                    raise ConfigError(
                        f"settings hold {name}={keywords[name]!r}; write it as {field} (on the command line --{field})"
                    )
            for docs in self.docs_of(env):
                task.config(self.env_keywords(env, docs))


def _task(env_id: str) -> Task:
    return next(task for task in TASKS.values() if task.env_id == env_id)


def read_values(path: Path) -> dict[str, Any]:
    """The values of a YAML file.

    Raises:
        ConfigError: the file cannot be read, is not YAML, or does not hold a mapping.
    """
    if path.is_dir():
        inside = path / "plan.yaml"
        remedy = f"name {inside}" if inside.is_file() else "name a YAML file"
        raise ConfigError(f"the plan {path} is a folder, and a plan is a file; {remedy}")
    try:
        text = path.read_text(encoding="utf-8")
        values = yaml.load(text, _Loader)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the plan {path} cannot be read ({reason_of(error)}); name a YAML file") from error
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, RecursionError) as error:
        # PyYAML raises any of them for a date, a number or a tag that is none.
        raise ConfigError(f"the plan {path} is not YAML: {str(error)[:_MOST_SAID]}") from error
    if not isinstance(values, dict):
        what = "nothing" if values is None else "a list" if isinstance(values, list) else "a text or number"
        raise ConfigError(f"the plan {path} holds {what}; write a mapping with envs, agents, docs …")
    _check_extent(values, path)
    return values


class _Loader(yaml.SafeLoader):  # type: ignore[misc,unused-ignore]  # untyped without its stubs
    """A safe loader that takes no key twice, since one value would hide the other."""

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        names = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in names:
                    raise yaml.MarkedYAMLError(
                        problem=f"the key {key.value:.40} stands twice", problem_mark=key.start_mark
                    )
                names.add((key.tag, key.value))
        return node


def _check_extent(values: object, path: Path) -> None:
    """Refuse what a few lines with anchors can make: a value that holds itself, or millions of values."""
    left, count = [(values, 0)], 0
    while left:
        value, depth = left.pop()
        count += 1
        if depth > _DEEPEST or count > _MOST_VALUES:
            raise ConfigError(f"the plan {path} holds itself, or more than {_MOST_VALUES:,} values; write it out")
        parts = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple, set)) else ()
        left.extend((part, depth + 1) for part in parts)


def read_plan(path: Path) -> Plan:
    """Read the plan of an evaluation from a YAML file.

    Args:
        path: The file; ``docs/evaluation.md`` lists its keys.

    Raises:
        ConfigError: the file cannot be read, or the plan in it is wrong.
    """
    return Plan.from_values(read_values(path))


def dump_plan(plan: Plan) -> str:
    """The YAML text of a plan, without keys and passwords.

    >>> print(dump_plan(Plan.from_values({"envs": ["Synthetic"], "agents": ["tidy"], "episodes": 3})).splitlines()[1])
    - id: AtomMem-Synthetic-v0
    """
    values = without_secrets(plan.to_values())
    return str(yaml.safe_dump(values, sort_keys=False, allow_unicode=True, default_flow_style=False))


def write_plan(plan: Plan, path: Path) -> None:
    """Write a plan to a file; the file is replaced at once, so it is never half-written.

    Raises:
        AtomMemError: the file cannot be written.
    """
    unfinished = path.with_suffix(".part")
    try:
        unfinished.write_text(dump_plan(plan), encoding="utf-8")
        unfinished.replace(path)
    except OSError as error:
        raise AtomMemError(f"the plan cannot be written to {path} ({reason_of(error)}); name another folder") from error


def _known(cls: type, values: Mapping[str, Any], what: str) -> dict[str, Any]:
    names = [one.name for one in fields(cls)]
    for name in values:
        if name not in names:
            raise ConfigError(f"{what} has an unknown field {name!r}; {suggestion(name, names)}")
    return dict(values)


def _list(name: str, value: object) -> list[Any]:
    """A list; a single value counts as a list of one."""
    values = list(value) if isinstance(value, (list, tuple)) else [] if value is None else [value]
    if not values:
        raise ConfigError(f"{name} is empty: a plan needs at least one")
    return values


def _mapping(name: str, value: object) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ConfigError(f"{name}={value!r} must be a mapping of names to values")
    return dict(value)


def _text(name: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{name}={value!r} must be a non-empty text")
    return value


def _distinct(name: str, values: Sequence[object], remedy: str) -> None:
    twice = [value for place, value in enumerate(values) if value in values[:place]]
    if twice:
        raise ConfigError(f"{name} hold {twice[0]!r} twice; {remedy}")


def _env(value: object) -> EnvPlan:
    values = _named("envs", "id", value, EnvPlan)
    return EnvPlan(**{**values, "settings": _mapping("settings", values.get("settings"))})


def _agent(value: object) -> AgentPlan:
    values = _named("agents", "name", value, AgentPlan)
    options = _mapping("options", values.get("options"))
    return AgentPlan(**{**values, "options": options, "model": _model(values.get("model"))})


def _model(value: object) -> ModelPlan | None:
    if value is None:
        return None
    if isinstance(value, str):
        value = {"url" if value.startswith(("http://", "https://")) else "name": value}
    values = _known(ModelPlan, _mapping("model", value), "model")
    for name in ("name", "url"):
        if values.setdefault(name, "") is None or not isinstance(values[name], str):
            raise ConfigError(f"the model's {name}={values[name]!r} must be a text")
    if not (values["name"] or values["url"]):
        raise ConfigError("the model has neither a url nor a name; give the URL of a server, or a local model's name")
    return ModelPlan(**{**values, "options": _mapping("the model's options", values.get("options"))})


def _named(name: str, key: str, value: object, cls: type) -> dict[str, Any]:
    """The fields of a value that may be written as a name alone."""
    values = {key: value} if isinstance(value, str) else value
    if not isinstance(values, Mapping):
        raise ConfigError(f"{name} hold {value!r}; write a name, or a mapping with {key!r}")
    known = _known(cls, values, name)
    _text(f"{key} in {name}", known.get(key))
    if known.get("label"):
        _text(f"label in {name}", known["label"])
    return known


def _plain(value: Any) -> Any:
    """A field of a plan as JSON values; empty fields of nested plans are left out."""
    if isinstance(value, (EnvPlan, AgentPlan, ModelPlan)):
        parts = {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
        return {name: part for name, part in parts.items() if part not in (None, "", {})}
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return value


def _identity(values: dict[str, Any]) -> dict[str, Any]:
    """The values of a plan that determine its results; where a server is and how long it is waited for do not."""

    def model(value: Any) -> Any:
        if not value:
            return value
        options = {name: part for name, part in (value.get("options") or {}).items() if name not in _WAITS}
        kept = {name: part for name, part in value.items() if name not in ("url", "options")}
        return {**kept, "options": options} if options else kept

    kept = {name: value for name, value in values.items() if name not in NOT_RESULTS}
    kept["model"] = model(kept["model"])
    kept["agents"] = [
        {**agent, "model": model(agent["model"])} if "model" in agent else agent for agent in kept["agents"]
    ]
    return kept


def _shown(value: Any) -> str:
    """A value for people: what is named and nothing else stands by its name.

    >>> _shown([{"name": "tidy", "label": "tidy"}]), _shown(None), _shown("numpy")
    ("['tidy']", 'not given', "'numpy'")
    """
    if value is None:
        return "not given"
    if isinstance(value, list):
        values = list(value)
        for place, one in enumerate(value):
            if isinstance(one, dict) and len(set(map(str, one.values()))) == 1:
                values[place] = next(iter(one.values()))
        return repr(values)
    return repr(value)


def _differences(name: str, mine: Any, other: Any) -> list[str]:
    if mine == other:
        return []
    if isinstance(mine, dict) and isinstance(other, dict):
        keys = dict.fromkeys([*mine, *other])
        return [line for key in keys for line in _differences(f"{name}.{key}", mine.get(key), other.get(key))]
    there, now = map(_shown, (mine, other))
    return [f"{name}: {there}; now {now}"]
