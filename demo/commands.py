"""Run the project's own commands, show their progress and keep their output."""

import collections
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from volo.errors import VoloError
from volo.machine import usable_cpus

# What a reader wants to follow out of the hundreds of lines that a run logs.
_PROGRESS = re.compile(r'mmengine - (?:INFO - ((?:Epoch|Iter)\(.*)|(ERROR.*))')
# Logged beside lr, which equals it in a run without several GPUs.
_BASE_LR = re.compile(r'base_lr: \S+ ')
# More threads than this only wait for each other in so small a model.
_MAX_THREADS = 4


class CommandError(VoloError):
    """A command of the demo failed."""


def thread_settings() -> dict[str, str]:
    """Environment variables for fast training on a CPU that others use too.

    Waiting threads sleep: by default they spin, and where a core is shared, with
    a data loader's worker or another job, each step can take thirty times as long.
    One core is left to that worker: on two, a step of the demo with two threads takes
    half as long again as with one. What the environment already says is kept.
    """
    threads = max(1, min(usable_cpus() - 1, _MAX_THREADS))
    return {
        'OMP_NUM_THREADS': os.environ.get('OMP_NUM_THREADS', str(threads)),
        'OMP_WAIT_POLICY': os.environ.get('OMP_WAIT_POLICY', 'PASSIVE'),
    }


def relative(path: str | Path) -> str:
    """Return a path as one would type it here."""
    return os.path.relpath(path)


def _python() -> str:
    """Name this interpreter, by its path if it is one of this folder's."""
    path = Path(sys.executable)
    return relative(path) if path.is_relative_to(Path.cwd()) else 'python'


def run_tool(tool: Path, arguments: list[str], log: Path) -> None:
    """Run a tool in a process of its own, as a user would.

    The command is printed so that it can be typed again. Of the output, progress
    and errors are shown; all of it goes to ``log``.

    Args:
        tool: Python file of the tool.
        arguments: Its command line.
        log: File for the whole output.

    Raises:
        CommandError: The tool failed; the message has the end of its output.
    """
    typed = shlex.join([_python(), relative(tool), *arguments])
    print(f'$ {typed}', flush=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    last_lines = collections.deque(maxlen=15)
    with (
        log.open('w') as copy,
        subprocess.Popen(
            [sys.executable, str(tool), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **thread_settings(), 'PYTHONUNBUFFERED': '1'},
            text=True,
            errors='replace',
        ) as process,
    ):
        for line in process.stdout:
            copy.write(line)
            last_lines.append(line)
            match = _PROGRESS.search(line)
            if match:
                print('  ' + _BASE_LR.sub('', match[1] or match[2]), flush=True)
    if process.returncode:
        raise CommandError(
            f'this command failed with status {process.returncode}: {typed}\n'
            f'{"".join(last_lines)}The whole output is in {relative(log)}'
        )
