"""VOLO-D1 beside timm's, from the attention to an exported file."""

import numpy as np
import pytest
import timm
import torch

from tests.classifier import build
from tests.deploy.test_graph import images
from volo.checkpoints import convert_state_dict
from volo.deploy.formats import Capture, convert
from volo.deploy.graph import build_graph
from volo.deploy.parity import predict_with_pytorch
from volo.deploy.runtimes import open_exported
from volo.models.weights import load_state_dict
from volo.ops.backends import VARIABLE

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def models():
    """timm's classifier with random weights, and ours with the same."""
    torch.manual_seed(0)
    theirs = timm.create_model('volo_d1_224').eval()
    for parameter in theirs.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)
    ours = build('d1', 1000, img_size=224).eval()
    load_state_dict(ours, convert_state_dict(theirs.state_dict()), 'timm')
    return theirs, ours


def test_slices_give_timms_logits(models, monkeypatch):
    theirs, ours = models
    x = torch.randn(2, 3, 224, 224)
    monkeypatch.setenv(VARIABLE, 'sliced')
    with torch.no_grad():
        logits = ours(x)
        torch.testing.assert_close(logits, theirs(x), atol=2e-6, rtol=1e-6)


def test_openvino_gives_our_logits_at_any_size(models, tmp_path):
    _, ours = models
    graph = build_graph(ours, logits=True)
    metadata = dict(task=graph.task, input=dict(size=None))
    convert('openvino', Capture(graph, None))(tmp_path / 'd1.xml', metadata)
    runtime = open_exported(tmp_path / 'd1.xml')
    for shape in [(1, 224, 224), (2, 97, 180), (1, 250, 333)]:
        array = images(*shape)
        expected = predict_with_pytorch(ours, array)['logits']
        logits = runtime.run(array)['logits']
        np.testing.assert_allclose(logits, expected, atol=1e-5, rtol=1e-5)
