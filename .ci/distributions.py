"""Whether built distributions are complete: `python .ci/distributions.py TREE DIST OTHER_WHEEL`.

``TREE`` is the repository, ``DIST`` a folder with one sdist and the wheel that was built from it, ``OTHER_WHEEL`` the
wheel that was built from the repository. The sdist must hold all files of the repository; both wheels the package's
files, byte for byte, and nothing else.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

INSTALLED = {"atommem_gym": "atommem_gym", "envs": "atommem_gym/envs", "agents": "atommem_gym/agents"}
"""Folders of the repository, and where a wheel has them."""
MADE = re.compile(r"PKG-INFO|setup\.cfg|atommem_gym\.egg-info/.*")
"""What setuptools adds to an sdist."""
NEEDED = ("Makefile", "LICENSE", "tests/", "docs/", "benchmarks/", "verl_configs/", "bridges/", ".ci/")
"""What somebody who has the sdist alone needs to test and change the package."""

Files = Mapping[str, str]
"""The hash of each file's content, by its path."""


def main(tree: str, dist: str, other_wheel: str) -> int:
    [sdist], [wheel] = Path(dist).glob("*.tar.gz"), Path(dist).glob("*.whl")
    files = of_tree(Path(tree))
    found = differences(f"{sdist.name} is not the repository", files, of_sdist(sdist))
    found += [f"{sdist.name} lacks {name}" for name in NEEDED if not any(one.startswith(name) for one in files)]
    built = of_wheel(wheel)
    found += differences(f"{wheel.name} is not the package", installed(files), without_metadata(built))
    found += differences("sdist and repository build different wheels", of_wheel(Path(other_wheel)), built)
    print("\n".join(found) or f"{sdist.name}: {len(files)} files; {wheel.name}: {len(built)}, the same from both")
    return 1 if found else 0


def of_tree(tree: Path) -> dict[str, str]:
    """The files under version control, and those that are not committed yet."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=tree, capture_output=True, check=True).stdout.decode()
    return {name: digest((tree / name).read_bytes()) for name in listed.split("\0") if name and (tree / name).is_file()}


def of_sdist(path: Path) -> dict[str, str]:
    """The files of an sdist, without the folder that holds them, and without what setuptools adds."""
    found = {}
    with tarfile.open(path) as packed:
        for member in packed:
            name = member.name.partition("/")[2]
            content = packed.extractfile(member)
            if content is not None and not MADE.fullmatch(name):
                found[name] = digest(content.read())
    return found


def of_wheel(path: Path) -> dict[str, str]:
    """The files of a wheel."""
    with zipfile.ZipFile(path) as packed:
        return {name: digest(packed.read(name)) for name in packed.namelist() if not name.endswith("/")}


def installed(files: Files) -> dict[str, str]:
    """What a wheel must hold of the repository, by its path there."""
    found = {}
    for name, content in files.items():
        folder, _, below = name.partition("/")
        if below and folder in INSTALLED:
            found[f"{INSTALLED[folder]}/{below}"] = content
    return found


def without_metadata(files: Files) -> dict[str, str]:
    """A wheel without its ``*.dist-info``."""
    return {name: content for name, content in files.items() if ".dist-info/" not in name}


def differences(title: str, wanted: Files, found: Files) -> list[str]:
    """A line for each file that is missing, too much, or another one."""

    def lines(said: str, names: Iterable[str]) -> list[str]:
        return [f"{title}: {said} {name}" for name in sorted(names)]

    changed = {name for name in wanted.keys() & found.keys() if wanted[name] != found[name]}
    return (
        lines("missing", wanted.keys() - found.keys())
        + lines("too much", found.keys() - wanted.keys())
        + lines("different", changed)
    )


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
