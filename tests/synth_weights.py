"""Synthetic weights and images, computed from names, shapes and seeds alone.

The numbers in ``tests/data/volo_d1_*.npz`` were computed from exactly these, so the
formulas must not change.
"""

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

DATA = Path(__file__).parent / 'data'


def manifest(arch: str) -> dict[str, list[int]]:
    """Return names and shapes of the checkpoint that the authors released."""
    return json.loads((DATA / f'volo_{arch}.json').read_text())


def synth_array(name: str, shape: Sequence[int], salt: int = 0) -> np.ndarray:
    """Compute the array that stands in for the weight of this name."""
    rng = np.random.RandomState((zlib.crc32(name.encode()) + salt) % 2**32)
    if name.endswith('num_batches_tracked'):
        return np.zeros(shape, np.int64)
    if name.endswith('running_var'):
        return np.asarray(0.5 + rng.rand(*shape), np.float32)
    noise = rng.randn(*shape)
    if len(shape) == 1:
        mean = float(name.endswith('weight'))
        return np.asarray(mean + 0.1 * noise, np.float32)
    if name in ('pos_embed', 'cls_token'):
        return np.asarray(0.2 * noise, np.float32)
    return np.asarray(noise / np.sqrt(np.prod(shape[1:])), np.float32)


def synth_state_dict(
    shapes: Mapping[str, Sequence[int]], salt: int = 0
) -> dict[str, torch.Tensor]:
    """Compute all weights of a manifest."""
    return {
        name: torch.from_numpy(synth_array(name, shape, salt))
        for name, shape in shapes.items()
    }


def synth_images(batch: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    """Compute images of unit noise, shape (batch, 3, height, width)."""
    noise = np.random.RandomState(seed).randn(batch, 3, height, width)
    return torch.from_numpy(noise.astype(np.float32))
