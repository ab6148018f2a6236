"""Files that are larger than they look, or that read memory that is not theirs."""

import resource
import zipfile

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer

from tests.bad_checkpoints import HARMFUL, REFUSED, WEIGHTS, run_in_child
from tests.fuzzing import read_archive, write_archive
from volo.checkpoints.reading import read_checkpoint, read_weights
from volo.errors import CheckpointError


def save(path, content, **kwargs):
    torch.save(content, path, **kwargs)
    return path


@pytest.mark.parametrize('kind', HARMFUL)
@pytest.mark.parametrize('zipped', [True, False])
def test_harmful_file_is_refused(tmp_path, kind, zipped):
    content = dict(state_dict=WEIGHTS, harmful=HARMFUL[kind]())
    path = save(tmp_path / 'x.pth', content, _use_new_zipfile_serialization=zipped)

    def use():
        torch.set_num_threads(1)
        value = read_checkpoint(path)['harmful']
        if isinstance(value, torch.Tensor):
            value.to_dense().sum()
        else:
            str(value.data if isinstance(value, HistoryBuffer) else np.asarray(value))

    assert run_in_child(use) == REFUSED


def write_bomb(path, gigabytes):
    """Write an archive with a pickle of that size, a thousandth of it in the file."""
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        with archive.open('x/data.pkl', 'w', force_zip64=True) as member:
            member.write(b'\x80\x02')
            for _ in range(int(gigabytes * 1000)):
                member.write(b'N0' * 500_000)
            member.write(b'N.')
        archive.writestr('x/version', '3')
    assert path.stat().st_size < gigabytes * 1.1e6


@pytest.mark.parametrize('gigabytes', [0.3, pytest.param(3, marks=pytest.mark.slow)])
def test_an_archive_that_inflates_is_not_unpacked(tmp_path, gigabytes):
    write_bomb(tmp_path / 'x.pth', gigabytes)

    def read():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            read_checkpoint(tmp_path / 'x.pth')
        finally:
            assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000

    assert run_in_child(read) == REFUSED


def test_deep_nesting_is_refused(tmp_path):
    members = read_archive(save(tmp_path / 'x.pth', WEIGHTS).read_bytes())
    members['x/data.pkl'] = b'\x80\x02)' + b'\x85' * 200_000 + b'.'
    (tmp_path / 'x.pth').write_bytes(write_archive(members.items()))

    with pytest.raises(CheckpointError, match='refused.*nested more than 100 times'):
        read_checkpoint(tmp_path / 'x.pth')


def test_compressed_archives_are_read(tmp_path):
    members = read_archive(save(tmp_path / 'x.pth', WEIGHTS).read_bytes())
    compressed = write_archive(members.items(), zipfile.ZIP_DEFLATED)
    (tmp_path / 'x.pth').write_bytes(compressed)

    assert torch.equal(read_weights(tmp_path / 'x.pth')['weight'], WEIGHTS['weight'])


@pytest.mark.parametrize('size', [0, 8, 23, 25, 1000])
def test_a_storage_of_another_size_is_damage(tmp_path, size):
    members = read_archive(save(tmp_path / 'x.pth', WEIGHTS).read_bytes())
    members['x/data/0'] = bytes(size)
    (tmp_path / 'x.pth').write_bytes(write_archive(members.items()))

    with pytest.raises(CheckpointError, match='storage 0 does not have 24 bytes'):
        read_weights(tmp_path / 'x.pth')


def test_two_members_of_one_name_are_no_way_in(tmp_path):
    """What is checked is what torch reads, whichever of the two it is."""
    members = read_archive(save(tmp_path / 'x.pth', WEIGHTS).read_bytes())
    evil = b'\x80\x02cposix\nsystem\nX\x04\x00\x00\x00true\x85R.'
    for first, last in ((evil, members['x/data.pkl']), (members['x/data.pkl'], evil)):
        members['x/data.pkl'] = first
        with pytest.warns(UserWarning, match='Duplicate name'):
            content = write_archive([*members.items(), ('x/data.pkl', last)])
        (tmp_path / 'x.pth').write_bytes(content)
        try:
            read_weights(tmp_path / 'x.pth')
        except CheckpointError as error:
            assert 'posix.system' in str(error)
        members['x/data.pkl'] = read_archive(
            save(tmp_path / 'x.pth', WEIGHTS).read_bytes()
        )['x/data.pkl']
