import pickle

import pytest

from volo import errors

KINDS = [errors.CheckpointError, errors.ConfigError, errors.DataError]


@pytest.mark.parametrize('kind', KINDS)
def test_users_catch_all_of_them_at_once(kind):
    for parent in (errors.VoloError, ValueError):
        with pytest.raises(parent, match='fix this'):
            raise kind('fix this')


@pytest.mark.parametrize('kind', KINDS)
def test_they_come_whole_out_of_a_worker_process(kind):
    error = pickle.loads(pickle.dumps(kind('fix this')))
    assert type(error) is kind and str(error) == 'fix this'
