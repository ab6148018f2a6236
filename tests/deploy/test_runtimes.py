import numpy as np
import pytest

from tests.deploy.test_formats import images, write
from volo.deploy.runtimes import RUNTIMES, open_exported
from volo.errors import CheckpointError, ConfigError


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """A classifier in every format."""
    folder = tmp_path_factory.mktemp('exported')
    return {
        name: write(folder, 'LinearClsHead', name, size=(40, 72))
        for name in ('onnx', 'openvino', 'pt2')
    }


def test_runtimes_agree(files):
    array = images(2, 40, 72)
    results = [open_exported(path, threads=1).run(array) for path in files.values()]
    for result in results:
        assert list(result) == ['probabilities', 'logits']
        np.testing.assert_allclose(result['logits'], results[0]['logits'], atol=1e-5)


def test_outputs_are_kept_when_the_next_batch_runs(files):
    first, second = images(1, 40, 72), 255 - images(1, 40, 72)
    for path in files.values():
        runtime = open_exported(path)
        kept = runtime.run(first)['logits']
        before = kept.copy()
        runtime.run(second)
        assert (kept == before).all()


def test_views_are_taken(files):
    array = images(1, 40, 72)
    for path in files.values():
        runtime = open_exported(path)
        flipped = runtime.run(array[:, ::-1])['logits']
        copied = runtime.run(array[:, ::-1].copy())['logits']
        np.testing.assert_array_equal(flipped, copied)


@pytest.mark.parametrize('name', ['onnx', 'openvino', 'pt2'])
@pytest.mark.parametrize('damage', ['truncated', 'text', 'empty'])
def test_a_damaged_file_is_one_clear_error(files, tmp_path, name, damage):
    path = tmp_path / files[name].name
    content = files[name].read_bytes()
    damaged = dict(truncated=content[: len(content) // 2], text=b'text', empty=b'')
    path.write_bytes(damaged[damage])
    with pytest.raises(CheckpointError, match='cannot be opened by .*Export .* again'):
        open_exported(path)


def test_weights_of_openvino_are_a_second_file(files, tmp_path):
    path = tmp_path / 'model.xml'
    path.write_bytes(files['openvino'].read_bytes())
    with pytest.raises(CheckpointError, match='model.xml cannot be opened by OpenVINO'):
        open_exported(path)


def test_a_file_from_elsewhere_is_refused(files, tmp_path):
    import onnx

    model = onnx.load(files['onnx'])
    del model.metadata_props[:]
    onnx.save(model, tmp_path / 'model.onnx')
    with pytest.raises(CheckpointError, match='not written by tools/export.py'):
        open_exported(tmp_path / 'model.onnx')


def test_another_task_is_refused(files):
    with pytest.raises(CheckpointError, match='for classification, not for segment'):
        open_exported(files['onnx'], 'segmentation')


def test_what_is_no_exported_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match='.pth is no exported format, only .onnx, '):
        open_exported(tmp_path / 'model.pth')
    with pytest.raises(CheckpointError, match='no such exported model'):
        open_exported(tmp_path / 'model.onnx')


def test_a_missing_runtime_names_the_extra(files, monkeypatch):
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    for path in files.values():
        if RUNTIMES[path.suffix].modules:
            with pytest.raises(ConfigError, match=r"pip install 'volo\[o"):
                open_exported(path)
