import numpy as np
import pytest
import torch

from benchmarks.dense import dense_label_map_targets
from tests.synth_weights import DATA
from volo.token_label.targets import (
    SoftTargets,
    ground_truth_targets,
    label_map_targets,
    label_targets,
    mix_targets,
    put_targets,
    select_targets,
)

NO_FRAMES = np.empty((4, 0, 3, 3))


def crops(boxes):
    """The matrices of crops (left, top, width, height)."""
    matrices = np.tile(np.eye(3), (len(boxes), 1, 1))
    matrices[:, [0, 1], [2, 2]] = boxes[:, :2]
    matrices[:, [0, 1], [0, 1]] = boxes[:, 2:]
    return matrices


@pytest.mark.parametrize('published_axes', [False, True])
def test_targets_equal_the_authors(published_axes):
    golden = np.load(DATA / 'token_label_c20_14.npz')
    scores, classes = torch.from_numpy(golden['maps']).unbind(1)
    matrices = crops(golden['boxes'])
    expected = golden['target']
    if published_axes:
        matrices = matrices[:, [1, 0, 2]][:, :, [1, 0, 2]]
        expected = golden['target_published_axes']
    for grid, columns in (((1, 1), slice(1, 2)), ((14, 14), slice(2, None))):
        targets = label_map_targets(
            scores, classes.int(), matrices, NO_FRAMES, grid, 20, 0.1
        ).to_dense(20)
        np.testing.assert_allclose(
            targets.transpose(1, 2), expected[:, :, columns], atol=1e-5
        )
    labels = torch.from_numpy(golden['ground_truth'])
    np.testing.assert_allclose(
        label_targets(labels, 20, 0.1).to_dense(20), expected[:, :, 0], atol=1e-6
    )


@pytest.mark.parametrize('num_classes', [1, 3, 1000])
@pytest.mark.parametrize('grid', [(1, 1), (7, 7), (14, 14), (24, 20), (2, 30)])
def test_targets_equal_dense_ones(grid, num_classes):
    rng = np.random.RandomState(0)
    boxes = rng.rand(4, 4)
    boxes[:, 2:] = 0.2 + 0.8 * boxes[:, 2:]
    boxes[:, :2] *= 1 - boxes[:, 2:]
    scores = torch.from_numpy(8 * rng.randn(4, 5, 18, 12)).half()
    # Also the same class twice in a cell, which an annotator never says.
    classes = torch.from_numpy(rng.randint(0, num_classes, scores.shape))
    arguments = (scores, classes, crops(boxes), NO_FRAMES, grid, num_classes)
    dense = dense_label_map_targets(scores, classes, boxes, grid, num_classes, 0.1)
    sparse = label_map_targets(*arguments, 0.1).to_dense(num_classes)
    torch.testing.assert_close(sparse, dense, atol=2e-5, rtol=2e-4)
    total = 1 + 0.1 / num_classes
    torch.testing.assert_close(sparse.sum(-1), torch.full(sparse.shape[:2], total))


@pytest.mark.parametrize('score', [30.0, -30.0, 60000.0, -60000.0])
def test_extreme_scores_stay_finite(score):
    scores = torch.full((1, 1, 4, 4), score).half()
    targets = label_map_targets(
        scores,
        torch.ones(1, 1, 4, 4).int(),
        np.eye(3)[None],
        NO_FRAMES[:1],
        (2, 2),
        10,
        0,
    ).to_dense(10)
    expected = torch.zeros(10)
    expected[1] = score
    expected = expected.softmax(0)
    torch.testing.assert_close(targets, expected.expand(1, 4, 10))


def test_mixed_precision_changes_nothing():
    rng = np.random.RandomState(0)
    scores = torch.from_numpy(rng.randn(40, 2, 6, 6)).half()
    classes = torch.from_numpy(rng.randint(0, 9, scores.shape)).int()
    matrices = crops(np.tile([[0.1, 0.2, 0.7, 0.6]], (40, 1)))
    frames = np.empty((40, 0, 3, 3))
    results = []
    for enabled in (False, True):
        with torch.autocast('cpu', dtype=torch.bfloat16, enabled=enabled):
            results.append(
                label_map_targets(scores, classes, matrices, frames, (4, 4), 9, 0.1)
            )
    for first, second in zip(*results, strict=True):
        assert torch.equal(first, second)


def random_targets(shape, num_classes=7, listed=3):
    classes = torch.randint(0, num_classes, (*shape, listed))
    return SoftTargets(torch.rand(shape), classes, torch.randn(*shape, listed))


def test_mixing_and_selecting_equal_dense_targets():
    torch.manual_seed(0)
    first, second = random_targets((4, 6)), random_targets((4, 6))
    a, b = first.to_dense(7), second.to_dense(7)
    torch.testing.assert_close(
        mix_targets(first, second, 0.3).to_dense(7), 0.3 * a + 0.7 * b
    )
    each = torch.rand(4, 6)
    torch.testing.assert_close(
        mix_targets(first, second, each).to_dense(7),
        each[..., None] * a + (1 - each[..., None]) * b,
    )
    torch.testing.assert_close(first.flip().to_dense(7), a.flip(0))
    mask = torch.rand(6) < 0.5
    torch.testing.assert_close(
        select_targets(mask, first, second).to_dense(7),
        torch.where(mask[:, None], a, b),
    )
    others = random_targets((2, 6), listed=5)
    expected = a.clone()
    expected[[3, 1]] = others.to_dense(7)
    torch.testing.assert_close(
        put_targets(first, torch.tensor([3, 1]), others).to_dense(7), expected
    )


def test_ground_truth_counts_half_where_it_is_the_best_class():
    targets = SoftTargets(
        torch.tensor([0.1, 0.1]),
        torch.tensor([[2, 1], [2, 1]]),
        torch.tensor([[0.5, 0.1], [0.5, 0.1]]),
    )
    dense = targets.to_dense(4)
    mixed = ground_truth_targets(targets, torch.tensor([2, 1]), 0.2, 4).to_dense(4)
    truth = torch.tensor([[0.05, 0.05, 0.85, 0.05], [0.05, 0.85, 0.05, 0.05]])
    torch.testing.assert_close(mixed[0], 0.5 * dense[0] + 0.5 * truth[0])
    torch.testing.assert_close(mixed[1], 0.9 * dense[1] + 0.1 * truth[1])
