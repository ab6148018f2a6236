"""torch's own exporters take our models without the wrapper of volo.deploy."""

import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from tests.deploy.small_models import build_classifier, build_segmentor
from tests.deploy.test_formats import LACKING
from volo.deploy.rewrites import rewrite

MODELS = dict(
    backbone=lambda: build_segmentor('FCNHead').backbone,
    classifier=build_classifier,
    segmentor=lambda: build_segmentor('UPerHead'),
)
#: The first is traced; the last is no multiple of 16.
SIZES = [(2, 3, 64, 64), (1, 3, 128, 80), (3, 3, 49, 70)]


def outputs(model, x):
    with torch.no_grad():
        result = model(x)
    return [result] if isinstance(result, torch.Tensor) else list(result)


def assert_equal(ours, model, x):
    torch.testing.assert_close(
        list(ours), outputs(model, x), atol=1e-4, rtol=1e-4, check_stride=False
    )


@pytest.fixture(autouse=True)
def no_warnings_about_checks_of_shapes():
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        yield


@pytest.mark.parametrize('name', MODELS)
def test_a_trace_takes_other_sizes(name):
    model = MODELS[name]()
    traced = torch.jit.trace(model, torch.randn(SIZES[0]), check_trace=False)
    for size in SIZES:
        x = torch.randn(size)
        assert_equal(outputs(traced, x), model, x)


@pytest.mark.parametrize('name', MODELS)
def test_torch_export(name):
    model, x = MODELS[name](), torch.randn(SIZES[2])
    program = torch.export.export(model, (x,), strict=False)
    assert_equal(outputs(program.module(), x), model, x)


@pytest.mark.parametrize(
    'name, dynamo', [*((name, False) for name in MODELS), ('backbone', True)]
)
def test_onnx(tmp_path, name, dynamo):
    model, x = MODELS[name](), torch.randn(SIZES[0])
    path = tmp_path / 'model.onnx'
    # mmsegmentation's adaptive pooling has no counterpart in ONNX.
    torch.onnx.export(rewrite(model), (x,), path, dynamo=dynamo, verbose=False)
    operators = {node.op_type.lower() for node in onnx.load(path).graph.node}
    assert not [name for name in operators if any(part in name for part in LACKING)]
    session = onnxruntime.InferenceSession(path)
    name = session.get_inputs()[0].name
    ours = [torch.from_numpy(y) for y in session.run(None, {name: x.numpy()})]
    assert_equal(ours, model, x)


@pytest.mark.parametrize('name', MODELS)
def test_openvino(name):
    openvino = pytest.importorskip('openvino')
    model, x = MODELS[name](), torch.randn(SIZES[0])
    with torch.no_grad():
        converted = openvino.convert_model(model, example_input=(x,))
    options = dict(INFERENCE_PRECISION_HINT='f32')
    compiled = openvino.Core().compile_model(converted, 'CPU', options)
    for size in SIZES:
        x = torch.randn(size)
        result = compiled([x.numpy()])
        ours = [torch.from_numpy(np.array(result[i])) for i in range(len(result))]
        assert_equal(ours, model, x)
