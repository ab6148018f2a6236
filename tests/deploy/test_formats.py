import functools
import itertools

import numpy as np
import pytest
import torch

from tests.deploy.small_models import (
    DECODE_HEADS,
    build_classifier,
    build_segmentor,
)
from tests.deploy.test_graph import images
from volo.deploy.formats import FORMATS, Capture, convert, find_format
from volo.deploy.graph import ClassifierGraph, build_graph
from volo.deploy.parity import predict_with_pytorch
from volo.deploy.runtimes import open_exported
from volo.errors import ConfigError

HEADS = [*DECODE_HEADS, 'VOLOHead', 'LinearClsHead']

#: Operators that TensorRT or CoreML lack, by parts of their names in any format.
LACKING = ('col2im', 'im2col', 'scatter', 'index_put', 'cubic', 'adaptive')


@functools.cache
def model_of(head):
    return build_segmentor(head) if head in DECODE_HEADS else build_classifier(head)


@functools.cache
def capture_of(head, size, half=False):
    return Capture(build_graph(model_of(head), logits=True, half=half), size)


def write(folder, head, name, size=None, half=False):
    capture = capture_of(head, size, half)
    path = folder / f'model{FORMATS[name].suffix}'
    metadata = dict(
        task=capture.graph.task,
        input=dict(size=size),
        outputs=capture.graph.output_names,
        classes=['ä', '<b>&"'],
    )
    convert(name, capture, half)(path, metadata)
    return path


def operators(runtime):
    """Return the names of the operators of a file, and the modes of resizes."""
    path = runtime.path
    if path.suffix == '.onnx':
        import onnx

        nodes = onnx.load(path).graph.node
        modes = [str(a.s) for n in nodes for a in n.attribute if a.name == 'mode']
        return {node.op_type.lower() for node in nodes} | set(modes)
    if path.suffix == '.xml':
        import openvino

        found = set()
        for node in openvino.Core().read_model(path).get_ordered_ops():
            mode = node.get_attributes().get('mode', '')
            found |= {node.get_type_name().lower(), str(mode).lower()}
        return found
    return {str(node.target).lower() for node in runtime._module.graph.nodes}


def check(path, head, shapes, tolerance=1e-3):
    runtime = open_exported(path)
    assert runtime.metadata['classes'] == ['ä', '<b>&"']
    for shape in shapes:
        array = images(*shape)
        ours, expected = runtime.run(array), predict_with_pytorch(model_of(head), array)
        assert np.abs(ours['logits'] - expected['logits']).max() < tolerance
        if 'classes' in ours:
            assert ours['classes'].dtype == np.uint8
            assert (ours['classes'] == expected['classes']).mean() > 0.999
            assert ours['confidence'].dtype == np.float32
        else:
            scores = expected['probabilities']
            np.testing.assert_allclose(ours['probabilities'], scores, atol=1e-4)
    names = operators(runtime)
    assert len(names) > 20
    assert not [name for name in names if any(part in name for part in LACKING)]
    return runtime


#: Batch, height and width. The graph is captured with another.
SHAPES = [(1, 97, 180), (3, 64, 64), (1, 17, 130)]


@pytest.mark.parametrize('head', HEADS)
def test_openvino_takes_any_size(tmp_path, head):
    check(write(tmp_path, head, 'openvino'), head, SHAPES)


@pytest.mark.parametrize('head', ['UPerHead', 'VOLOHead'])
@pytest.mark.parametrize('name', ['onnx', 'pt2'])
def test_onnx_and_pt2_take_any_size(tmp_path, name, head):
    runtime = check(write(tmp_path, head, name), head, SHAPES)
    with pytest.raises(ConfigError, match='takes images of 17 pixels and more'):
        runtime.run(images(1, 16, 64))


@pytest.mark.parametrize(
    'name, head',
    [
        *itertools.product(['onnx', 'pt2'], HEADS[1:4] + HEADS[5:]),
        ('openvino', 'UPerHead'),
        ('openvino', 'VOLOHead'),
    ],
)
def test_files_of_one_size(tmp_path, name, head):
    path = write(tmp_path, head, name, size=(40, 72))
    runtime = check(path, head, [(1, 40, 72), (3, 40, 72)])
    with pytest.raises(ConfigError, match='takes images of 40x72 pixels, not 64x72'):
        runtime.run(images(1, 64, 72))


@pytest.mark.parametrize('name', ['onnx', 'pt2'])
def test_float16(tmp_path, name):
    path = write(tmp_path, 'LinearClsHead', name, (40, 72), half=True)
    check(path, 'LinearClsHead', [(1, 40, 72)], tolerance=0.01)


def test_weights_of_openvino_take_half_the_space(tmp_path):
    convert('openvino', capture_of('FCNHead', None), half=True)(tmp_path / 'a.xml', {})
    model = capture_of('FCNHead', None).graph.model
    weights = sum(tensor.numel() for tensor in model.state_dict().values())
    assert (tmp_path / 'a.bin').stat().st_size < 3 * weights


@pytest.mark.parametrize('name', ['onnx', 'openvino'])
def test_an_operator_that_a_format_lacks_is_named(name):
    class Bessel(ClassifierGraph):
        def compute_logits(self, x):
            return torch.special.bessel_j0(super().compute_logits(x))

    graph = Bessel(model_of('LinearClsHead'), logits=False).eval()
    message = f'--format {name} cannot hold this model: operator .*bessel_j0'
    with pytest.raises(ConfigError, match=message):
        convert(name, Capture(graph, (32, 32)))


def test_formats_are_checked(monkeypatch):
    with pytest.raises(ConfigError, match='--format onx: unknown.* Did you mean onnx?'):
        find_format('onx')
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    message = r"needs openvino, which is not installed: pip install 'volo\[openvino\]'"
    with pytest.raises(ConfigError, match=message):
        find_format('openvino')
    assert find_format('pt2').suffix == '.pt2'
