import pytest
import torch
from mmpretrain.structures import DataSample
from torch.utils.flop_counter import FlopCounterMode

from tests.classifier import build
from volo.visualization.report_cost import count_gmac


def test_counts_one_image_of_a_batch():
    model = build()
    batch = dict(
        inputs=[torch.zeros(3, 64, 64, dtype=torch.uint8)] * 3,
        data_samples=[DataSample() for _ in range(3)],
    )
    gmac, size = count_gmac(model, batch)
    assert size == (64, 64)
    with FlopCounterMode(display=False) as counter:
        model.head(model.backbone(torch.rand(1, 3, 64, 64)))
    # At least this; fused attention may be missing in it.
    assert gmac >= counter.get_total_flops() / 2e9
    assert gmac == pytest.approx(counter.get_total_flops() / 2e9, rel=0.2)
    assert 'pred_score' not in batch['data_samples'][0]
