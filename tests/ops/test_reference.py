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
