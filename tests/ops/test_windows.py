import pytest
import torch

from volo.ops.reference import reference_outlook_attention
from volo.ops.windows import row_softmax, window_outlook_attention


def example(size, heads, head_dim, window, dtype=torch.float64):
    kernel_size, stride, padding = window
    torch.manual_seed(0)
    grid = [(side + 2 * padding - kernel_size) // stride + 1 for side in size[1:]]
    value = torch.randn(*size, heads * head_dim, dtype=dtype)
    logits = torch.randn(size[0], *grid, heads * kernel_size**4, dtype=dtype)
    return value, 3 * head_dim**0.5 * logits


def run(function, value, logits, heads, window):
    """Return the output and both gradients."""
    value, logits = (t.detach().requires_grad_() for t in (value, logits))
    scale = (value.shape[-1] // heads) ** -0.5
    output = function(value, logits, heads, *window, scale)
    wave = torch.arange(output.numel()).sin().reshape(output.shape)
    return output, *torch.autograd.grad((output * wave).sum(), (value, logits))


@pytest.mark.parametrize(
    'size, heads, head_dim, window',
    [
        ((2, 6, 8), 2, 32, (3, 2, 1)),
        ((1, 5, 7), 3, 6, (3, 2, 1)),
        ((1, 5, 4), 1, 8, (3, 1, 1)),
        ((2, 7, 5), 2, 4, (5, 2, 2)),
        ((1, 4, 6), 1, 4, (5, 1, 2)),
        # The last row and column are in no window.
        ((1, 6, 4), 2, 3, (3, 2, 0)),
        # Pixels between the windows.
        ((1, 7, 5), 1, 4, (2, 3, 0)),
    ],
)
def test_is_the_reference(size, heads, head_dim, window):
    inputs = *example(size, heads, head_dim, window), heads, window
    ours = run(window_outlook_attention, *inputs)
    torch.testing.assert_close(ours, run(reference_outlook_attention, *inputs))


@pytest.mark.parametrize(
    'dtypes, rtol',
    [
        ((torch.float32, torch.float32), 1e-5),
        ((torch.bfloat16, torch.bfloat16), 2**-6),
        ((torch.bfloat16, torch.float32), 2**-6),
        ((torch.float16, torch.float16), 2**-9),
    ],
    ids=str,
)
def test_dtypes(dtypes, rtol):
    window = (3, 2, 1)
    value, logits = example((2, 5, 6), 2, 16, window, torch.float32)
    value, logits = value.to(dtypes[0]), logits.to(dtypes[1])
    ours = run(window_outlook_attention, value, logits, 2, window)
    assert [tensor.dtype for tensor in ours] == [dtypes[0], *dtypes]
    exact = run(reference_outlook_attention, value.double(), logits.double(), 2, window)
    for tensor, expected in zip(ours, exact, strict=True):
        torch.testing.assert_close(
            tensor.double(), expected, rtol=rtol, atol=rtol * expected.max().item()
        )


def test_takes_views():
    window = (3, 2, 1)
    value, logits = example((2, 4, 4), 1, 16, window)
    value = torch.cat([value, value], dim=-1)[..., :16]
    logits = logits.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)
    assert not value.is_contiguous() and not logits.is_contiguous()
    ours = run(window_outlook_attention, value, logits, 1, window)
    expected = run(reference_outlook_attention, value, logits, 1, window)
    torch.testing.assert_close(ours, expected)


def test_gradients_are_those_of_the_function():
    value, logits = example((1, 4, 5), 1, 2, (3, 2, 1))
    assert torch.autograd.gradcheck(
        lambda v, a: window_outlook_attention(v, a, 1, 3, 2, 1, 0.7),
        (value.requires_grad_(), logits.requires_grad_()),
    )


def test_one_input_may_need_no_gradient():
    value, logits = example((1, 4, 4), 1, 2, (3, 2, 1))
    for tensor in (value, logits):
        tensor.requires_grad_()
        window_outlook_attention(value, logits, 1, 3, 2, 1, 1.0).sum().backward()
        assert tensor.grad is not None
        tensor.requires_grad_(False)


def test_keeps_values_and_weights_alone_for_the_backward_pass():
    value, logits = example((1, 8, 8), 2, 4, (3, 2, 1))
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: kept.append(t.numel()) or t, lambda t: t
    ):
        window_outlook_attention(value.requires_grad_(), logits, 2, 3, 2, 1, 1.0)
    assert kept == [value.numel(), logits.numel()]


def test_softmax_of_short_rows():
    logits = torch.tensor([[1e4, 0.0, -1e4], [-1e4, -1e4, -1e4]])
    torch.testing.assert_close(row_softmax(logits), logits.softmax(-1))


def test_stays_in_one_graph():
    window = (3, 2, 1)
    inputs = *example((1, 4, 4), 1, 4, window), 1, window
    compiled = torch.compile(
        window_outlook_attention, fullgraph=True, backend='aot_eager'
    )
    torch.testing.assert_close(
        run(compiled, *inputs), run(window_outlook_attention, *inputs)
    )
