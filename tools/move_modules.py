"""Moves modules into their rooms: ``python tools/move_modules.py ROOM [ROOM ...]``, from the root of a clean checkout.

A room is a table of old and new module names below. For each the files are moved with ``git mv``, and every text of the
repository that names a module by its dotted name, imports it from its package, or names its file, is rewritten. Then
ruff sorts the imports. Nothing else changes; the configuration (packages, layers) is edited by hand in the same commit.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "atommem_gym"
MAPPED = {"envs": "envs", "agents": "agents"}
"""Rooms that stand at the top of the repository and install below the package."""
TEXTS = {".py", ".md", ".toml", ".yaml", ".yml", ".sh", ".j2", ".js", ".html", ""}
_DONE = "NEW_NAME_"
"""Stands before a name that is new already, so that it is not rewritten a second time."""
UNTOUCHED = {"LICENSE", "tools/move_modules.py", "CHANGELOG.md"}


def _same(old: str, new: str, *names: str) -> dict[str, str]:
    return {f"{old}.{name}": f"{new}.{name}" for name in names}


ROOMS: dict[str, dict[str, str]] = {
    "root": {
        "released": "episode_released",
        "actions.released": "actions.released_tags",
        "scoring.released": "scoring.boxed_match",
    },
    "embedders": {
        "memory.embedders": "embedders.loading",
        "memory.hashing": "embedders.hashing_embedder",
        "memory.sentence_embedder": "embedders.sentence_embedder",
        "memory.endpoint": "embedders.openai_embedder",
    },
    "stores": {
        **_same("memory", "stores", "mirror", "numpy_store", "rows"),
        **_same("memory", "stores", "milvus_server", "milvus_search"),
        "memory.stores": "stores.loading",
        "commands.kept_memory": "stores.kept",
        "memory.milvus_lite": "stores.lite.store",
        "memory.lite_databases": "stores.lite.databases",
        "memory.lite_engine": "stores.lite.engine",
        "memory.lite_episodes": "stores.lite.episodes",
        "memory.lite_table": "stores.lite.table",
    },
    "worlds": {
        "worlds": "worlds.tasks",
        "data.synthetic.dice": "worlds.dice",
        **_same("data", "worlds", "synthetic", "needle", "drift"),
    },
    "records": {
        "data.records": "records.record",
        "data.pool": "records.documents",
        **_same(
            "data", "records", "audit", "cache", "corpus", "files", "hub", "identity", "items", "layout", "own_files"
        ),
        **_same("data", "records", "own_pdf", "reading", "sources", "stream", "verl_rows"),
        "data.sentences": "records.formats.paragraphs",
        **_same("data", "records.formats", "fields", "mentions", "hotpotqa", "twowiki", "musique", "own_records"),
        "data": "records",
    },
    "policies": _same("agents", "policies", "answering", "documents", "oracle_reader", "words", "writing"),
    "envs": {
        "envs.pool": "envs.pool.pool",
        "envs.pool_env": "envs.pool.pool_env",
        "envs.pool_batches": "envs.pool.batches",
        **_same("envs", "envs.pool", "coalescer", "flight", "places"),
        "envs.team": "envs.team.team",
        "envs.team_episode": "envs.team.episode",
        "envs.team_memory": "envs.team.memory",
        "envs.team_parts": "envs.team.parts",
        "envs.team_render": "envs.team.render",
        "envs.team_slot": "envs.team.slot",
        "envs.wrappers": "envs.wrappers.plain",
        "envs.curriculum": "envs.wrappers.curriculum",
        "envs.trace_wrapper": "envs.wrappers.record_traces",
        "envs.vector_wrappers": "envs.wrappers.vector.plain",
        **_same("agents", "envs.macro", "macro_actions", "macro_state", "embedding_observation", "relevance"),
    },
    "agents": {
        **_same("agents", "agents.scripted", "keep_all", "oracle", "overwrite", "random_agent", "silent", "tidy"),
        **_same("agents", "agents.scripted", "storing", "quoting"),
        **_same("agents", "agents.players", "language_model", "openai_model", "openai_reply", "transformers_model"),
        **_same("agents", "agents.players", "llm_player", "llm_overwrite", "llm_text", "player"),
        "agents.llm_batching": "agents.players.batching",
        "agents.llm_sampling": "agents.players.sampling",
        "agents.llm_shortening": "agents.players.shortening",
        "agents.llm_long_context": "agents.players.long_context",
        "agents.llm_retrieve": "agents.players.retrieve_then_read",
        "agents.team_llm": "agents.players.team",
        **_same("agents", "agents.learn", "ppo", "grpo", "verl_loop", "verl_pools"),
        "agents.verl_session": "agents.session",
    },
    "commands": {
        "commands.ask": "commands.ask.ask",
        "commands.ask_display": "commands.ask.display",
        "commands.ask_episode": "commands.ask.episode",
        "commands.ask_memory": "commands.ask.memory",
        **_same("commands", "commands.traces", "replay", "rescore", "export", "keys", "view"),
        "commands.trace_panels": "commands.traces.panels",
        "traces.origin": "traces.env_keywords",
        **_same("traces", "traces.training", "export", "sft", "splits"),
    },
}


def path_of(module: str) -> Path:
    """The file or folder of a module, relative to the root, without a suffix."""
    first, *rest = module.split(".")
    return Path(MAPPED.get(first, f"{PACKAGE}/{first}"), *rest)


def move(table: Mapping[str, str]) -> None:
    """Move the files; a package moves with all that is in it."""
    for old, new in table.items():
        source, target = ROOT / path_of(old), ROOT / path_of(new)
        if source.with_suffix(".py").is_file():
            source, target = source.with_suffix(".py"), target.with_suffix(".py")
            # A module whose name becomes that of its folder has to make room for it first.
            target.parent.mkdir(parents=True, exist_ok=True)
            git("mv", str(source), str(target))
        elif source.is_dir() and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            git("mv", str(source), str(target))
        elif source.is_dir():
            for file in sorted(source.iterdir()):
                if file.name != "__pycache__":
                    git("mv", str(file), str(target / file.name))


def rewrite(table: Mapping[str, str]) -> None:
    """Rewrite every text that names a module."""
    dotted = {f"{PACKAGE}.{old}": f"{PACKAGE}.{new}" for old, new in table.items()}
    names = re.compile(rf"(?<![\w.])({'|'.join(map(re.escape, sorted(dotted, key=len, reverse=True)))})(?!\w)")
    files = {f"{path_of(old)}.py": f"{path_of(new)}.py" for old, new in table.items()}
    paths = re.compile(rf"(?<![\w/-])({'|'.join(map(re.escape, sorted(files, key=len, reverse=True)))})(?!\w)")
    for name in git("ls-files", "-z").split("\0"):
        path = ROOT / name
        if not name or name in UNTOUCHED or path.suffix not in TEXTS or not path.is_file() or path.is_symlink():
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        changed = from_package(text, dotted) if path.suffix == ".py" else text
        changed = names.sub(lambda found: dotted[found[1]], changed)
        changed = paths.sub(lambda found: files[found[1]], changed).replace(_DONE, "")
        if changed != text:
            path.write_text(changed, encoding="utf-8")


def from_package(text: str, dotted: Mapping[str, str]) -> str:
    """``from package import module`` where the module moves, by the module's new name."""
    lines = text.splitlines(keepends=True)
    for node in sorted(ast.walk(ast.parse(text)), key=lambda node: -getattr(node, "lineno", 0)):
        if not isinstance(node, ast.ImportFrom) or node.module is None or node.level:
            continue
        moved = [alias for alias in node.names if f"{node.module}.{alias.name}" in dotted]
        if not moved:
            continue
        indent = " " * node.col_offset
        _, mark, comment = lines[node.lineno - 1].partition("  #")
        end = f"{mark}{comment}" if mark else "\n"
        made = []
        stay = [alias for alias in node.names if alias not in moved]
        if stay:
            made.append(f"{indent}from {node.module} import {', '.join(map(ast.unparse, stay))}{end}")
        for alias in moved:
            package, _, name = dotted[f"{node.module}.{alias.name}"].rpartition(".")
            bound = alias.asname or alias.name
            renamed = "" if bound == name else f" as {bound}"
            made.append(f"{indent}from {_DONE}{package} import {name}{renamed}{end}")
        assert node.end_lineno is not None
        lines[node.lineno - 1 : node.end_lineno] = made
    return "".join(lines)


def list_packages() -> None:
    """Write the packages that there are into pyproject.toml."""
    found = [PACKAGE]
    for top, name in [(PACKAGE, PACKAGE), *((folder, f"{PACKAGE}.{room}") for room, folder in MAPPED.items())]:
        folders = {path.parent for path in (ROOT / top).rglob("*.py")}
        found += [".".join([name, *folder.relative_to(ROOT / top).parts]) for folder in folders]
    path = ROOT / "pyproject.toml"
    lines = "".join(f'  "{package}",\n' for package in sorted(set(found)))
    text = path.read_text(encoding="utf-8")
    path.write_text(
        re.sub(r"(?<=^packages = \[\n)(?:  .*\n)+", lambda _: lines, text, flags=re.MULTILINE), encoding="utf-8"
    )


def git(*arguments: str) -> str:
    """What git prints."""
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout


def main(rooms: list[str]) -> None:
    """Move the rooms that are named."""
    unknown = [room for room in rooms if room not in ROOMS]
    if unknown or not rooms:
        raise SystemExit(f"unknown room {unknown}; there are {', '.join(ROOMS)}")
    for room in rooms:
        rewrite(ROOMS[room])
        move(ROOMS[room])
    list_packages()
    subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--select", "I,F401", "--fix", "--quiet", "."], cwd=ROOT, check=False
    )
    subprocess.run([sys.executable, "-m", "ruff", "format", "--quiet", "."], cwd=ROOT, check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
