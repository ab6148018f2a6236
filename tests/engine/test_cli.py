import multiprocessing

import pytest
import torch.distributed
from torch.utils.data import DataLoader, Dataset

from volo.engine.cli import first_message, run_cli
from volo.errors import ConfigError, DataError


class Broken(Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        raise DataError(f'picture {index}: broken\nmend it')


def test_what_the_user_can_mend_is_one_line_and_exit_code_2(capsys):
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


def test_the_process_group_is_closed_before_the_interpreter_is():
    # Else gloo's threads abort about every other run that ends after a collective.
    def main():
        torch.distributed.init_process_group(
            'gloo', store=torch.distributed.HashStore(), rank=0, world_size=1
        )

    run_cli(main)
    assert not torch.distributed.is_initialized()


def test_a_workers_error_reads_as_it_was_raised():
    loader = DataLoader(
        Broken(),
        num_workers=1,
        multiprocessing_context=multiprocessing.get_context('fork'),
    )
    with pytest.raises(DataError) as raised:
        next(iter(loader))
    assert first_message(raised.value) == 'picture 0: broken\nmend it'
    assert first_message(DataError('plain')) == 'plain'
