"""The published augmentation, against timm's own."""

import pickle
import random

import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from mmpretrain.datasets.transforms import PackInputs
from mmpretrain.models import ClsDataPreprocessor
from PIL import Image
from timm.data import auto_augment
from timm.data.random_erasing import RandomErasing

from volo.datasets import NormalizedErasing, TimmRandAugment
from volo.datasets.augmentation import _MOVES, _step
from volo.datasets.streams import seed_generators

POLICY = 'rand-m9-mstd0.5-inc1'
FILL = (124, 116, 104)
MEAN, STD = [103.53, 116.28, 123.675], [57.375, 57.12, 58.395]


def image(height=60, width=90):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def erasing(probability=1.0):
    return NormalizedErasing(probability, MEAN, STD)


def test_rand_augment_is_timms():
    ours = TimmRandAugment(POLICY, FILL)
    timms = auto_augment.rand_augment_transform(POLICY, dict(img_mean=FILL))
    pixels = image()
    for seed in range(100):
        seed_generators(seed)
        found = ours(dict(img=pixels[..., ::-1]))['img']
        seed_generators(seed)
        expected = np.asarray(timms(Image.fromarray(pixels)))
        np.testing.assert_array_equal(found[..., ::-1], expected)


def test_posterize_to_0_bits_is_black():
    augment = TimmRandAugment('rand-m10-p1.0-n1-inc1')
    augment.augment.ops = [
        op for op in augment.augment.ops if op.name == 'PosterizeIncreasing'
    ]
    assert not augment(dict(img=image()))['img'].any()


@pytest.mark.parametrize('value', [0.2, -0.31])
@pytest.mark.parametrize('name', _MOVES)
def test_moves_are_described_exactly(name, value):
    """An image of its own coordinates shows where every pixel came from."""
    height, width = 40, 70
    if name == 'Rotate':
        value *= 90
    y, x = np.indices((height, width), dtype=np.float32) + 0.5
    move = auto_augment.NAME_TO_OP[name]
    options = dict(resample=Image.Resampling.BILINEAR, fillcolor=-1)
    found = np.stack(
        [np.asarray(move(Image.fromarray(c), value, **options)) for c in (x, y)]
    )
    points = np.stack([x.ravel() / width, y.ravel() / height, np.ones(x.size)])
    expected = _step(name, value, height / width)[:2] @ points * [[width], [height]]
    expected = expected.reshape(2, height, width)
    # At the edge, interpolation has no neighbor.
    inner = (expected > 0.5) & (expected < [[[width - 0.5]], [[height - 0.5]]])
    inner = inner.all(0)
    assert inner.mean() > 0.3
    np.testing.assert_allclose(found[:, inner], expected[:, inner], atol=2e-3)
    outer = (expected < -1e-3) | (expected > [[[width + 1e-3]], [[height + 1e-3]]])
    assert (found[0][outer.any(0)] == -1).all()


@pytest.mark.parametrize('policy', ['rand-m9-inc1', 'rand-m9', 'rand-m9-t3a'])
def test_all_other_operations_keep_pixels_in_place(policy):
    operations = auto_augment.rand_augment_transform(policy, {}).ops
    pixels = Image.fromarray(image())
    for operation in operations:
        operation.prob = 1.0
        same = []
        for flip in Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.FLIP_TOP_BOTTOM:
            random.seed(0)
            first = operation(pixels.transpose(flip))
            random.seed(0)
            second = operation(pixels).transpose(flip)
            same.append(np.array_equal(first, second))
        assert all(same) == (operation.name not in _MOVES), operation.name


def test_the_matrices_of_the_last_call_are_returned():
    augment = pickle.loads(pickle.dumps(TimmRandAugment(POLICY)))
    counts = set()
    for seed in range(200):
        seed_generators(seed)
        augment(dict(img=image()))
        steps = augment.describe_geometry(60, 90)
        assert steps.shape[1:] == (3, 3)
        counts.add(len(steps))
    assert counts == {0, 1, 2}


@pytest.mark.parametrize('seed', range(20))
def test_erasing_is_timms(seed):
    random.seed(seed)
    torch.manual_seed(seed)
    pixels = image()
    found = erasing()(dict(img=pixels.copy()))['img']
    random.seed(seed)
    random.random()
    torch.manual_seed(seed)
    mean, std = torch.tensor(MEAN), torch.tensor(STD)
    normalized = ((torch.from_numpy(pixels) - mean) / std).permute(2, 0, 1)
    timms = RandomErasing(1.0, mode='pixel', device='cpu')(normalized)
    found = (torch.from_numpy(found) - mean) / std
    torch.testing.assert_close(found.permute(2, 0, 1), timms, atol=1e-5, rtol=0)


def test_noise_is_normal_after_normalization_and_not_clipped():
    pipeline, pack = erasing(0.25), PackInputs()
    preprocess = ClsDataPreprocessor(mean=MEAN[::-1], std=STD[::-1], to_rgb=True)
    seed_generators(0)
    # 77 is a value that the noise does not have.
    samples = [
        pack(pipeline(dict(img=np.full((64, 64, 3), 77, np.uint8)))) for _ in range(400)
    ]
    erased = [sample['inputs'].dtype == torch.float32 for sample in samples]
    assert all(s['inputs'].dtype in (torch.float32, torch.uint8) for s in samples)
    assert 70 < sum(erased) < 130
    raw = torch.stack(
        [s['inputs'] for s, yes in zip(samples, erased, strict=True) if yes]
    )
    noisy = raw != 77
    assert raw[noisy].min() < 0 and raw[noisy].max() > 255
    areas = noisy[:, 0].float().mean((1, 2))
    assert 0.015 < areas.min() and areas.max() < 0.35

    inputs = preprocess(pseudo_collate(samples))['inputs'][torch.tensor(erased)]
    noise = inputs[noisy.flip(1)]
    assert abs(noise.mean()) < 0.01 and abs(noise.std() - 1) < 0.01
    kept = inputs[~noisy.flip(1)].unique()
    assert len(kept) == 3, 'the other pixels are exactly those of the image'


def test_augmentation_depends_on_the_place_of_a_sample_alone():
    init_default_scope('mmpretrain')
    steps = [TimmRandAugment(POLICY), erasing(0.5)]
    runs = []
    for _ in range(2):
        results = []
        for place in range(20):
            seed_generators(3, place)
            sample = dict(img=image())
            for step in steps:
                sample = step(sample)
            results.append(sample['img'])
        runs.append(results)
    for first, second in zip(*runs, strict=True):
        np.testing.assert_array_equal(first, second)
    assert len({result.tobytes() for result in runs[0]}) > 15
