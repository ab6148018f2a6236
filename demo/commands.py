"""Run the project's commands, show their progress and keep their output."""

import collections
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from volo.errors import VoloError
from volo.machine import usable_cpus

# Out of the hundreds of lines of a log, progress and errors are shown.
_PROGRESS = re.compile(r'mmengine - (?:INFO - ((?:Epoch|Iter)\(.*)|(ERROR.*))')
# Logged beside lr, which equals it on a single GPU or CPU.
_BASE_LR = re.compile(r'base_lr: \S+ ')
# In so small a model, more threads only wait for each other.
_MAX_THREADS = 4


class CommandError(VoloError):
    """A command of the demo failed."""


def thread_settings() -> dict[str, str]:
    """Return environment variables for fast training on a shared CPU.

    Waiting threads sleep. By default they spin, and on a core that is shared with a
    data loader's worker or another job, a step can take thirty times as long. One core
    is left to the worker: on two cores, a step of the demo takes 1.5 times as long with
    two threads as with one. Variables that are set already keep their value.
    """
    threads = max(1, min(usable_cpus() - 1, _MAX_THREADS))
    return {
        'OMP_NUM_THREADS': os.environ.get('OMP_NUM_THREADS', str(threads)),
        'OMP_WAIT_POLICY': os.environ.get('OMP_WAIT_POLICY', 'PASSIVE'),
    }


def relative(path: str | Path) -> str:
    """Return a path relative to the current folder if it is below it, else absolute."""
    absolute = os.path.abspath(path)
    below = Path(absolute).is_relative_to(Path.cwd())
    return os.path.relpath(path) if below else absolute


def _python() -> str:
    """Return the interpreter as in a command: 'python' if it is outside this folder."""
    path = relative(sys.executable)
    return 'python' if os.path.isabs(path) else path


def run_tool(tool: Path, arguments: list[str], log: Path, label: str = '') -> None:
    """Run a tool in its own process, as a user would.

    The command is printed, so a reader can repeat it. Progress and errors are shown,
    and the whole output goes to ``log``.

    Args:
        tool: Python file of the tool.
        arguments: Its command line.
        log: File for the whole output.
        label: Start of every line that is shown, for tools that run beside others.

    Raises:
        CommandError: The tool failed. The message ends with the last lines of its
            output.
    """
    typed = shlex.join([_python(), relative(tool), *arguments])
    print(f'{label}$ {typed}', flush=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    last_lines: collections.deque[str] = collections.deque(maxlen=15)
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
        assert process.stdout is not None
        for line in process.stdout:
            copy.write(line)
            last_lines.append(line)
            match = _PROGRESS.search(line)
            if match:
                shown = _BASE_LR.sub('', match[1] or match[2])
                print(f'  {label}{shown}', flush=True)
    if process.returncode:
        raise CommandError(
            f'this command failed with status {process.returncode}: {typed}\n'
            f'{"".join(last_lines)}The whole output is in {relative(log)}'
        )
