"""How much of their prompts the sessions of a group share, by prompt template: ``python benchmarks/prefix_sharing.py``.

A server that caches prefixes computes that part once. Sessions of a group play one episode and write different things
into their memories, drawn at random from what they read; tokens are those of the environment's tokenizer ``words``.
Nothing is timed, so every machine makes the same numbers.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

import gymnasium as gym
import tyro
from reports.machine import provenance

import atommem_gym  # noqa: F401  (registers the ids)
from atommem_gym.agents.learn.prefix_sharing import BLOCK, Group, cache_hits, sharing
from atommem_gym.prompts import PromptTemplate
from atommem_gym.step import Observation
from atommem_gym.tokenizers import load_tokenizer

RESULTS = Path(__file__).resolve().parent / "results"
ENV_ID = "AtomMem-Synthetic-v0"
TEMPLATES = {"the dialect's own": None, "shared_prefix": "shared_prefix"}
REPLICAS = 8
"""Among which calls are spread in the last column."""


@dataclass
class Options:
    """Write benchmarks/results/prefix_sharing.md and .json."""

    items: int = 2
    """Groups."""
    group: int = 8
    """Sessions of a group."""
    num_docs: int = 800
    """Documents of an episode."""
    chunk_tokens: int = 4000
    """Tokens of a chunk."""
    out: Path = RESULTS
    """Folder of the results."""


@dataclass(frozen=True)
class Measured:
    """One template."""

    template: str
    prompt_tokens: float
    """Mean."""
    with_member: float
    with_last_step: float
    cache_hits: float
    """One replica a group."""
    cache_hits_spread: float
    """Calls spread over ``REPLICAS``."""


def act(dice: Random, observation: Observation) -> str:
    """What a member writes: sentences of the chunk, a search for one, a scratchpad; in the end a search or answer."""
    sentences = [one.strip() for one in re.split(r"[.\n<>]+", observation["chunk"]) if len(one) > 20]
    if not sentences:
        words = observation["question"].split()
        return dice.choice(
            ["<answer>unknown</answer>", f"<read>{' '.join(dice.sample(words, min(4, len(words))))}</read>"]
        )
    parts = [f"<create>{dice.choice(sentences)}.</create>" for _ in range(dice.randrange(4))]
    if dice.random() < 0.5:
        parts.append(f"<scratchpad>{dice.choice(sentences)}.</scratchpad>")
    if dice.random() < 0.5:
        parts.append(f"<read>{dice.choice(sentences)}</read>")
    return "".join(parts)


def groups(options: Options) -> dict[str, list[Group]]:
    """The prompts of all sessions, as words, by template; the sessions are the same."""
    env = gym.make(ENV_ID, num_docs=options.num_docs, chunk_tokens=options.chunk_tokens, store="numpy")
    config = env.unwrapped.config  # type: ignore[attr-defined]
    shown = {name: PromptTemplate(config, template) for name, template in TEMPLATES.items()}
    tokenizer = load_tokenizer("words")

    def words(text: str) -> list[str]:
        starts = [int(one) for one in tokenizer.starts(text)]
        return [text[start:end] for start, end in zip(starts, [*starts[1:], len(text)], strict=True)]

    found: dict[str, list[Group]] = {name: [] for name in shown}
    for index in range(options.items):
        sessions = {name: [] for name in shown}  # type: dict[str, list[list[list[str]]]]
        for member in range(options.group):
            for name in shown:
                sessions[name].append([])
            for observation in _session(env, index, Random(1000 * index + member)):
                for name, template in shown.items():
                    sessions[name][-1].append(words(template.text(observation)))
        for name in shown:
            found[name].append(sessions[name])
    env.close()
    return found


def _session(env: gym.Env[Observation, str], index: int, dice: Random) -> Iterator[Observation]:
    observation, _ = env.reset(options={"index": index, "shuffle_seed": 0})
    over = False
    while not over:
        yield observation
        observation, _, terminated, truncated, _ = env.step(act(dice, observation))
        over = terminated or truncated


def measure(options: Options) -> list[Measured]:
    """Every template."""
    measured = []
    for name, played in groups(options).items():
        lengths = [len(prompt) for group in played for session in group for prompt in session]
        shares = sharing(played)
        measured.append(
            Measured(
                name,
                sum(lengths) / len(lengths),
                shares.with_member,
                shares.with_last_step,
                cache_hits(played),
                cache_hits(played, REPLICAS),
            )
        )
    return measured


def table(measured: list[Measured]) -> list[str]:
    """Markdown, a row a template."""
    return [
        "| template | tokens a prompt | shared with a member of the group, same step | with the session's last step | "
        f"in a cache, group on one replica | in a cache, calls spread over {REPLICAS} replicas |",
        "|---|--:|--:|--:|--:|--:|",
        *(
            f"| {one.template} | {one.prompt_tokens:,.0f} | {one.with_member:.0%} | {one.with_last_step:.0%} | "
            f"{one.cache_hits:.0%} | {one.cache_hits_spread:.0%} |"
            for one in measured
        ),
    ]


def main(options: Options) -> int:
    """Measure and write; the exit status."""
    measured = measure(options)
    about = provenance("python benchmarks/prefix_sharing.py", ("atommem-gym",))
    lines = table(measured)
    text = [
        "# What prompts share",
        "",
        f"`{ENV_ID}`, {options.num_docs} documents, chunks of {options.chunk_tokens:,} tokens; {options.items} groups",
        f"of {options.group} sessions that write at random. Shares are of prompt tokens (`words`), from a prompt's",
        "beginning. A cache is one that evicts nothing and holds a prompt before the next one comes, in blocks of",
        f"{BLOCK} tokens: the most that a server can find.",
        "",
        *lines,
        "",
        f"`{about['command']}`, {about['date']}, {about['versions']}, Python {about['python']}.",
    ]
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "prefix_sharing.md").write_text("\n".join(text) + "\n", encoding="utf-8")
    given = {name: value for name, value in asdict(options).items() if name != "out"}
    (options.out / "prefix_sharing.json").write_text(
        json.dumps({"about": about, "options": given, "templates": [asdict(one) for one in measured]}, indent=1) + "\n",
        encoding="utf-8",
    )
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options)))
