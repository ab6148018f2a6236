import pytest
import torch

from volo.models import soft_cross_entropy
from volo.token_label import SoftTargets

NUM_CLASSES = 50


def logits_and_targets(shape=(6, 40), dtype=torch.float32, scale=3.0):
    torch.manual_seed(0)
    logits = (scale * torch.randn(*shape, NUM_CLASSES)).to(dtype).requires_grad_()
    classes = torch.randint(0, NUM_CLASSES, (*shape, 9))  # some twice
    return logits, SoftTargets(torch.rand(shape), classes, torch.randn(*shape, 9))


def dense_cross_entropy(logits, targets):
    dense = targets.to_dense(NUM_CLASSES)
    return -(dense * torch.log_softmax(logits.float(), dim=-1)).sum(-1)


@pytest.mark.parametrize('shape', [(5,), (6, 40), (3, 1100)])
@pytest.mark.parametrize('scale', [3.0, 300.0])
def test_loss_and_gradient_equal_dense_ones(shape, scale):
    logits, targets = logits_and_targets(shape, scale=scale)
    weights = torch.rand(shape)
    losses = soft_cross_entropy(logits, targets)
    expected = dense_cross_entropy(logits, targets)
    torch.testing.assert_close(losses, expected, rtol=1e-5, atol=1e-5 * scale)
    gradient, reference = (
        torch.autograd.grad((weights * loss).sum(), logits)[0]
        for loss in (losses, expected)
    )
    torch.testing.assert_close(gradient, reference, rtol=1e-4, atol=1e-5)


def test_half_precision_logits_keep_a_float32_loss():
    logits, targets = logits_and_targets(dtype=torch.bfloat16)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        losses = soft_cross_entropy(logits, targets)
    assert losses.dtype == torch.float32
    expected = dense_cross_entropy(logits, targets)
    torch.testing.assert_close(losses, expected, rtol=1e-5, atol=1e-4)
    gradient, reference = (
        torch.autograd.grad(loss.mean(), logits)[0] for loss in (losses, expected)
    )
    assert gradient.dtype == torch.bfloat16
    torch.testing.assert_close(gradient, reference)


@pytest.mark.slow
def test_compiles_without_a_break():
    compiled = torch.compile(soft_cross_entropy, fullgraph=True, backend='aot_eager')
    logits, targets = logits_and_targets()
    gradients = []
    for function in (compiled, soft_cross_entropy):
        function(logits, targets).sum().backward()
        gradients.append(logits.grad)
        logits.grad = None
    torch.testing.assert_close(*gradients)
    torch.testing.assert_close(
        compiled(logits, targets), soft_cross_entropy(logits, targets)
    )
