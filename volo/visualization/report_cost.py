"""Count the arithmetic of a model."""

import copy
import os
from typing import Any
from unittest import mock

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from volo.ops.backends import VARIABLE


@torch.no_grad()
def count_gmac(model: Any, batch: dict) -> tuple[float, tuple[int, ...]]:
    """Count the multiply-adds of a prediction in matrix products and convolutions.

    Slide inference counts every window.

    Args:
        model: A model of mmpretrain or mmseg. Its parameters need no gradient
            afterwards.
        batch: Of the dataloader; its first sample is used.

    Returns:
        The count in 10^9, and height and width of the input in pixels.
    """
    # The counter asks for gradient functions of parameters that need gradients.
    model.eval().requires_grad_(False)
    first: dict[str, Any] = {key: copy.deepcopy(batch[key][:1]) for key in batch}
    data = model.data_preprocessor(first, False)
    # The counter does not know fused kernels.
    plain = mock.patch.dict(os.environ, {VARIABLE: 'reference'})
    with plain, sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(**data, mode='predict')
    return counter.get_total_flops() / 2e9, tuple(data['inputs'].shape[-2:])
