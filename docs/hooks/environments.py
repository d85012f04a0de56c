"""Writes docs/environments/: a page for each environment, from its class docstring and its keyword arguments.

`python docs/hooks/environments.py` (or `make docs`) writes the pages; a test says when they are behind the code.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import json
import re
import textwrap
from collections.abc import Collection, Mapping
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

import atommem_gym.envs
from atommem_gym.config import NO_KEYWORDS, EnvConfig
from atommem_gym.registration import TASKS
from atommem_gym.task import Task, load_attribute

FOLDER = Path(__file__).resolve().parent.parent / "environments"
_NOTE = "<!-- Made by docs/hooks/environments.py from the docstrings in the code: change those, then `make docs`. -->"
_EXCERPT = 6
"""Documents of the example that are shown at most, besides gold."""


def write_pages(folder: Path = FOLDER) -> list[Path]:
    """Write all pages, remove those of environments that are gone, and return what was written."""
    folder.mkdir(exist_ok=True)
    wanted = pages()
    for path in folder.glob("*.md"):
        if path.name not in wanted:
            path.unlink()
    for name, text in wanted.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in wanted]


def pages() -> dict[str, str]:
    """File name to text, for the overview and every environment of the family."""
    found = {file_name(task): page(task) for task in family()}
    return {"index.md": overview(), **found}


def family() -> list[Task]:
    """The environments of this package; tasks that somebody registered have their own pages."""
    return [task for task in TASKS.values() if _class_name(task) not in ("", "AtomMemEnv")]


def file_name(task: Task) -> str:
    """The page of a task."""
    return f"{task.name.lower()}.md"


def overview() -> str:
    """All environments in one table."""
    rows = [f"| [`{task.env_id}`]({file_name(task)}) | {task.summary} | {_source(task)} |" for task in family()]
    lines = [
        "# Environments",
        "",
        _NOTE,
        "",
        "All members of the family share actions, observations, rewards and keyword arguments; they differ in what is "
        "read and asked. `import atommem_gym` registers them.",
        "",
        "| id | what | records |",
        "|---|---|---|",
        *rows,
        "",
        "[The rules](../semantics.md) say what all of it means. In [a team](../team.md) several agents share a memory "
        "(PettingZoo).",
        "",
        "[A task over your own records](../custom_task.md) takes twenty lines, "
        "[a world with a generator of its own](../plugins/world.md) one file. "
        "[Testing](../testing.md) says how to hold either to the rules, and "
        "[the reference](../reference/environments.md) describes classes and functions.",
    ]
    return "\n".join(lines) + "\n"


def page(task: Task) -> str:
    """The manual page of one environment."""
    first, sections = manual(getattr(atommem_gym.envs, _class_name(task)))
    parts = [
        f"# {task.env_id}",
        _NOTE,
        first,
        _facts(task),
        *(f"## {title}\n\n{body}" for title, body in sections.items() if title not in ("Arguments", "Version History")),
        f"## Arguments\n\n{_arguments(task)}",
        f"## An Item\n\n{_example(task)}",
        f"## Version History\n\n{sections['Version History']}",
    ]
    return "\n\n".join(parts) + "\n"


def manual(env_class: type) -> tuple[str, dict[str, str]]:
    """The first paragraph of a class docstring, without the id at its end, and its sections by title."""
    opening, *rest = re.split(r"^## (.+)\n", inspect.cleandoc(env_class.__doc__ or ""), flags=re.MULTILINE)
    first = re.sub(r": `AtomMem-[\w-]+`\.$", ".", opening.strip())
    return first, {title.strip(): body.strip() for title, body in zip(rest[::2], rest[1::2], strict=True)}


def descriptions(dataclass: type) -> dict[str, str]:
    """What the string under each field of a dataclass says, as Markdown."""
    [body] = (node.body for node in ast.parse(textwrap.dedent(inspect.getsource(dataclass))).body if _is_class(node))
    found = {}
    for node, following in itertools.pairwise(body):
        if isinstance(node, ast.AnnAssign) and isinstance(following, ast.Expr):
            text = ast.literal_eval(following.value)
            found[ast.unparse(node.target)] = _plain(text)
    return found


def _first_paragraph(function: Any) -> str:
    """What a function's docstring says first."""
    return _plain((inspect.getdoc(function) or "").split("\n\n")[0])


def _plain(docstring: str) -> str:
    """A paragraph of a docstring as one line of Markdown."""
    return " ".join(docstring.replace("``", "`").split())


def _is_class(node: ast.stmt) -> Any:
    return isinstance(node, ast.ClassDef)


def _class_name(task: Task) -> str:
    """The class in ``atommem_gym.envs`` that is registered; empty if it is another package's."""
    module, _, name = task.entry_point.partition(":")
    return name if module == "atommem_gym.envs" else ""


def _facts(task: Task) -> str:
    plain, vector = (entry.replace(":", ".") for entry in (task.entry_point, task.vector_entry_point))
    config = task.config({})
    written = f"../{file_name(task)}"
    more = [f"| background and measurements | [{task.name}]({written}) |"] if (FOLDER / written).is_file() else []
    return "\n".join(
        [
            "| | |",
            "|---|---|",
            f'| one episode | `gymnasium.make("{task.env_id}")`, class `{plain}` |',
            f'| many, batched | `gymnasium.make_vec("{task.env_id}", num_envs=64)`, class `{vector}` |',
            f'| many, each at its own pace | [`AtomMemPool("{task.env_id}")`](../async_pool.md) |',
            f"| action space | `ActionText({config.max_action_chars})` |",
            "| observation space | `Dict`, ten fields |",
            f"| records | {_source(task)} |",
            *more,
        ]
    )


def _source(task: Task) -> str:
    from atommem_gym.records.hub import HUB

    if task.dataset is None:
        return "generated"
    repository = HUB[task.dataset].repository
    if task.contexts:
        return f"official files, or hub (`{repository}`)" if HUB[task.dataset].splits else "official files"
    return f"hub (`{repository}`), official files, or generated in the same shape"


def _arguments(task: Task) -> str:
    own = load_attribute(task.options, "options") if task.options is not None else None
    changed = {**task.defaults, **({"order": "given"} if task.contexts else {})}
    parts = []
    if own is not None:
        parts += ["Of this environment alone:", _table(own, changed)]
        parts += ["Of every environment of the family; defaults in bold are this environment's own:"]
    else:
        parts += [
            "Keyword arguments of `gymnasium.make`, the same for the whole family"
            + ("; defaults in bold are this environment's own:" if changed else ":")
        ]
    parts += [_table(EnvConfig, changed, ("num_docs",) if task.contexts else ())]
    if task.difficulty is not None:
        meaning = _first_paragraph(load_attribute(task.difficulty, "difficulty"))
        parts += [f"`difficulty` sets here: {meaning.removeprefix('What `difficulty=` sets: ')}"]
    parts += [
        "All are JSON values (a reward may also be a callable). An unknown or contradictory one raises `ConfigError`, "
        "which names it. Besides, `items=` takes the place of the environment's own items, and `render_mode` is "
        '`None`, `"ansi"` or `"human"`.'
    ]
    return "\n\n".join(parts)


def _table(dataclass: type, changed: Mapping[str, Any], left_out: Collection[str] = ()) -> str:
    said = descriptions(dataclass)
    rows = ["| argument | default | |", "|---|---|---|"]
    for field in fields(dataclass):
        if dataclass is EnvConfig and (field.name in NO_KEYWORDS or field.name in left_out):
            continue
        default = f"**`{_shown(changed[field.name])}`**" if field.name in changed else f"`{_shown(_default(field))}`"
        rows.append(f"| `{field.name}` | {default} | {said[field.name]} |")
    return "\n".join(rows)


def _default(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        value = list(value)
    if isinstance(value, (str, list, dict)):
        return json.dumps(value, ensure_ascii=False)
    return repr(value)


def _example(task: Task) -> str:
    """The first item, as generated, with its gold evidence."""
    if task.contexts and task.dataset is not None:
        return "Records come from files that are no part of this package, so none is shown here."
    keywords = {} if task.dataset is None else {"source": "synthetic"}
    items = task.load_items(task.config(keywords))
    item = items.item(0)
    shape = "" if task.dataset is None else ', generated in the data set\'s shape (`source="synthetic"`)'
    lines = [f"Item 0 of {items.num_items:,}{shape}: {len(item.documents):,} documents and this question."]
    question = item.questions[0]
    answers = " or ".join(f"**{answer}**" for answer in question.answers[:4]) or "no answer: abstain"
    lines += ["", f"> {question.question}", ">", f"> {answers}{f' ({question.type})' if question.type else ''}", ""]
    if question.evidence:
        lines += ["Its evidence:" if len(item.questions) == 1 else "Evidence of the first:", ""]
    pieces = [f"- *{piece.title}:* {_one_line(piece.text)}" for piece in question.evidence]
    lines += pieces[:_EXCERPT]
    if len(pieces) > _EXCERPT:
        lines += [f"- … and {len(pieces) - _EXCERPT} more"]
    return "\n".join(lines)


def _one_line(text: str, most: int = 300) -> str:
    joined = " ".join(text.split())
    return joined if len(joined) <= most else f"{joined[: most - 1].rstrip()}…"


if __name__ == "__main__":
    for path in write_pages():
        print(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
