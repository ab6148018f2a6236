import functools

import pytest
import torch

from benchmarks import token_loss
from benchmarks.token_loss import make_step, measure_token_loss


@pytest.fixture
def losses(monkeypatch):
    """Record the logits and losses of all steps, by the name of the loss."""
    found = {}
    for name in ('soft_cross_entropy', 'dense_cross_entropy'):
        listen = functools.partial(remember, found, name, getattr(token_loss, name))
        monkeypatch.setattr(token_loss, name, listen)
    return found


def remember(found, name, function, logits, targets):
    loss = function(logits, targets)
    found.setdefault(name, []).append((logits, loss))
    return loss


def test_dense_and_sparse_have_the_same_loss(losses):
    for kind in ('dense', 'sparse'):
        make_step(kind, batch_size=2, num_classes=30, device='cpu')()
    sparse, dense = losses['soft_cross_entropy'], losses['dense_cross_entropy']
    assert [tuple(loss.shape) for _, loss in sparse] == [(2, 1), (2, 196)]
    for (logits, loss), (others, expected) in zip(sparse, dense, strict=True):
        assert torch.equal(logits, others)
        torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('kind', ['dense', 'sparse'])
def test_steps_repeat_and_clear_the_gradient(losses, kind):
    step = make_step(kind, batch_size=1, num_classes=9, device='cpu')
    ran = []
    for _ in range(2):
        step()
        (found,) = losses.values()
        assert all(logits.requires_grad and logits.grad is None for logits, _ in found)
        ran.append([loss.detach().clone() for _, loss in found])
        found.clear()
    assert all(torch.equal(a, b) for a, b in zip(*ran, strict=True))


def test_sparse_needs_fewer_bytes():
    found = measure_token_loss(2, num_classes=1000, repeats=1, device='cpu')
    assert list(found) == ['dense', 'sparse']
    gradients = 2 * (1 + 196) * 1000 * 4
    assert gradients <= found['sparse'][1] < found['dense'][1] / 2
