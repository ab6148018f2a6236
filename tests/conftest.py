import pytest
from mmengine.registry import DefaultScope

from tests.forked import fork_server
from tests.toy import run_tool, write_tasks


@pytest.fixture(scope='session')
def toy(tmp_path_factory):
    """A synthetic dataset in ``data`` and a config for each task beside it."""
    folder = tmp_path_factory.mktemp('toy')
    write_tasks(folder)
    return folder


@pytest.fixture(scope='session')
def trained(toy):
    """The toy folder after both configs were trained by ``tools/train.py``."""
    for task in ('classify', 'segment'):
        done = run_tool('train.py', toy / f'{task}.py', '--work-dir', toy / task)
        assert done.returncode == 0, done.stderr
    return toy


@pytest.fixture(scope='session')
def forked():
    """A server that starts real processes of our tools without importing again."""
    return fork_server()


@pytest.fixture(autouse=True)
def no_default_scope():
    """Forget the scope that a Runner or an inferencer of another test left behind."""
    DefaultScope._instance_dict.clear()
