import atexit
import contextlib
import multiprocessing
import os

import pytest
import torch.distributed
from torch.utils.data import DataLoader, Dataset

from volo.engine.cli import first_message, leave, run_cli
from volo.errors import ConfigError, DataError, Interrupted


class Broken(Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        raise DataError(f'image {index}: broken\nfix it')


def test_what_the_user_can_fix_is_one_line_and_exit_code_2(capsys):
    def main():
        raise ConfigError('no such key')

    with pytest.raises(SystemExit) as stop:
        run_cli(main)
    assert stop.value.code == 2
    assert capsys.readouterr().err == 'error: no such key\n'


def test_other_errors_keep_their_traceback():
    def main():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_cli(main)


@pytest.mark.parametrize(
    'ending, status', [(None, 0), (Interrupted('saved'), 75), (ConfigError('no'), 2)]
)
def test_a_rank_exits_without_tearing_down_the_interpreter(monkeypatch, ending, status):
    # Otherwise gloo's threads abort some runs that end after a collective.
    left = []
    monkeypatch.setattr('volo.engine.cli.leave', left.append)

    def main():
        torch.distributed.init_process_group(
            'gloo', store=torch.distributed.HashStore(), rank=0, world_size=1
        )
        if ending is not None:
            raise ending

    with contextlib.suppress(SystemExit):
        run_cli(main)
    assert left == [status]
    # After an error of one rank, the others may never close their group.
    closed = not torch.distributed.is_initialized()
    assert closed == (status != 2)
    if not closed:
        torch.distributed.destroy_process_group()


def test_leaving_runs_the_exit_handlers(tmp_path):
    path = tmp_path / 'log'
    pid = os.fork()
    if pid == 0:
        atexit._clear()  # pytest's own handlers
        atexit.register(path.write_text, 'done')
        leave(7)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert path.read_text() == 'done'


def test_a_workers_error_reads_as_it_was_raised():
    loader = DataLoader(
        Broken(),
        num_workers=1,
        multiprocessing_context=multiprocessing.get_context('fork'),
    )
    with pytest.raises(DataError) as raised:
        next(iter(loader))
    assert first_message(raised.value) == 'image 0: broken\nfix it'
    assert first_message(DataError('plain')) == 'plain'
