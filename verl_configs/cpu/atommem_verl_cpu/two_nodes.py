"""Two steps of GRPO over two Ray nodes that were started without any setting: whether every worker is told them all.

    python -m atommem_verl_cpu.two_nodes FOLDER [--skip]

Makes two machines (:mod:`atommem_verl_cpu.machines`), starts Ray on both under an environment of PATH and HOME, then a
run by ``launch/grpo.sh`` on the first, as docs/train_your_own.md says, and looks at what it wrote down. If machines
cannot be made here, it says why; with --skip that is no failure. FOLDER keeps the run's log, and Ray's in NAME/tmp/ray.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from atommem_verl_cpu.check import problems, read, table
from atommem_verl_cpu.machines import Machine, NoNamespacesError, machines

CONFIGS = Path(__file__).resolve().parents[2]
PATH = f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin"
NAMES = ("head", "worker")
PORT = 8001
"""Of the embedding server, on the first machine."""
STEPS = 2
SESSIONS = 16
"""A training step."""
FILE = "witnesses.jsonl"
"""Where :mod:`atommem_verl_cpu.witness` says what workers were told, beside the log of the sessions."""
TASK = ("num_docs=4", "chunk_tokens=12", "scratchpad=false", "max_reads_per_question=1")


def prepare(folder: Path, template: Path) -> None:
    """Data and a model with random weights; and a stand-in for vLLM's command, which serves embeddings."""
    say("data and model")
    environment = {**os.environ, "PYTHONPATH": str(CONFIGS / "cpu")}
    run = partial(subprocess.run, env=environment, check=True)
    source, held_out = (folder / "records" / f"{part}.json" for part in ("train", "validation"))
    run([sys.executable, "-m", "atommem_verl_cpu.ledger", folder / "records"])
    sizes = ("--train", "32", "--validation", "4")
    items = ("--set", f"source={source}", f"template={template}", *TASK, "--validation-set", f"source={held_out}")
    atommem = Path(sys.executable).with_name("atommem")
    run([atommem, "data", "verl", "HotpotQA", "-o", folder / "data", *sizes, *items])
    model = [folder / "model", "--hidden", "64", "--context", "256"]
    run([sys.executable, "-m", "atommem_verl_cpu.tiny_model", *model], stderr=subprocess.DEVNULL)
    command = folder / "bin" / "vllm"
    command.parent.mkdir()
    server = f'-m atommem_verl_cpu.embedding_server "{folder / "clients"}" "$@"'
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" {server}\n', encoding="utf-8")
    command.chmod(0o755)
    loop = (CONFIGS / "agent_loop.yaml").read_text(encoding="utf-8")
    witnessed, count = re.subn(r"_target_: \S+", "_target_: atommem_verl_cpu.witness.WitnessedAgentLoop", loop)
    if count != 1:
        raise RuntimeError("agent_loop.yaml no longer has one _target_")
    (folder / "agent_loop.yaml").write_text(witnessed, encoding="utf-8")


def start_ray(folder: Path, head: Machine, worker: Machine) -> None:
    """A node on each machine, under an environment that knows nothing of the run."""
    # A worker takes three processors and a card of one node. The trainer's own actors may all fall on one node as well.
    common = ["--num-cpus=8", "--num-gpus=1", "--object-store-memory=200000000", "--disable-usage-stats"]
    for machine, options in (
        (head, ["--head", "--include-dashboard=false"]),
        (worker, [f"--address={head.address}:6379"]),
    ):
        say(f"ray start on {machine.name}")
        # A home of its own: where the head's holds a token, Ray lets no node in that was not told of it.
        home = folder / machine.name / "home"
        home.mkdir()
        environment = (f"PATH={PATH}", f"HOME={home}")
        subprocess.run(
            machine.command("env", "-i", *environment, "ray", "start", *options, *common),
            stdout=subprocess.DEVNULL,
            check=True,
            timeout=120,
        )


def settings(folder: Path, template: Path) -> dict[str, str]:
    """What a run is given on the first machine; the workers are to have all of it."""
    return {
        "PYTHONPATH": str(CONFIGS / "cpu"),
        "ATOMMEM_DATA": str(folder / "data"),
        "ATOMMEM_OUT": str(folder / "run"),
        "ATOMMEM_MODEL": str(folder / "model"),
        "ATOMMEM_AGENT_LOOP": str(folder / "agent_loop.yaml"),
        "ATOMMEM_STORE": "numpy",
        "ATOMMEM_TEMPLATE": str(template),
        "ATOMMEM_NODES": "2",
        "ATOMMEM_STEPS": str(STEPS),
        "ATOMMEM_RUN": "two nodes, 'quoted'",
        "EMBEDDING_MODEL": "stand-in",
        "EMBEDDING_PORT": str(PORT),
        "OMP_NUM_THREADS": "1",
        "TORCH_COMPILE_DISABLE": "1",
        "VERL_PLATFORM": "cpu",
        "VERL_USE_EXTERNAL_MODULES": "atommem_verl_cpu.platform",
        "VERL_ENGINE_DEVICE": "cuda",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        # What it found out about the model's class, in a process that takes as long as a start.
        "VLLM_CACHE_ROOT": str(Path.home() / ".cache" / "vllm"),
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
    }


def train(head: Machine, folder: Path, given: Mapping[str, str], patience: float) -> None:
    """Run to the end.

    Raises:
        RuntimeError: it failed, or took too long; with the end of its log.
    """
    say(f"{STEPS} steps of GRPO")
    own = {"PATH": f"{folder / 'bin'}:{PATH}", "HOME": str(folder / head.name / "home")}
    environment = [f"{name}={value}" for name, value in {**given, **own}.items()]
    script = [str(CONFIGS / "launch" / "grpo.sh"), "cpu_multinode"]
    log = folder / "grpo.log"
    with log.open("wb") as file:
        done = subprocess.run(
            head.command("env", "-i", *environment, "timeout", "-k", "5", str(int(patience)), *script),
            stdout=file,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode:
        end = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-60:])
        why = f"did not end within {patience:.0f} s" if done.returncode == 124 else f"ended with {done.returncode}"
        raise RuntimeError(f"{end}\nlaunch/grpo.sh {why}; all of its log: {log}")


def witnessed(folder: Path, given: Mapping[str, str], nodes: tuple[Machine, ...]) -> list[str]:
    """What workers were not told, or where none played; nothing if the list is empty."""
    run = folder / "run"
    found = []
    witnesses, sessions = read(run / FILE), read(run / "sessions.jsonl")
    played = {(one["uid"], one["session"]) for one in sessions}
    if played != {(one["uid"], one["session"]) for one in witnesses}:
        found.append("the log of sessions and the witnesses do not tell of the same sessions")
    hosts = {one["host"] for one in witnesses}
    if hosts != set(NAMES):
        found.append(f"sessions were played on {sorted(hosts)}, not on {sorted(NAMES)}")
    embedder = f"http://{nodes[0].address}:{PORT}/v1"
    told = {
        "env_keywords": {"store": given["ATOMMEM_STORE"], "embedder": embedder},
        "template": given["ATOMMEM_TEMPLATE"],
        "log": str(run / "sessions.jsonl"),
        "run": given["ATOMMEM_RUN"],
    }
    # Ray puts a path of its own before PYTHONPATH; EMBEDDING_… concern the script alone.
    carried = {name: value for name, value in given.items() if not name.startswith(("EMBEDDING", "PYTHONPATH"))}
    carried |= {"ATOMMEM_EMBEDDER": embedder, "ATOMMEM_SESSIONS": told["log"]}
    for one in witnesses:
        where = f"a worker on {one['host']}"
        if one["settings"] != told:
            found.append(f"{where} was told {one['settings']}, not {told}")
        for name, value in carried.items():
            if one["environment"].get(name) != value:
                found.append(f"{where} has {name}={one['environment'].get(name)!r}, not {value!r}")
    clients = set((folder / "clients").read_text(encoding="ascii").split())
    if not {nodes[0].address, nodes[1].address} <= clients:
        found.append(f"the embedding server was asked by {sorted(clients)}, not by both machines")
    if any(one["run"] != given["ATOMMEM_RUN"] for one in sessions):
        found.append("the log of sessions names another run")
    log = (folder / "grpo.log").read_text(encoding="utf-8", errors="replace")
    for role in ("WorkerDict", "vLLMHttpServer"):
        if not re.search(rf"\({role}.* ip={re.escape(nodes[1].address)}\)", log):
            found.append(f"no {role} said anything on {nodes[1].name}")
    return list(dict.fromkeys(found))


def say(what: str) -> None:
    """A line of progress."""
    print(f"{time.strftime('%H:%M:%S')} {what}", flush=True)


def main() -> int:
    """Run and check; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--skip", action="store_true")
    parser.add_argument("--patience", type=float, default=900, help="seconds for the run (900)")
    options = parser.parse_args()
    folder: Path = options.folder.resolve()
    template = CONFIGS / "cpu" / "ledger.j2"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.chdir(folder)  # Hydra writes into the working directory
    given = settings(folder, template)
    try:
        with machines(NAMES, folder) as nodes:
            prepare(folder, template)
            start_ray(folder, *nodes)
            train(nodes[0], folder, given, options.patience)
    except NoNamespacesError as error:
        print(f"{'SKIPPED' if options.skip else 'FAILED'}: {error}", file=sys.stderr)
        return 0 if options.skip else 1
    except (RuntimeError, subprocess.SubprocessError) as error:
        print(f"FAILED: {error}", file=sys.stderr)
        return 1
    left = [pid for node in nodes for pid in node.processes()]
    found = [f"processes {left} are left"] if left else []
    found += witnessed(folder, given, nodes)
    sessions = read(folder / "run" / "sessions.jsonl")
    (metrics,) = (folder / "run").glob("metrics-*.jsonl")
    found += problems(sessions, read(metrics), STEPS, SESSIONS)
    print(table(sessions))
    print(json.dumps(played_on(read(folder / "run" / FILE))))
    for one in found:
        print(f"FAILED: {one}", file=sys.stderr)
    return 1 if found else 0


def played_on(witnesses: list[dict[str, Any]]) -> dict[str, int]:
    """Sessions by machine."""
    hosts = [one["host"] for one in witnesses]
    return {host: hosts.count(host) for host in sorted(set(hosts))}


if __name__ == "__main__":
    sys.exit(main())
