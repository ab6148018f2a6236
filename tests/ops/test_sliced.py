import warnings

import onnx
import pytest
import torch
from torch import nn

from volo.ops import choose_backend, outlook_attention
from volo.ops.reference import reference_outlook_attention
from volo.ops.sliced import sliced_outlook_attention


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


@pytest.mark.parametrize('size', [(2, 6, 8), (1, 7, 5), (1, 5, 9)], ids=str)
@pytest.mark.parametrize('stride', [1, 2, 3])
@pytest.mark.parametrize('kernel_size', [3, 5])
def test_is_the_reference(size, kernel_size, stride):
    window = (kernel_size, stride, kernel_size // 2)
    inputs = *example(size, 2, 4, window), 2, window
    ours = run(sliced_outlook_attention, *inputs)
    torch.testing.assert_close(ours, run(reference_outlook_attention, *inputs))


@pytest.mark.parametrize(
    'window',
    [(3, 2, 0), (3, 2, 2), (2, 1, 1), (2, 3, 0), (5, 2, 1), (1, 4, 3)],
    ids=str,
)
def test_windows_that_are_not_centered(window):
    inputs = *example((2, 7, 6), 1, 4, window), 1, window
    ours = run(sliced_outlook_attention, *inputs)
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
    ours = run(sliced_outlook_attention, value, logits, 2, window)
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
    ours = run(sliced_outlook_attention, value, logits, 1, window)
    expected = run(reference_outlook_attention, value, logits, 1, window)
    torch.testing.assert_close(ours, expected)


def test_dropout_drops_weights():
    value, logits = torch.ones(1, 8, 8, 2), torch.zeros(1, 4, 4, 81)
    arguments = (value, logits, 1, 3, 2, 1, 1.0)
    assert sliced_outlook_attention(*arguments, dropout_p=1.0).sum() == 0
    dropped = sliced_outlook_attention(*arguments, dropout_p=0.9)
    assert not torch.allclose(dropped, sliced_outlook_attention(*arguments))


#: The backends of :class:`Attention`, in the order of the calls.
chosen: list[str] = []


class Attention(nn.Module):
    """Outlook attention whose logits are made of the values."""

    def __init__(self, kernel_size, stride):
        super().__init__()
        self.window = dict(
            kernel_size=kernel_size, stride=stride, padding=kernel_size // 2, scale=1.0
        )
        self.logits = nn.Linear(4, 2 * kernel_size**4)

    def forward(self, value):
        chosen.append(choose_backend(value, 0.0)[0])
        stride = self.window['stride']
        logits = self.logits(value[:, ::stride, ::stride])
        return outlook_attention(value, logits, num_heads=2, **self.window)


#: The last two are traced at the first, with another batch, height and width.
SIZES = [(2, 6, 8, 4), (1, 5, 9, 4), (3, 7, 4, 4)]


@pytest.mark.parametrize('kernel_size, stride', [(3, 2), (5, 2), (3, 3)])
def test_a_trace_takes_other_sizes(kernel_size, stride):
    module = Attention(kernel_size, stride)
    with warnings.catch_warnings(action='ignore'):  # shapes are checked while tracing
        traced = torch.jit.trace(module, torch.randn(SIZES[0]), check_trace=False)
    assert chosen[-1] == 'sliced'
    for size in SIZES:
        value = torch.randn(size)
        torch.testing.assert_close(traced(value), module(value))
    assert chosen[-1] == 'windows'


def test_an_export_takes_other_even_sizes():
    module = Attention(3, 2)
    dynamic = torch.export.Dim.DYNAMIC
    program = torch.export.export(
        module,
        (torch.randn(SIZES[0]),),
        dynamic_shapes=({0: dynamic, 1: dynamic, 2: dynamic},),
        strict=False,
    )
    assert chosen[-1] == 'sliced'
    targets = {str(node.target) for node in program.graph.nodes}
    assert not [t for t in targets if 'col2im' in t or 'im2col' in t or 'scatter' in t]
    for size in [(2, 6, 8, 4), (3, 8, 14, 4)]:
        value = torch.randn(size)
        torch.testing.assert_close(program.module()(value), module(value))


@pytest.mark.parametrize('dynamo', [False, True])
def test_operators_of_onnx(tmp_path, dynamo):
    module = Attention(3, 2)
    path = tmp_path / 'model.onnx'
    value = torch.randn(SIZES[0])
    with warnings.catch_warnings(action='ignore'):
        torch.onnx.export(module, (value,), path, dynamo=dynamo, verbose=False)
    assert chosen[-1] == 'sliced'
    operators = {node.op_type for node in onnx.load(path).graph.node}
    assert {'Slice', 'Pad', 'Softmax'} <= operators
    assert not operators & {'Col2Im', 'ScatterND', 'ScatterElements', 'ConvTranspose'}
