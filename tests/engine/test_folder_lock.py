"""The lock on a work dir: one training at a time, and none that a dead one holds."""

import errno
import os
import signal

import pytest

from volo.engine import folder_lock
from volo.engine.folder_lock import LOCK_NAME, FolderLock
from volo.errors import ConfigError


def is_locked(folder):
    with FolderLock() as lock:
        try:
            lock.acquire(folder)
        except ConfigError:
            return True
        return False


def test_a_second_training_is_refused_and_the_first_is_named(tmp_path):
    with FolderLock() as lock:
        lock.acquire(tmp_path / 'new/run')
        with pytest.raises(
            ConfigError,
            match=rf'new/run is in use by .* \(host \S+, pid {os.getpid()}\): wait',
        ):
            FolderLock().acquire(tmp_path / 'new/run')
        assert not is_locked(tmp_path / 'other')
    assert not is_locked(tmp_path / 'new/run')
    assert not list((tmp_path / 'new/run').iterdir())


def test_of_several_that_start_together_one_gets_a_new_folder(tmp_path):
    start, ready = os.pipe()
    answers, answer = os.pipe()
    trainings = []
    for _ in range(8):
        trainings.append(os.fork())
        if trainings[-1] == 0:
            os.close(ready)
            os.read(start, 1)  # ends when all have been started
            lock = FolderLock()
            try:
                lock.acquire(tmp_path / 'run')
                os.write(answer, b'1')
            except ConfigError:
                os.write(answer, b'0')
            signal.pause()  # holds it until killed
    os.close(ready)
    got = b''.join(os.read(answers, 1) for _ in range(8))
    for training in trainings:
        os.kill(training, signal.SIGKILL)
        os.waitpid(training, 0)
    assert sorted(got.decode()) == ['0'] * 7 + ['1']


def test_a_killed_training_does_not_hold_it_though_its_worker_lives(tmp_path):
    read, write = os.pipe()
    training = os.fork()
    if training == 0:
        lock = FolderLock()
        lock.acquire(tmp_path)
        worker = os.fork()
        if worker == 0:
            os.write(write, b'%d\n' % os.getpid())
        signal.pause()
    worker = int(os.read(read, 20))
    assert is_locked(tmp_path)
    os.kill(training, signal.SIGKILL)
    os.waitpid(training, 0)
    assert not is_locked(tmp_path)
    os.kill(worker, signal.SIGKILL)  # was alive


def test_a_renamed_folder_makes_room_for_a_new_one(tmp_path):
    run = tmp_path / 'run'
    with FolderLock() as lock:
        lock.acquire(run)
        run.rename(tmp_path / 'kept')
        lock.acquire(run)
        assert is_locked(run) and not is_locked(tmp_path / 'kept')
    assert not list(run.iterdir())


def test_a_lock_file_that_its_owner_removes_is_created_anew(tmp_path, monkeypatch):
    """Between opening and locking, the first training may end."""
    first, second = FolderLock(), FolderLock()
    first.acquire(tmp_path)
    flock = folder_lock.fcntl.flock

    def flock_after_the_end(descriptor, operation):
        first.release()
        flock(descriptor, operation)

    monkeypatch.setattr(folder_lock.fcntl, 'flock', flock_after_the_end)
    second.acquire(tmp_path)
    assert (tmp_path / LOCK_NAME).exists() and is_locked(tmp_path)
    second.release()


@pytest.mark.parametrize('number', [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, None])
def test_where_there_are_no_locks_a_warning_says_so(tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, 'not here')

    said = []
    monkeypatch.setattr(folder_lock, 'print_log', lambda text, **_: said.append(text))
    if number is None:  # Windows
        monkeypatch.setattr(folder_lock, 'fcntl', None)
    else:
        monkeypatch.setattr(folder_lock.fcntl, 'flock', refuse)
    with FolderLock() as lock:
        lock.acquire(tmp_path)
    assert len(said) == 1 and 'do not start a second training' in said[0]


@pytest.mark.parametrize('folder', ['/sys/volo', 'file'])
def test_a_folder_that_cannot_be_written_is_refused(tmp_path, monkeypatch, folder):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'file').touch()
    with pytest.raises(ConfigError, match=f'{folder} cannot be written: .*--work-dir'):
        FolderLock().acquire(tmp_path / folder)
