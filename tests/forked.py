"""Run tools in real processes, without the seconds that importing takes.

A server imports everything once. Each tool runs in a fork of it, with a process group,
an output and an exit status of its own.
"""

import functools
import io
import json
import os
import runpy
import select
import signal
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

ROOT = Path(__file__).parents[1]


class Running:
    """A running tool.

    Attributes:
        pid: Id of the process and of its group.
    """

    def __init__(self, answers: io.FileIO, pid: int, streams: list[Path]) -> None:
        self.pid = pid
        self._answers = answers
        self._streams = streams

    def wait(self, seconds: float | None = None) -> int | None:
        """Return the exit status (negative: a signal), None if it has not ended."""
        ready, _, _ = select.select([self._answers], [], [], seconds)
        return json.loads(self._answers.readline()) if ready else None

    def kill(self) -> None:
        """Kill the process and its group."""
        os.killpg(self.pid, signal.SIGKILL)

    @property
    def stdout(self) -> str:
        """What was printed so far."""
        return self._streams[0].read_text()

    @property
    def stderr(self) -> str:
        """What was printed so far as an error."""
        return self._streams[1].read_text()

    @property
    def output(self) -> str:
        """Both."""
        return self.stdout + self.stderr


class ForkServer:
    """Start tools, one at a time.

    Args:
        folder: Where their output goes.
    """

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
            stderr=subprocess.DEVNULL,
            pass_fds=[theirs],
            cwd=ROOT,
            env={**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''},
        )
        os.close(theirs)

    def start(self, tool: str, *arguments: str | Path, **environment: str) -> Running:
        """Start a tool of this checkout, with this process's folder and environment."""
        self._count += 1
        streams = [
            self._folder / f'{self._count}.{name}' for name in ('stdout', 'stderr')
        ]
        job = dict(
            tool=tool,
            arguments=[str(argument) for argument in arguments],
            environment={**os.environ, 'CUDA_VISIBLE_DEVICES': '', **environment},
            folder=os.getcwd(),
            streams=list(map(str, streams)),
        )
        self._server.stdin.write(json.dumps(job).encode() + b'\n')
        self._server.stdin.flush()
        pid = json.loads(self._answers.readline())
        return Running(self._answers, pid, streams)

    def run(self, tool: str, *arguments: str | Path, **environment: str) -> Running:
        """Run a tool to its end; it must succeed."""
        running = self.start(tool, *arguments, **environment)
        status = running.wait()
        assert status == 0, f'{status}: {running.output}'
        return running


@functools.cache
def fork_server() -> ForkServer:
    """Return the server of this process; it ends with this process."""
    return ForkServer(Path(tempfile.mkdtemp(prefix='volo-tests-')))


def serve(descriptor: int) -> None:
    """Read jobs; answer with the pid of each and, at its end, with its status."""
    import volo  # noqa: F401

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
    """Run the tool in this process, and exit."""
    os.setpgid(0, 0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, path in enumerate(job['streams'], 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    os.environ.clear()
    os.environ.update(job['environment'])
    os.chdir(job['folder'])
    sys.path[:0] = filter(None, os.environ.get('PYTHONPATH', '').split(os.pathsep))
    sys.argv = [job['tool'], *job['arguments']]
    status = 0
    try:
        if job['tool'].endswith('.py'):
            runpy.run_path(str(ROOT / 'tools' / job['tool']), run_name='__main__')
        else:  # what `python -m` runs
            runpy.run_module(job['tool'], run_name='__main__')
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
