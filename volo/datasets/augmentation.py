"""Augmentation of the published recipe, by timm's own functions."""

import functools
import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS
from PIL import Image
from timm.data.auto_augment import rand_augment_transform
from timm.data.random_erasing import RandomErasing

#: timm's operations that move pixels.
_MOVES = ('Rotate', 'ShearX', 'ShearY', 'TranslateXRel', 'TranslateYRel')


@TRANSFORMS.register_module()
class TimmRandAugment(BaseTransform):
    """Apply timm's RandAugment to a BGR image of 8 bits.

    Label maps can follow it, see :func:`volo.token_label.geometry.track`.

    Args:
        policy: Policy as in timm, such as ``'rand-m9-mstd0.5-inc1'``.
        fill: Color of uncovered pixels, RGB, from 0 to 255.
    """

    def __init__(self, policy: str, fill: Sequence[int] = (128, 128, 128)) -> None:
        self.policy = policy
        self.augment = rand_augment_transform(policy, dict(img_mean=tuple(fill)))
        self._moves: list[tuple[str, float]] = []
        for operation in self.augment.ops:
            if operation.name.startswith('Posterize'):
                operation.aug_fn = functools.partial(_posterize, operation.aug_fn)
            elif operation.name in _MOVES:
                operation.aug_fn = functools.partial(
                    self._record, operation.name, operation.aug_fn
                )

    def _record(
        self,
        name: str,
        move: Callable[..., Image.Image],
        image: Image.Image,
        value: float,
        **options: Any,
    ) -> Image.Image:
        self._moves.append((name, value))
        return move(image, value, **options)

    def transform(self, results: dict) -> dict:
        """Augment ``img``."""
        self._moves.clear()
        image = Image.fromarray(np.ascontiguousarray(results['img'][..., ::-1]))
        results['img'] = np.array(self.augment(image))[..., ::-1]
        return results

    def describe_geometry(self, height: int, width: int) -> np.ndarray:
        """Return the matrices of the moves of the last call, in order, (n, 3, 3)."""
        steps = [_step(*move, height / width) for move in self._moves]
        return np.array(steps).reshape(-1, 3, 3)

    def __repr__(self) -> str:
        return f'TimmRandAugment({self.policy!r})'


def _posterize(
    posterize: Callable[..., Image.Image], image: Image.Image, bits: int, **options: Any
) -> Image.Image:
    # timm draws 0 bits at the highest level, which new versions of Pillow refuse.
    return posterize(image, bits, **options) if bits else Image.new('RGB', image.size)


def _step(name: str, value: float, aspect: float) -> np.ndarray:
    """Return the matrix of a move, from fractions of its output to its input's.

    Args:
        name: One of ``_MOVES``.
        value: timm's argument: degrees, shear factor or fraction of the side.
        aspect: Height / width.
    """
    step = np.eye(3)
    if name == 'Rotate':
        sin, cos = math.sin(math.radians(value)), math.cos(math.radians(value))
        step[:2, :2] = [[cos, -sin * aspect], [sin / aspect, cos]]
        step[:2, 2] = 0.5 - step[:2, :2].sum(1) / 2
    elif name == 'ShearX':
        step[0, 1] = value * aspect
    elif name == 'ShearY':
        step[1, 0] = value / aspect
    else:
        step[0 if name == 'TranslateXRel' else 1, 2] = value
    return step


@TRANSFORMS.register_module()
class NormalizedErasing(BaseTransform):
    """Replace a random rectangle by noise that is standard normal after normalization.

    As in timm, which erases images after their normalization: the noise is not clipped
    to 0 to 255, and a rectangle that does not fit is drawn again. Erased images become
    float32, the others are not changed, so the collate function must accept images of
    different types, as mmengine's default ``pseudo_collate`` does.

    Args:
        erase_prob: Probability to erase.
        mean: Mean of the later normalization, in the image's order of channels.
        std: Standard deviation of the same.
    """

    moves_pixels = False

    def __init__(
        self, erase_prob: float, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        self.erase_prob = erase_prob
        self.mean = torch.tensor(mean).view(-1, 1, 1)
        self.std = torch.tensor(std).view(-1, 1, 1)
        self.erase = RandomErasing(1.0, mode='pixel', device='cpu')

    def transform(self, results: dict) -> dict:
        """Erase a part of ``img``."""
        if random.random() >= self.erase_prob:
            return results
        image = torch.from_numpy(results['img'].astype(np.float32)).permute(2, 0, 1)
        noise = self.erase(torch.full(image.shape, torch.nan))
        image = torch.where(noise.isnan(), image, noise * self.std + self.mean)
        results['img'] = image.permute(1, 2, 0).numpy()
        return results

    def __repr__(self) -> str:
        return f'NormalizedErasing({self.erase_prob})'
