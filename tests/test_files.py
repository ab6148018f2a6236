import errno
import os
import signal
import sys
from types import SimpleNamespace

import pytest

from volo.files import atomic_path, describe_write_error, write_atomically

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


@pytest.mark.parametrize(
    ('number', 'size', 'free', 'reason'),
    [
        (errno.ENOSPC, 5e6, 2e6, 'it takes 5.0 MB, 2.0 MB are free'),
        (errno.ENOSPC, None, 1e3, 'disk: 0.0 MB are free'),
        # With 47 GB free, the free space is not the reason.
        (errno.ENOSPC, 5e6, 47e9, 'your quota, or the number of files'),
        (errno.EDQUOT, 5e6, 47e9, 'your disk quota is reached'),
        (errno.EFBIG, 5e6, 47e9, 'the limit for the size of a file is lower'),
    ],
)
def test_a_full_disk_and_a_quota_are_told_apart(
    tmp_path, monkeypatch, number, size, free, reason
):
    usage = SimpleNamespace(free=free)
    monkeypatch.setattr('volo.files.shutil.disk_usage', lambda _: usage)
    text = describe_write_error(tmp_path / 'a', OSError(number, 'x'), size)
    assert text.startswith(f'{tmp_path}/a does not fit on the disk: ')
    assert reason in text and '47' not in text
