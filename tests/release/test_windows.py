"""Every module can be imported where POSIX is lacking, as on Windows (docs/platforms.md).

Nobody has run the package there. What is simulated here is what Windows lacks: modules, and names in modules.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = {"atommem_gym": "atommem_gym", "envs": "atommem_gym.envs", "agents": "atommem_gym.agents"}
LACKED_MODULES = ["curses", "fcntl", "grp", "posix", "pty", "pwd", "readline", "resource", "syslog", "termios", "tty"]
LACKED_NAMES = {
    "os": "chown fork forkpty getegid geteuid getgid getpgid getpgrp getsid getuid killpg mkfifo nice openpty pread "
    "pwrite register_at_fork sched_getaffinity setpriority setsid statvfs sync sysconf uname wait wait3 wait4 "
    "O_CLOEXEC O_DIRECTORY O_NOFOLLOW O_NONBLOCK O_SYNC WNOHANG",
    "signal": "SIGALRM SIGCHLD SIGCONT SIGHUP SIGKILL SIGPIPE SIGQUIT SIGSTOP SIGTSTP SIGUSR1 SIGUSR2 SIGWINCH alarm "
    "pause pthread_kill pthread_sigmask setitimer sigwait",
    "socket": "AF_UNIX send_fds recv_fds",
    "select": "epoll poll",
    "time": "tzset",
}
SLOW = ["torch", "transformers", "sentence_transformers", "stable_baselines3", "matplotlib"]
PROGRAM = r'''
import builtins, importlib, json, os, select, signal, socket, sys, time, types, warnings

names, lacked_modules, lacked_names, slow, folder = json.loads(sys.argv[1])
warnings.simplefilter("ignore")
OURS = ("atommem_gym", "made_up")
sys.path.insert(0, folder)


def ours(name):
    return name.partition(".")[0] in OURS


def load(name):
    """Import a module; without what an extra would bring it is left out."""
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if ours(error.name or "") or error.name in lacked_modules:
            raise
        return None
    return name


# Loading these takes many seconds, and what is asked about here is our own code.
sys.modules |= dict.fromkeys(slow)
# Whatever other packages have to load, they load as on this system.
loaded = [name for name in names if load(name)]
for name in [name for name in sys.modules if ours(name)]:
    del sys.modules[name]

real = builtins.__import__


def lacking(name, globals=None, locals=None, fromlist=(), level=0):
    if not level and ours((globals or {}).get("__name__", "")) and name.partition(".")[0] in lacked_modules:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return real(name, globals, locals, fromlist, level)


builtins.__import__ = lacking
sys.modules["msvcrt"] = types.ModuleType("msvcrt")
sys.modules["msvcrt"].getwch = lambda: "q"
for module, lacks in lacked_names.items():
    for name in lacks.split():
        if hasattr(sys.modules[module], name):
            delattr(sys.modules[module], name)
sys.platform = "win32"

failed = {}
for name in loaded:
    try:
        load(name)
    except (ImportError, AttributeError) as error:
        failed[name] = f"{type(error).__name__}: {error}"
print(json.dumps([loaded, failed]))
'''


def modules() -> list[str]:
    """The names of all modules; `__main__` runs the command line."""
    found = []
    for source, package in SOURCES.items():
        for path in sorted((ROOT / source).rglob("*.py")):
            parts = path.relative_to(ROOT / source).with_suffix("").parts
            if parts[-1] != "__main__":
                found.append(".".join((package, *(part for part in parts if part != "__init__"))))
    return found


def imported(names: list[str], folder: Path) -> tuple[list[str], dict[str, str]]:
    """What an ordinary import loads, and what fails of it as on Windows, each with its error."""
    given = json.dumps([names, LACKED_MODULES, LACKED_NAMES, SLOW, str(folder)])
    done = subprocess.run([sys.executable, "-c", PROGRAM, given], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loaded, failed = json.loads(done.stdout.splitlines()[-1])
    return loaded, failed


def test_every_module_is_imported_without_what_windows_lacks(tmp_path: Path) -> None:
    loaded, failed = imported(modules(), tmp_path)
    assert len(loaded) > 200
    assert not failed, "import these where they are used, behind `sys.platform`, with an error that names a remedy"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("import fcntl", "No module named 'fcntl'"),
        ("from termios import tcgetattr", "No module named 'termios'"),
        ("import os\nos.register_at_fork(before=print)", "has no attribute 'register_at_fork'"),
        ("import signal\nSTOP = (signal.SIGINT, signal.SIGKILL)", "has no attribute 'SIGKILL'"),
        ("from os import fork", "cannot import name 'fork'"),
        ("import os, signal\nSTOP = signal.SIGINT\ndef f():\n    import fcntl\n    return os.fork", ""),
        ("import sys\nif sys.platform == 'win32':\n    import msvcrt\nelse:\n    import tty", ""),
    ],
)
def test_the_simulation_tells_what_is_used_at_once_from_what_is_used_later(
    text: str, says: str, tmp_path: Path
) -> None:
    (tmp_path / "made_up.py").write_text(text, encoding="utf-8")
    loaded, failed = imported(["made_up"], tmp_path)
    assert loaded == ["made_up"]
    assert says in failed.get("made_up", "")
    assert bool(failed) == bool(says)


def test_modules_over_torch_name_no_posix_module_outside_of_functions() -> None:
    """They are not imported above, so their text is looked at."""
    for path in (path for source in SOURCES for path in sorted((ROOT / source).rglob("*.py"))):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.partition(".")[0] for name in names} & set(LACKED_MODULES), path
