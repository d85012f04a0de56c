"""Reads what became of every mutant and writes the table: a score per module, and each survivor with its reason."""

from __future__ import annotations

import ast
import datetime
import difflib
import importlib.metadata
import json
import math
import platform
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mutmut.stats import status_by_exit_code

from mutants.static import RUN_ONCE

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it along

JUSTIFIED = Path(__file__).resolve().parent / "equivalent.toml"
"""Survivors that change nothing that is promised, each with its reason."""
_PACKAGES = ("mutmut", "pytest", "hypothesis", "numpy")


@dataclass(frozen=True)
class Mutant:
    """One slip, and what the tests said of it."""

    module: str
    place: str
    """The function that holds it; for a static mutant, the name that is assigned."""
    change: str
    """The lines taken out and put in: ``-old | +new``."""
    verdict: str
    """``killed``, ``timeout``, ``survived``, ``no tests``, ``not checked`` or one of mutmut's rarer ones."""
    kind: str = "function"
    name: str = ""
    """What mutmut calls it."""
    drawn_from: int = 0
    """How many static mutants the module has, of which this one was drawn."""

    @property
    def caught(self) -> bool:
        """Whether some test noticed; a test that never ends is noticed too."""
        return self.verdict in ("killed", "timeout", "segfault")


def function_mutants(folder: Path, modules: Sequence[str]) -> list[Mutant]:
    """The mutants that mutmut made of ``modules``, from its folder ``mutants`` inside ``folder``."""
    found = []
    for module in modules:
        source = folder / "mutants" / "atommem_gym" / module
        codes: dict[str, int | None] = json.loads(Path(f"{source}.meta").read_text())["exit_code_by_key"]
        bodies = _bodies(source.read_text())
        for key, code in codes.items():
            name = key.rpartition(".")[2]
            original = name.rpartition("__mutmut_")[0]
            if original.removeprefix("x_") in RUN_ONCE:
                continue
            change = _difference(bodies[f"{original}__mutmut_orig"], bodies[name])
            place = original.removeprefix("xǁ").removeprefix("x_").replace("ǁ", ".")
            found.append(Mutant(module, place, change, status_by_exit_code[code], name=key))
    return found


def _bodies(source: str) -> dict[str, list[str]]:
    """The lines of every function, its own name in them replaced by ``…``, which is what sets mutants apart."""
    lines = source.splitlines()
    functions = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef))
    return {
        node.name: [line.replace(node.name, "…") for line in lines[node.lineno - 1 : node.end_lineno]]
        for node in functions
    }


def _difference(old: list[str], new: list[str]) -> str:
    lines = list(difflib.unified_diff(old, new, n=0, lineterm=""))[2:]
    return " | ".join(line[0] + line[1:].strip() for line in lines if not line.startswith("@@"))


def write_report(path: Path, mutants: Sequence[Mutant], command: str) -> None:
    """Write ``path`` (Markdown)."""
    reasons = _reasons()
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES)
    lines = [
        "# Mutation check",
        "",
        f"`{command}`, {datetime.date.today():%d %B %Y}, Python {platform.python_version()}, {versions}.",
        "",
        "A mutant is the package with one slip in it; it is caught if a test fails or never ends. *Functions*: every",
        "mutant that mutmut makes of function bodies, messages included. *Static*: a sample of slips in constants,",
        "regular expressions, decorated functions and what runs at import, with the 95 % interval (Wilson) for all of",
        "them. *Equivalent* mutants change nothing that is promised; they are listed with their reasons and count as",
        "survivors in the first score, and not at all in the second.",
        "",
        *_table(mutants, reasons),
        "",
        "## Survivors",
        "",
        *_survivors(mutants, reasons),
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def _reasons() -> dict[tuple[str, str, str], str]:
    entries = tomllib.loads(JUSTIFIED.read_text())["mutant"] if JUSTIFIED.exists() else []
    return {(entry["module"], entry["place"], entry["change"]): entry["reason"] for entry in entries}


def _table(mutants: Sequence[Mutant], reasons: Mapping[tuple[str, str, str], str]) -> list[str]:
    rows = [
        "| module | functions: caught / mutants | score | equivalent | score without | static: caught / drawn of all |",
        "|---|---|---|---|---|---|",
    ]
    for module in [*dict.fromkeys(mutant.module for mutant in mutants), ""]:
        here = [mutant for mutant in mutants if module in ("", mutant.module)]
        checked = [mutant for mutant in here if mutant.kind == "function" and mutant.verdict != "not checked"]
        caught = sum(mutant.caught for mutant in checked)
        equivalent = sum(not mutant.caught and _key(mutant) in reasons for mutant in checked)
        left_out = sum(mutant.kind == "function" for mutant in here) - len(checked)
        note = f" ({left_out} not run)" if left_out else ""
        rows.append(
            f"| {module or '**all**'} | {caught} / {len(checked)}{note} | {_percent(caught, len(checked))} "
            f"| {equivalent} | {_percent(caught, len(checked) - equivalent)} | {_static(here)} |"
        )
    return rows


def _static(mutants: Sequence[Mutant]) -> str:
    drawn = [mutant for mutant in mutants if mutant.kind == "static"]
    if not drawn:
        return "none"
    caught = sum(mutant.caught for mutant in drawn)
    everything = sum({mutant.module: mutant.drawn_from for mutant in drawn}.values())
    low, high = wilson(caught, len(drawn))
    return f"{caught} / {len(drawn)} of {everything} ({low:.0%} to {high:.0%})"


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a share of ``hits`` in ``n`` draws."""
    z = 1.96
    share, shrink = hits / n, 1 + z * z / n
    middle = (share + z * z / (2 * n)) / shrink
    half = z / shrink * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def _survivors(mutants: Sequence[Mutant], reasons: Mapping[tuple[str, str, str], str]) -> list[str]:
    lines = []
    alive = [mutant for mutant in mutants if not mutant.caught and mutant.verdict != "not checked"]
    for (module, place), count in Counter((mutant.module, mutant.place) for mutant in alive).items():
        lines += [f"`{module}`, `{place}`: {count}", ""]
        for mutant in alive:
            if (mutant.module, mutant.place) == (module, place):
                how = "" if mutant.verdict == "survived" else f" [{mutant.verdict}]"
                reason = reasons.get(_key(mutant), "**not justified**")
                lines.append(f"- `` {mutant.change} ``{how}: {reason}")
        lines.append("")
    return lines or ["None."]


def _key(mutant: Mutant) -> tuple[str, str, str]:
    return mutant.module, mutant.place, mutant.change


def _percent(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "none"
