"""Takes the pictures of docs/viewer.md: python tests/viewer/viewer_screenshot.py docs

A step of an episode, two runs side by side, what operations were worth, and a training.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from support.example_traces import example_traces, play_runs

from atommem_gym.agents import make_agent
from atommem_gym.cli import main as atommem
from atommem_gym.records.layout import stable_rng
from atommem_gym.traces import EpisodeTrace, read_traces
from atommem_gym.traces.counterfactual import counterfactuals
from atommem_gym.traces.counterfactual_file import counterfactual_json
from atommem_gym.viewer import write_page

SIZE = {"width": 1440, "height": 900}


def main(folder: str) -> None:
    from playwright.sync_api import sync_playwright
    from support.browser import find_chromium

    with tempfile.TemporaryDirectory() as made:
        shots = pages(Path(made))
        with sync_playwright() as playwright:
            path, arguments = find_chromium()
            browser = playwright.chromium.launch(executable_path=path, args=arguments)
            page = browser.new_page(viewport=SIZE, color_scheme="light")
            for picture, (address, ready) in shots.items():
                page.goto(address)
                page.wait_for_selector(ready)
                page.screenshot(path=str(Path(folder) / picture))
            browser.close()


def pages(folder: Path) -> dict[str, tuple[str, str]]:
    """Each picture's address, and what is there once it is drawn."""
    write_page(example_traces(8), folder / "page.html", title="generated world")
    runs = play_runs(folder)
    atommem(["view", *map(str, runs), "-o", str(folder / "runs.html"), "--no-open"])
    traces = [trace for run in runs for trace in read_traces(run / "traces.jsonl")]
    # Episodes are recorded in the order in which they end.
    base, small = (number for number, trace in enumerate(traces) if is_shown(trace, 12))
    place, trace = next(one for one in enumerate(read_traces(runs[1] / "traces.jsonl")) if is_shown(one[1], 20))
    found = counterfactuals(trace, agent=partial(make_agent, "oracle"))
    (folder / "worth.json").write_text(json.dumps(counterfactual_json(trace, place, "oracle", found)))
    worth = ["--counterfactual", str(folder / "worth.json")]
    atommem(["view", str(runs[1]), *worth, "-o", str(folder / "worth.html"), "--no-open"])
    write_training(folder / "grpo")
    atommem(["view", "--training", str(folder / "grpo"), "-o", str(folder / "training.html"), "--no-open"])
    return {
        "viewer.png": ((folder / "page.html").as_uri() + "#10/2", "#step .panels"),
        "viewer_sides.png": ((folder / "runs.html").as_uri() + f"#{base}~{small}/1", ".differences"),
        "viewer_counterfactual.png": ((folder / "worth.html").as_uri() + f"#{place}/3", ".worths"),
        "viewer_training.png": ((folder / "training.html").as_uri() + "#training/30", ".chart svg"),
    }


def is_shown(trace: EpisodeTrace, docs: int) -> bool:
    """Whether it is the episode of `tidy` over one item, among so many documents."""
    return (trace.agent.name, trace.index, len(trace.documents)) == ("tidy", 1695, docs)


def write_training(folder: Path, steps: int = 40, groups: int = 8, members: int = 4) -> None:
    """Made-up figures in the form of ``grpo.py --log``; nothing was trained."""
    folder.mkdir()
    rng = stable_rng("made-up training", 0)
    with (folder / "sessions.jsonl").open("w") as sessions, (folder / "metrics.jsonl").open("w") as metrics:
        for step in range(1, steps + 1):
            skill = 0.25 + 0.45 * (1 - math.exp(-step / 14))
            for group in range(groups):
                chance = min(0.98, max(0.02, rng.normal(skill, 0.3)))
                for member in range(members):
                    line: dict[str, Any] = {"run": "made-up", "global_step": step, "uid": f"{step}-{group}"}
                    em = float(rng.random() < chance)
                    line |= {"session": member, "part": "train", "item": f"made-up/{group}", "shuffle_seed": 0}
                    line |= {"reward": em, "em": em, "steps": 7, "rejected": int(rng.integers(3)), "peak_entries": 9}
                    line |= {"op_create": int(rng.poisson(6 + 3 * skill)), "op_read": 2, "op_answer": 1}
                    line |= {"op_update": int(rng.poisson(3 * skill)), "op_delete": int(rng.poisson(skill))}
                    sessions.write(f"{json.dumps(line)}\n")
            rates = {"sampled_tokens_per_second": 900 + rng.normal(0, 25), "trained_tokens_per_second": 3000.0}
            metrics.write(f"{json.dumps({'iteration': step, **rates})}\n")


if __name__ == "__main__":
    main(sys.argv[1])
