import os
import socket
import subprocess
import sys

import pytest

from volo.engine.processes import init_gloo
from volo.errors import ConfigError


@pytest.mark.parametrize('launcher', ['pytorch', 'slurm', 'mpi'])
def test_a_launcher_without_its_environment_is_refused(monkeypatch, launcher):
    for name in ('RANK', 'WORLD_SIZE', 'SLURM_PROCID', 'SLURM_NTASKS'):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match=f'--launcher {launcher}'):
        init_gloo(launcher, timeout=10)


def test_a_port_in_use_is_one_clear_error(monkeypatch):
    with socket.create_server(('127.0.0.1', 0)) as taken:
        address = f'127.0.0.1:{taken.getsockname()[1]}'
        host, port = address.split(':')
        for name, value in dict(
            RANK='0', WORLD_SIZE='2', MASTER_ADDR=host, MASTER_PORT=port
        ).items():
            monkeypatch.setenv(name, value)
        with pytest.raises(ConfigError, match=f'{address}: the port is in use.*PORT='):
            init_gloo('pytorch', timeout=10)


def test_slurm_tasks_find_each_other():
    code = (
        'from volo.engine.processes import init_gloo; import torch.distributed as d; '
        "init_gloo('slurm', 60); print(d.get_rank(), d.get_world_size())"
    )
    tasks = [
        subprocess.Popen(
            [sys.executable, '-c', code],
            stdout=subprocess.PIPE,
            text=True,
            env={
                **{
                    k: v
                    for k, v in os.environ.items()
                    if k not in ('RANK', 'WORLD_SIZE')
                },
                'SLURM_PROCID': str(rank),
                'SLURM_NTASKS': '2',
                'MASTER_ADDR': '127.0.0.1',
                'MASTER_PORT': '29631',
            },
        )
        for rank in range(2)
    ]
    lines = [task.communicate()[0].splitlines()[-1] for task in tasks]
    assert lines == ['0 2', '1 2']
