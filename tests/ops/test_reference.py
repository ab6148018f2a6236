import contextlib

import pytest
import torch

from volo.ops.reference import reference_outlook_attention


def test_gradients_are_those_of_the_function():
    torch.manual_seed(0)
    value = torch.randn(1, 4, 5, 2, dtype=torch.float64, requires_grad=True)
    logits = torch.randn(1, 2, 3, 81, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda v, a: reference_outlook_attention(v, a, 1, 3, 2, 1, 0.7),
        (value, logits),
    )


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('amp', [True, False])
def test_softmax_is_in_float32(dtype, amp):
    torch.manual_seed(0)
    value = torch.randn(1, 4, 4, 2)
    logits = (100 + 10 * torch.randn(1, 2, 2, 81)).to(dtype)
    window = (1, 3, 2, 1, 0.7)
    context = torch.autocast('cpu', dtype) if amp else contextlib.nullcontext()
    with context:
        ours = reference_outlook_attention(value.to(dtype), logits, *window)
    exact = reference_outlook_attention(
        value.to(dtype).double(), logits.double(), *window
    )
    # Rounding of the weights and of the result, and no more.
    tolerance = 2 * torch.finfo(dtype).eps
    torch.testing.assert_close(ours.double(), exact, rtol=tolerance, atol=tolerance)
