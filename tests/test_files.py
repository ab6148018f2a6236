import os
import signal
import sys

import pytest

from volo.files import atomic_path, write_atomically

#: Audit events of the system calls that write a file.
EVENTS = ('open', 'os.rename', 'os.remove')


def test_writes_and_replaces(tmp_path):
    path = tmp_path / 'new/file'
    for content in (b'one', b'another'):
        write_atomically(path, content)
        assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


def killed_while_writing(path, step):
    """Write in a child that is killed at an event; return whether it was killed."""
    pid = os.fork()
    if pid == 0:
        count = 0

        def kill(event, _):
            nonlocal count
            if event in EVENTS:
                count += 1
                if count > step:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(kill)
        write_atomically(path, b'new' * 1000)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def test_a_kill_leaves_the_old_or_the_new(tmp_path):
    path, step, seen = tmp_path / 'file', 0, set()
    while True:
        path.write_bytes(b'old')
        killed = killed_while_writing(path, step)
        seen.add(path.read_bytes())
        assert seen <= {b'old', b'new' * 1000}
        if not killed:
            break
        step += 1
    assert step >= 3 and len(seen) == 2


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    with pytest.raises(KeyError), atomic_path(tmp_path / 'new') as partial:
        partial.mkdir()
        (partial / 'file').touch()
        raise KeyError
    assert list(tmp_path.iterdir()) == []
    with atomic_path(tmp_path / 'new') as partial:
        partial.mkdir()
        (partial / 'file').touch()
    assert [path.name for path in tmp_path.iterdir()] == ['new']
    assert (tmp_path / 'new/file').exists()
