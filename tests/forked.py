"""Real processes of our tools without the seconds that importing takes each of them.

A server imports everything once; a process of a tool is a fork of it, with a process
group, an output and an exit status of its own.
"""

import io
import json
import os
import runpy
import select
import signal
import subprocess
import sys
import traceback
from pathlib import Path

from tests.toy import ROOT


class Running:
    """A tool at work.

    Attributes:
        pid: Of the process, and of its group.
        output: The file that takes what it prints.
    """

    def __init__(self, answers: io.FileIO, pid: int, output: Path) -> None:
        self.pid = pid
        self._answers = answers
        self._output = output

    def wait(self, seconds: float | None = None) -> int | None:
        """Return the exit status (negative: a signal), None if it has not ended."""
        ready, _, _ = select.select([self._answers], [], [], seconds)
        return json.loads(self._answers.readline()) if ready else None

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to the process, and with SIGKILL to its whole group."""
        (os.killpg if number == signal.SIGKILL else os.kill)(self.pid, number)

    @property
    def output(self) -> str:
        """What was printed so far."""
        return self._output.read_text()


class ForkServer:
    """Starts tools, one at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        answers, theirs = os.pipe()
        # Unbuffered: select would not see what was read ahead.
        self._answers = os.fdopen(answers, 'rb', buffering=0)
        self._server = subprocess.Popen(
            [sys.executable, '-m', 'tests.forked', str(theirs)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs],
            cwd=ROOT,
            env={**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''},
        )
        os.close(theirs)

    def start(self, tool: str, *arguments: str | Path, **environment: str) -> Running:
        """Start a tool of this checkout."""
        self._count += 1
        output = self._folder / f'output{self._count}.txt'
        job = dict(
            tool=tool,
            arguments=[str(argument) for argument in arguments],
            environment=environment,
            output=str(output),
        )
        self._server.stdin.write(json.dumps(job).encode() + b'\n')
        self._server.stdin.flush()
        pid = json.loads(self._answers.readline())
        return Running(self._answers, pid, output)

    def run(self, tool: str, *arguments: str | Path, **environment: str) -> Running:
        """Run a tool to its end, which is to be a good one."""
        running = self.start(tool, *arguments, **environment)
        status = running.wait()
        assert status == 0, f'{status}: {running.output}'
        return running

    def close(self) -> None:
        """End the server."""
        self._server.stdin.close()
        self._server.wait()


def serve(descriptor: int) -> None:
    """Read jobs, answer with the pid of each and, when it has ended, its status."""
    answers = os.fdopen(descriptor, 'w')
    for line in sys.stdin:
        job = json.loads(line)
        pid = os.fork()
        if pid == 0:
            run_job(job)
        print(pid, file=answers, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), file=answers, flush=True)


def run_job(job: dict) -> None:
    """Become the tool; does not return."""
    os.setpgid(0, 0)
    output = os.open(job['output'], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(output, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.update(job['environment'])
    sys.argv = [job['tool'], *job['arguments']]
    status = 0
    try:
        runpy.run_path(str(ROOT / 'tools' / job['tool']), run_name='__main__')
    except SystemExit as ending:
        status = ending.code or 0
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == '__main__':
    serve(int(sys.argv[1]))
