import numpy as np
import pytest
import torch
import torch.nn.functional as F

from benchmarks.dense import dense_cross_entropy, dense_label_map_targets
from tests.synth_weights import DATA

WHOLE = np.array([[0.0, 0.0, 1.0, 1.0]])


def test_targets_match_the_authors_code():
    golden = np.load(DATA / 'token_label_c20_14.npz')
    scores, classes = torch.from_numpy(golden['maps']).unbind(1)
    for grid, columns in (((1, 1), slice(1, 2)), ((14, 14), slice(2, None))):
        targets = dense_label_map_targets(
            scores, classes, golden['boxes'], grid, 20, 0.1
        )
        np.testing.assert_allclose(
            targets.transpose(1, 2), golden['target'][:, :, columns], atol=1e-5
        )


def test_one_token_per_cell():
    """Tokens are counted row by row; a class that is listed twice adds up."""
    scores = torch.tensor([[[[1.0, 2, 3], [4, 5, 6]], [[1.0, 0, 0], [0, 0, 7]]]])
    classes = torch.tensor([[[[0, 1, 2], [3, 0, 1]], [[0, 0, 0], [0, 0, 2]]]])
    targets = dense_label_map_targets(scores, classes, WHOLE, (2, 3), 4, 0.0)
    values = torch.zeros(1, 6, 4)
    values[0, range(6), [0, 1, 2, 3, 0, 1]] = torch.tensor([2.0, 2, 3, 4, 5, 6])
    values[0, 5, 2] = 7
    torch.testing.assert_close(targets, values.softmax(-1))


def test_boxes_are_left_top_width_height():
    scores = torch.full((2, 1, 4, 4), 20.0)
    classes = torch.arange(16).view(1, 1, 4, 4).expand(2, -1, -1, -1)
    boxes = np.array([[0.5, 0.25, 0.5, 0.25], [0.0, 0.75, 0.25, 0.25]])
    targets = dense_label_map_targets(scores, classes, boxes, (1, 2), 16, 0.0)
    assert targets.argmax(-1).tolist()[0] == [6, 7]
    assert targets[1].argmax(-1).unique().tolist() == [12]


@pytest.mark.parametrize('smoothing', [0.0, 0.1])
def test_label_smoothing_is_as_published(smoothing):
    scores, classes = torch.rand(1, 2, 3, 3), torch.randint(5, (1, 2, 3, 3))
    arguments = scores, classes, WHOLE, (2, 2), 5
    plain = dense_label_map_targets(*arguments, 0.0)
    targets = dense_label_map_targets(*arguments, smoothing)
    off = smoothing / 5
    torch.testing.assert_close(targets, plain * (1 - smoothing + off) + off)
    torch.testing.assert_close(targets.sum(-1), torch.full((1, 4), 1 + off))


def test_cross_entropy_matches_torch():
    torch.manual_seed(0)
    logits, targets = torch.randn(3, 7, 5), torch.rand(3, 7, 5)
    expected = F.cross_entropy(
        logits.flatten(0, 1), targets.flatten(0, 1), reduction='none'
    )
    torch.testing.assert_close(dense_cross_entropy(logits, targets).flatten(), expected)
    assert dense_cross_entropy(logits.bfloat16(), targets).dtype == torch.float32
