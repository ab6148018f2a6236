import shutil
from types import SimpleNamespace

import pytest
from mmengine.fileio import get_file_backend
from mmengine.runner import save_checkpoint

from volo.engine.file_backend import AtomicBackend
from volo.errors import TrainingError


def test_a_full_disk_is_found_out_before_writing(tmp_path, monkeypatch):
    path = tmp_path / 'iter_2.pth'
    path.write_bytes(b'old')
    usage = SimpleNamespace(free=2e6)
    monkeypatch.setattr(shutil, 'disk_usage', lambda _: usage)
    with pytest.raises(
        TrainingError, match=r'iter_2.pth does not fit .* 3.0 MB, 2.0 MB'
    ):
        AtomicBackend().put(bytes(3_000_000), path)
    assert path.read_bytes() == b'old' and list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(TrainingError, match=r'file/a.pth cannot be written: '):
        AtomicBackend().put(b'', tmp_path / 'file/a.pth')


def test_mmengine_writes_so(tmp_path):
    assert isinstance(get_file_backend(str(tmp_path)), AtomicBackend)
    path = tmp_path / 'a.pth'
    inode = None
    for _ in range(2):
        save_checkpoint(dict(state_dict={}), str(path))
        assert path.stat().st_ino != inode  # not written over
        inode = path.stat().st_ino
    backend = AtomicBackend()
    backend.put_text('wörds', tmp_path / 'text')
    assert backend.get_text(tmp_path / 'text') == 'wörds'
