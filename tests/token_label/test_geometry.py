"""Painted images: what a token shows must be what its target says."""

import numpy as np
import pytest
import torch
from mmcv.transforms import BaseTransform, Compose
from mmcv.transforms.utils import cache_randomness
from mmengine.registry import init_default_scope
from mmpretrain.registry import TRANSFORMS
from PIL import Image
from timm.data.auto_augment import NAME_TO_OP
from torchvision.ops import roi_align

from volo.datasets import TimmRandAugment
from volo.datasets.augmentation import _MOVES
from volo.datasets.streams import seed_generators
from volo.errors import ConfigError
from volo.token_label.geometry import StartGeometry, track
from volo.token_label.targets import label_map_targets

CLASSES = 27
# Far from each other and from the fill color.
PALETTE = np.stack(np.meshgrid(*[[0, 127, 255]] * 3), axis=-1).reshape(-1, 3)
FILL = (60, 190, 60)
TOKENS, PIXELS = 7, 16
SIZE = TOKENS * PIXELS

CROP = dict(type='RandomResizedCrop', scale=SIZE, crop_ratio_range=(0.2, 1.0))
FLIP = dict(type='RandomFlip', prob=0.7, direction=['horizontal', 'vertical'])
warp = dict(pad_val=FILL, prob=1.0, interpolation='bilinear')
ROTATE = dict(type='Rotate', angle=35.0, **warp)
SHEARS = [
    dict(type='Shear', magnitude=0.35, direction=direction, **warp)
    for direction in ('horizontal', 'vertical')
]
TRANSLATIONS = [
    dict(type='Translate', magnitude=0.3, direction=direction, **warp)
    for direction in ('horizontal', 'vertical')
]
TIMM = dict(type='TimmRandAugment', policy='rand-m9-mstd0.5-inc1', fill=FILL)
RAND_AUGMENT = dict(
    type='RandAugment',
    policies=[
        dict(type='Rotate', magnitude_range=(0, 30)),
        dict(type='Shear', magnitude_range=(0, 0.3), direction='horizontal'),
        dict(type='Shear', magnitude_range=(0, 0.3), direction='vertical'),
        dict(type='Translate', magnitude_range=(0, 0.45), direction='horizontal'),
        dict(type='Translate', magnitude_range=(0, 0.45), direction='vertical'),
    ],
    num_policies=2,
    magnitude_level=9,
    magnitude_std=0.5,
    hparams=dict(pad_val=FILL, interpolation='bicubic'),
)
CHAINS = dict(
    crop=[CROP],
    flip=[dict(type='Resize', scale=(SIZE, SIZE)), FLIP],
    rotate=[dict(type='Resize', scale=(SIZE, SIZE)), ROTATE],
    shear=[dict(type='Resize', scale=(SIZE, SIZE)), *SHEARS],
    translate=[dict(type='Resize', scale=(SIZE, SIZE)), *TRANSLATIONS],
    before_the_crop=[ROTATE, SHEARS[0], CROP],
    rotate_elsewhere=[CROP, dict(ROTATE, center=(30.0, 70.0), scale=0.8)],
    padded_crop=[
        dict(type='ResizeEdge', scale=SIZE + 9),
        dict(
            type='RandomCrop',
            crop_size=SIZE,
            padding=(20, 10),
            pad_if_needed=True,
            pad_val=FILL,
        ),
    ],
    center_crop=[
        dict(type='ResizeEdge', scale=SIZE + 40),
        dict(type='CenterCrop', crop_size=SIZE),
    ],
    choice=[
        dict(
            type='RandomChoice',
            transforms=[[dict(CROP, interpolation=i)] for i in ('bilinear', 'bicubic')],
        ),
        dict(type='RandomApply', transforms=[FLIP], prob=0.5),
    ],
    recipe=[FLIP, TIMM, CROP],
    recipe_without_label_maps=[CROP, FLIP, TIMM],
    mmpretrain=[CROP, FLIP, RAND_AUGMENT],
    everything=[*SHEARS, CROP, FLIP, RAND_AUGMENT, *TRANSLATIONS, ROTATE],
    **{f'timm_{name}': [dict(TIMM, only=name), CROP] for name in _MOVES},
)


@pytest.fixture(autouse=True)
def scope():
    """What a Runner sets: containers of mmcv build mmpretrain's transforms then."""
    init_default_scope('mmpretrain')


def build(transforms):
    """Build transforms; of timm's RandAugment only what moves pixels, and always."""
    built = []
    for cfg in map(dict, transforms):
        names = cfg.pop('only', _MOVES)
        built.append(TRANSFORMS.build(cfg))
        if isinstance(built[-1], TimmRandAugment):
            augment = built[-1].augment
            augment.ops = [op for op in augment.ops if op.name in names]
            for operation in augment.ops:
                operation.prob = 1.0
    return built


def paint(rng):
    """An image of blocks of color, higher than wide, and the label map of it."""
    blocks = rng.permutation(CLASSES)[:12].reshape(4, 3)
    label_map = blocks.repeat(5, axis=0).repeat(5, axis=1)  # 20 x 15 cells
    pixels = label_map.repeat(14, axis=0).repeat(14, axis=1)
    return PALETTE[pixels].astype(np.uint8), label_map


def show(image):
    """Return the share of each class, and of the fill, in the tokens of an image."""
    tokens = image.reshape(TOKENS, PIXELS, TOKENS, PIXELS, 3)
    tokens = tokens.swapaxes(1, 2).reshape(TOKENS**2, PIXELS**2, 1, 3)
    colors = np.vstack([PALETTE, [FILL]])
    nearest = ((tokens - colors.astype(float)) ** 2).sum(-1).argmin(-1)
    counts = np.array([np.bincount(row, minlength=CLASSES + 1) for row in nearest])
    return counts / PIXELS**2


def agreement(transforms, rng):
    """Compare tokens that show one color with their targets.

    Returns:
        Tokens that show a class; those of them whose target is that class; tokens that
        show none; those of them whose target prefers no class.
    """
    image, label_map = paint(rng)
    pipeline = Compose([StartGeometry(), *track(build(transforms))])
    results = pipeline(dict(img=image, img_shape=image.shape[:2]))
    geometry = results['geometry']
    scores = torch.full((1, 1, *label_map.shape), 9.0)
    targets = label_map_targets(
        scores,
        torch.from_numpy(label_map)[None, None],
        geometry.matrix[None],
        np.array(geometry.frames).reshape(1, -1, 3, 3),
        (TOKENS, TOKENS),
        CLASSES,
        0.0,
    ).to_dense(CLASSES)[0]
    shown = show(results['img'])
    pure = shown[:, :CLASSES].max(1) > 0.95
    empty = shown[:, CLASSES] > 0.99
    right = targets.argmax(1).numpy() == shown[:, :CLASSES].argmax(1)
    undecided = (targets.max(1).values < 0.1).numpy()
    return np.array(
        [pure.sum(), (pure & right).sum(), empty.sum(), (empty & undecided).sum()]
    )


@pytest.mark.parametrize('chain', CHAINS)
def test_targets_agree_with_what_the_tokens_show(chain):
    seed_generators(0)
    rng = np.random.RandomState(1)
    total = sum(agreement(CHAINS[chain], rng) for _ in range(30))
    pure, right, empty, undecided = total
    assert pure > 100
    assert right == pure
    # Edge cells extend half a cell beyond the edge, as in RoIAlign.
    assert undecided >= 0.9 * empty


def authors_agreement(rng, transposed):
    """Do the same for label maps that move as in the authors' code.

    They apply each operation to the map itself, by nearest cell and without the aspect
    ratio of the image, and hand row and column of the crop to x and y (``transposed``).
    """
    image, label_map = paint(rng)
    label_map = Image.fromarray(label_map[::5, ::5].astype(np.uint8))
    label_map = label_map.resize((24, 24), Image.Resampling.NEAREST)
    flip, augment, crop = build([dict(FLIP, direction='horizontal'), TIMM, CROP])
    flip._cache_enabled = crop._cache_enabled = True
    results = flip(dict(img=image))
    if flip._choose_direction():
        label_map = label_map.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    results = augment(results)
    for name, value in augment._moves:
        options = dict(resample=Image.Resampling.NEAREST, fillcolor=CLASSES)
        label_map = NAME_TO_OP[name](label_map, value, **options)
    top, left, height, width = crop.rand_crop_params(results['img'])
    full_height, full_width = results['img'].shape[:2]
    box = np.array([left, top, left + width, top + height], float)
    box /= [full_width, full_height] * 2
    if transposed:
        box = box[[1, 0, 3, 2]]
    dense = torch.eye(CLASSES + 1)[np.asarray(label_map).astype(int)]
    dense = dense.permute(2, 0, 1)[None, :CLASSES]
    region = torch.tensor([[0, *(24 * box - 0.5)]]).float()
    targets = roi_align(dense, region, (TOKENS, TOKENS))[0].flatten(1).argmax(0)
    shown = show(crop(results)['img'])[:, :CLASSES]
    pure = shown.max(1) > 0.95
    return np.array([pure.sum(), (pure & (targets.numpy() == shown.argmax(1))).sum()])


@pytest.mark.parametrize(('transposed', 'low', 'high'), [(1, 0.4, 0.6), (0, 0.95, 1)])
def test_label_maps_that_move_as_in_the_authors_code(transposed, low, high):
    seed_generators(0)
    rng = np.random.RandomState(1)
    pure, right = sum(authors_agreement(rng, transposed) for _ in range(60))
    assert low < right / pure < high


def test_images_are_the_same_as_without_tracking():
    image, _ = paint(np.random.RandomState(0))
    recipe = CHAINS['everything']
    for seed in range(10):
        seed_generators(seed)
        plain = Compose(build(recipe))(dict(img=image))['img']
        seed_generators(seed)
        pipeline = Compose([StartGeometry(), *track(build(recipe))])
        assert (pipeline(dict(img=image))['img'] == plain).all()


def test_the_recipes_color_policies_are_known():
    recipe = dict(
        type='RandAugment',
        policies='timm_increasing',
        num_policies=2,
        magnitude_level=9,
    )
    erase = dict(type='RandomErasing', erase_prob=0.25, mode='rand')
    ours = dict(type='NormalizedErasing', erase_prob=0.25, mean=[0.0], std=[1.0])
    assert len(track(build([recipe, erase, ours, dict(type='ColorJitter')]))) == 4


class Unknown(BaseTransform):
    def transform(self, results):
        return results


class Harmless(Unknown):
    moves_pixels = False


class Upside(BaseTransform):
    """Turns half of the images upside down, and tells."""

    @cache_randomness
    def draw(self):
        return np.random.rand() < 0.5

    def transform(self, results):
        if self.draw():
            results['img'] = results['img'][::-1]
        return results

    def describe_geometry(self, height, width):
        return (
            np.diag([1.0, -1.0, 1.0]) + np.eye(3, k=1) * [[0], [1], [0]]
            if (self.draw())
            else None
        )


@pytest.mark.parametrize('inside', [False, True])
def test_undescribed_transforms_are_refused(inside):
    transforms = [Unknown()]
    if inside:
        transforms = build([dict(type='RandomApply', transforms=[CROP], prob=0.5)])
        transforms[0].transforms.transforms.append(Unknown())
    with pytest.raises(ConfigError, match='Unknown may move pixels and does not tell'):
        track(transforms)


def test_torchvisions_transforms_are_refused():
    with pytest.raises(ConfigError, match='may move pixels'):
        track(build([dict(type='torchvision/RandomRotation', degrees=30)]))


def test_custom_transforms_take_part():
    np.random.seed(0)
    pipeline = Compose([StartGeometry(), *track([Harmless(), Upside()])])
    seen = set()
    for _ in range(20):
        results = pipeline(dict(img=np.arange(6).reshape(3, 2)))
        turned = bool(results['img'][0, 0] == 4)
        top = results['geometry'].matrix @ [0.5, 0.0, 1.0]
        assert top[1] == (1.0 if turned else 0.0)
        seen.add(turned)
    assert seen == {False, True}
