"""Waits until a Ray cluster has as many nodes as a run needs: python ray_nodes.py 4 [SECONDS]."""

from __future__ import annotations

import sys
import time

import ray


def main() -> int:
    """Wait; the exit status."""
    wanted, patience = int(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 600.0
    ray.init(address="auto", logging_level="ERROR")
    deadline = time.monotonic() + patience
    while (alive := sum(node["Alive"] for node in ray.nodes())) < wanted:
        if time.monotonic() > deadline:
            print(
                f"only {alive} of {wanted} Ray nodes after {patience:.0f} s; `ray status` tells which", file=sys.stderr
            )
            return 1
        time.sleep(1)
    print(f"{alive} Ray nodes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
