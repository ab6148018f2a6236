import pytest
import torch
from torch import nn

from volo.engine import BFloat16OptimWrapper


@pytest.mark.parametrize('accumulative_counts', [1, 2])
def test_the_forward_pass_is_in_bfloat16_and_the_weights_are_not(accumulative_counts):
    model = nn.Linear(2, 3)
    before = model.weight.clone()
    wrapper = BFloat16OptimWrapper(
        torch.optim.SGD(model.parameters(), lr=0.1),
        accumulative_counts=accumulative_counts,
    )
    wrapper.initialize_count_status(model, 0, 2)
    for _ in range(2):
        with wrapper.optim_context(model):
            output = model(torch.ones(1, 2))
        assert output.dtype == torch.bfloat16
        wrapper.update_params(output.float().sum())
    assert model.weight.dtype == torch.float32
    assert not torch.equal(model.weight, before)
