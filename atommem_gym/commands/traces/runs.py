"""What `atommem view` is given: folders of evaluations and files of traces, as runs of a page."""

from __future__ import annotations

from collections.abc import Sequence
from os.path import realpath
from pathlib import Path

from atommem_gym.errors import ConfigError
from atommem_gym.evaluation.folder import PLAN, TRACES, check_no_links
from atommem_gym.evaluation.plan import read_plan
from atommem_gym.traces.files import SUFFIXES, is_traces
from atommem_gym.viewer.page import PageRun

REPORT = "report.md"
_NAMEABLE = "name a folder that `atommem eval … -o FOLDER` made, or a file of traces"
_MOST_TEXT = 1 << 20
_MOST_PLOTS = 40
_MOST_PLOT = 8 << 20
_PNG = b"\x89PNG\r\n\x1a\n"


def page_runs(paths: Sequence[Path], training: Path | None = None) -> list[PageRun]:
    """The runs at these paths, each under a name of its own; at the end the episodes that a training kept.

    Raises:
        ConfigError: a path is given twice, is not there, or is neither an evaluation nor a file of traces.
        EvaluationError: a folder holds a link.
    """
    every = [*paths] if training is None else [*paths, training]
    for place, path in enumerate(every):
        if realpath(path) in map(realpath, every[:place]):  # Path.resolve raises in a circle of links
            raise ConfigError(f"{path} is given twice; name each run once")
    for path in paths:
        if not path.exists() and not is_traces(path):
            raise ConfigError(f"there is no file or folder {path}; {_NAMEABLE}")
        if path.is_file() and not is_traces(path):
            raise ConfigError(f"{path} is not a file of traces ({', '.join(SUFFIXES)}); {_NAMEABLE}")
    names = run_names(every)
    runs = [
        _run_of_folder(path, name) if path.is_dir() else PageRun(name, path)
        for path, name in zip(paths, names, strict=False)
    ]
    if training is not None:
        if not training.is_dir():
            raise ConfigError(
                f"--training {training} is not a folder; name the one that grpo.py or veRL's agent loop logs into"
            )
        check_no_links(training)
        runs.append(PageRun(names[-1], traces_of(training)))
    return runs


def run_names(paths: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that tell them apart.

    >>> run_names([Path("runs/base"), Path("runs/trained")])
    ['base', 'trained']
    >>> run_names([Path("a/traces.jsonl"), Path("b/traces.jsonl"), Path("more.jsonl")])
    ['a/traces.jsonl', 'b/traces.jsonl', 'more.jsonl']
    """
    parts = [path.resolve().parts for path in paths]
    lengths = [1] * len(parts)

    def name(place: int) -> str:
        return "/".join(parts[place][-lengths[place] :])

    while True:
        names = [name(place) for place in range(len(parts))]
        short = [i for i, one in enumerate(names) if names.count(one) > 1 and lengths[i] < len(parts[i])]
        if not short:
            return names
        for place in short:
            lengths[place] += 1


def traces_of(folder: Path) -> Path | None:
    """The file of traces in a folder, if there is one."""
    return next((path for kind in ("jsonl", "jsonl.gz") if (path := folder / f"{TRACES}.{kind}").is_file()), None)


def _run_of_folder(folder: Path, name: str) -> PageRun:
    if not (folder / PLAN).is_file():
        raise ConfigError(f"{folder} is a folder without {PLAN}, so it holds no evaluation; {_remedy(folder)}")
    check_no_links(folder)
    plan = read_plan(folder / PLAN)
    notices = []
    traces = traces_of(folder)
    if traces is None:
        notices.append(
            "No episode can be shown: there are no traces (the run was played with --traces none, or has just begun)."
        )
    plots, left_out = _plots(folder)
    notices += left_out
    about = {"plan": _text(folder / PLAN, notices)}
    if (folder / REPORT).is_file():
        about["report"] = _text(folder / REPORT, notices)
    else:
        notices.append(f"There is no {REPORT} yet; atommem eval --report-only -o {folder} makes it.")
    envs = [(env.id, plan.env_keywords(env, docs), env.label) for env in plan.envs for docs in plan.docs_of(env)]
    return PageRun(name, traces, {**about, "notices": notices}, plots, envs)


def _remedy(folder: Path) -> str:
    inside = sorted(path.parent for path in folder.glob(f"*/{PLAN}"))
    if inside:
        return f"name the runs in it: atommem view {' '.join(map(str, inside[:3]))}{' …' if len(inside) > 3 else ''}"
    if any((folder / log).is_file() for log in ("metrics.jsonl", "sessions.jsonl")):
        return f"a training is shown by atommem view --training {folder}"
    files = sorted(path for path in folder.iterdir() if path.is_file() and is_traces(path))
    if files:
        named = " ".join(map(str, files[:3])) + (" …" if len(files) > 3 else "")
        return f"name the files of traces in it: atommem view {named}"
    return _NAMEABLE


def _text(path: Path, notices: list[str]) -> str:
    with path.open("rb") as file:
        data = file.read(_MOST_TEXT + 1)
    if len(data) > _MOST_TEXT:
        notices.append(f"{path.name} is longer than {_MOST_TEXT >> 20} MiB; its beginning is shown.")
    return data[:_MOST_TEXT].decode("utf-8", "replace")


def _plots(folder: Path) -> tuple[dict[str, bytes], list[str]]:
    """The PNG files of a folder by name, and what was left out."""
    plots: dict[str, bytes] = {}
    left_out = []
    for path in sorted(folder.glob("*.png")):
        data = path.read_bytes() if path.is_file() and path.stat().st_size <= _MOST_PLOT else b""
        if data.startswith(_PNG) and len(plots) < _MOST_PLOTS:
            plots[path.name] = data
        else:
            left_out.append(
                f"{path.name} is not shown: it is not a PNG file, larger than {_MOST_PLOT >> 20} MiB, or one too many."
            )
    return plots, left_out
