"""Protocols fix environments, document counts, settings, and items by id and hash; from the package or a file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, TypeAlias

from atommem_gym.agents.play import draw_items
from atommem_gym.errors import ConfigError, reason_of, suggestion
from atommem_gym.evaluation.plan import EnvPlan, Plan
from atommem_gym.files.strict_json import strict_json
from atommem_gym.records.identity import documents_hash, identity
from atommem_gym.records.record import Item
from atommem_gym.registration import TASKS, load_items
from atommem_gym.trust import without_secrets

_MOST_SAID = 300
"""Most characters of a fault in a message, since a file may hold anything."""
VERSION = 1
"""Version of the files; any change of a field or of its meaning raises it."""
FIXED = ("envs", "docs", "seeds", "episodes", "items_seed", "settings")
"""The fields of a plan that a protocol fixes; of ``settings`` all but those in ``FREE``."""
FREE = frozenset(
    {
        *("source", "store", "store_reads", "keep_memory", "embedder", "embedder_options"),
        *("reader", "reader_options", "dialect", "thinking", "template"),
    }
)
"""Keyword arguments that a protocol leaves free, because they do not change what is asked: where records lie, how
memory is stored and searched, who reads, and how actions are written. They may change results; the plan has them."""

ItemHash: TypeAlias = tuple[str, str]
"""An item's id and its :func:`item_hash`."""


@dataclass(frozen=True, slots=True)
class FixedProtocol:
    """A fixed protocol: all evaluations that follow it play the same items by the same rules."""

    name: str
    """Name of the protocol."""
    plan: Mapping[str, Any]
    """The ``FIXED`` fields of a plan, as plain values."""
    rules: Mapping[str, Mapping[str, Any]]
    """The keyword arguments of each environment that are not free, by its label, with the defaults of the version that
    made the protocol. Keyword arguments of later versions are not among them."""
    items: Mapping[str, Sequence[ItemHash]]
    """The items in the order of play, by ``LABEL/DOCUMENTS``."""

    @property
    def hash(self) -> str:
        """Hash of plan, rules and items."""
        return _hash({"plan": self.plan, "rules": self.rules, "items": self.items})

    @property
    def title(self) -> str:
        """``NAME#HASH``, as in plans and reports."""
        return f"{self.name}#{self.hash}"

    def apply(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values of a plan that follows this protocol.

        Args:
            values: Plain values of a plan: agents, model, and settings that are free.

        Raises:
            ConfigError: ``values`` hold a field or setting that the protocol fixes.
        """
        for name in FIXED:
            if name != "settings" and name in values:
                raise ConfigError(f"the protocol {self.name!r} fixes {name}; leave it out, or leave --protocol out")
        for name in values.get("settings") or {}:
            if name not in FREE:
                raise ConfigError(
                    f"the protocol {self.name!r} fixes the settings, {name} too; free are {', '.join(sorted(FREE))}"
                )
        settings = {**self.plan.get("settings", {}), **(values.get("settings") or {})}
        return {**values, **self.plan, "settings": settings, "protocol": self.title}

    def check_plan(self, plan: Plan) -> None:
        """Check that a plan follows this protocol.

        Raises:
            ConfigError: a field, setting or default differs.
        """
        ours = fixed_values(plan)
        for name in FIXED:
            if ours[name] != self.plan.get(name):
                free = ", ".join(sorted(FREE))
                raise ConfigError(
                    f"the plan has {name}={ours[name]!r}, and the protocol {self.name!r} {self.plan.get(name)!r}: "
                    f"leave out what the protocol fixes; free are agents, model and the settings {free}"
                )

        rules = _rules(plan)
        for label, theirs in self.rules.items():
            for name, value in theirs.items():
                if rules[label].get(name) != value:
                    raise ConfigError(
                        f"{label} has {name}={rules[label].get(name)!r}, and in the protocol {self.name!r} {value!r}: "
                        "another version of the package has another default; use one that has the protocol's"
                    )

    def check(self, env: EnvPlan, docs: int, items: Sequence[Item]) -> None:
        """Check that the items of an environment at one document count are those of the protocol.

        Raises:
            ConfigError: their number or an item differs; the message names the first.
        """
        theirs = self.items.get(_cell(env, docs))
        if theirs is None or len(theirs) != len(items):
            raise ConfigError(f"the protocol {self.name!r} has other items than {len(items)} of {_cell(env, docs)}")
        for number, ((item_id, found), item) in enumerate(zip(theirs, items, strict=True), 1):
            if (item.id, item_hash(item)) != (item_id, found):
                raise ConfigError(
                    f"item {number} of {_cell(env, docs)} is {item.id!r} with the hash {item_hash(item)}, and in the "
                    f"protocol {self.name!r} {item_id!r} with {found}: the records differ (another file, split or "
                    "version of the package), so the numbers could not be compared"
                )

    def to_text(self) -> str:
        """The text of the protocol's file; :func:`parse_protocol` is the inverse."""
        head = {"version": VERSION, "name": self.name, "hash": self.hash, "plan": self.plan, "rules": self.rules}
        # One item per line, so that a line diff shows what differs.
        cells = ",\n".join(
            f"{json.dumps(cell)}: [\n" + ",\n".join(json.dumps(list(item)) for item in listed) + "\n]"
            for cell, listed in self.items.items()
        )
        return f'{json.dumps(head)[:-1]},\n"items": {{\n{cells}\n}}}}\n'


def item_hash(item: Item) -> str:
    """Hash of an item's questions, answers, evidence and documents, in their order."""
    return _hash(identity(item, documents_hash(item.documents)))[:16]


def fixed_values(plan: Plan) -> dict[str, Any]:
    """The ``FIXED`` fields of a plan, as plain values without free settings."""
    values = {field: value for field, value in without_secrets(plan.to_values()).items() if field in FIXED}
    values["settings"] = _without_free(values["settings"])
    values["envs"] = [
        _without_empty({**env, "settings": _without_free(env.get("settings", {}))}) for env in values["envs"]
    ]
    return values


def lock(name: str, plan: Plan) -> FixedProtocol:
    """Make a protocol of a plan, with the items that its records give now.

    Args:
        name: Name of the protocol.
        plan: What it fixes; agents and model are ignored.

    Raises:
        ConfigError, DatasetUnavailableError: the items cannot be loaded.
    """
    found = {}
    for env in plan.envs:
        for docs in plan.docs_of(env):
            found[_cell(env, docs)] = [(item.id, item_hash(item)) for item in drawn_items(plan, env, docs)]
    return FixedProtocol(name, fixed_values(plan), _rules(plan), found)


def known_protocols() -> list[str]:
    """Names of the protocols that come with the package."""
    return sorted(file.name[:-5] for file in _folder().iterdir() if file.name.endswith(".json"))


def load_protocol(name: str) -> FixedProtocol:
    """Load a protocol by its name, or from a file by its path.

    Raises:
        ConfigError: there is no such protocol, or its file is damaged.
    """
    if name in known_protocols():
        return parse_protocol((_folder() / f"{name}.json").read_text(encoding="utf-8"), name)
    path = Path(name)
    if not path.is_file():
        raise ConfigError(
            f"there is no protocol and no file {name!r}; {suggestion(name, known_protocols())} "
            "(`atommem eval … --lock FILE` makes one of a plan)"
        )
    try:
        return parse_protocol(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the protocol {path} cannot be read ({reason_of(error)})") from error


def parse_protocol(text: str, where: str) -> FixedProtocol:
    """The protocol in the text of a file.

    Args:
        text: JSON, as :meth:`FixedProtocol.to_text` makes it.
        where: Names the file in messages.

    Raises:
        ConfigError: it is damaged, of another version, or was changed by hand, so that its hash does not fit.
    """
    try:
        values = strict_json(text)
        version, said = values["version"], values["hash"]
        items = {cell: [(str(one), str(other)) for one, other in listed] for cell, listed in values["items"].items()}
        protocol = FixedProtocol(values["name"], values["plan"], values["rules"], items)
        _check_types(protocol)
        fits = protocol.hash == said
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(
            f"{where} is no protocol ({type(error).__name__}: {str(error)[:_MOST_SAID]}); name a file that "
            "`atommem eval … --lock FILE` wrote"
        ) from error
    if type(version) is not int or version != VERSION:
        raise ConfigError(f"the protocol {where} is of version {version!r:.40} and this package reads {VERSION}")
    if not fits:
        raise ConfigError(
            f"the protocol {where} says the hash {said!r:.80} and has {protocol.hash}: it was changed; a changed "
            "protocol is another one, make it with --lock"
        )
    return protocol


def _check_types(protocol: FixedProtocol) -> None:
    """Raise ``TypeError`` unless the parts of a protocol have the types that their users rely on."""
    if not isinstance(protocol.name, str):
        raise TypeError("its name is no text")
    settings = protocol.plan.get("settings", {})
    if not all(isinstance(part, dict) for part in (protocol.plan, settings, *protocol.rules.values())):
        raise TypeError("its plan, its settings or the rules of an environment are no object")
    unknown = sorted(protocol.plan.keys() - set(FIXED))
    if unknown:
        raise TypeError(f"its plan fixes {unknown[0]!r}, which no protocol does")


def _folder() -> Any:
    return resources.files("atommem_gym.evaluation.protocols")


def _cell(env: EnvPlan, docs: int) -> str:
    return f"{env.label}/{docs}"


def _rules(plan: Plan) -> dict[str, dict[str, Any]]:
    """The keyword arguments of each environment that are not free, without document count and agents' demands."""
    rules = {}
    for env in plan.envs:
        task = next(task for task in TASKS.values() if task.env_id == env.id)
        keywords = task.config(plan.env_keywords(env, plan.docs_of(env)[0])).as_keywords()
        kept = {name: value for name, value in keywords.items() if name not in FREE | {"num_docs"}}
        rules[env.label] = json.loads(json.dumps(kept, default=str))
    return rules


def drawn_items(plan: Plan, env: EnvPlan, docs: int) -> Iterator[Item]:
    """The items of an environment of a plan at one document count, in the order of play."""
    task = next(task for task in TASKS.values() if task.env_id == env.id)
    items = load_items(task.name, task.config(plan.env_keywords(env, docs)))
    return (items.item(*one) for one in draw_items(items.num_items, plan.episodes, plan.items_seed))


def _without_empty(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value}


def _without_free(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in FREE}


def _hash(value: object) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
