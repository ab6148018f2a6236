import pytest

from volo.machine import usable_cpus


@pytest.mark.parametrize(
    'files, share',
    [
        ({}, 6),
        ({'cpu.max': 'max 100000'}, 6),
        ({'cpu.max': '250000 100000'}, 3),
        ({'cpu.max': '5000 100000'}, 1),
        ({'cpu.max': '900000 100000'}, 6),
        ({'cpu/cpu.cfs_quota_us': '-1', 'cpu/cpu.cfs_period_us': '100000'}, 6),
        ({'cpu/cpu.cfs_quota_us': '200000', 'cpu/cpu.cfs_period_us': '100000'}, 2),
    ],
)
def test_no_more_threads_than_the_container_may_use(
    tmp_path, monkeypatch, files, share
):
    monkeypatch.setattr('os.sched_getaffinity', lambda _: set(range(6)), raising=False)
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'{content}\n')
    assert usable_cpus(tmp_path) == share
