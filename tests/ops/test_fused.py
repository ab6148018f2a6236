"""On a GPU if there is one, else on the CPU under Triton's interpreter."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch

from volo.ops.reference import reference_outlook_attention

triton = pytest.importorskip('triton', reason='the kernels are in Triton')
DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'

with pytest.MonkeyPatch.context() as patch:
    # Triton reads it when a kernel is defined, and only then is it needed.
    if DEVICE == 'cpu':
        patch.setenv('TRITON_INTERPRET', '1')
    from volo.ops.fused import fused_outlook_attention
    from volo.ops.fused_kernels import forward_kernel

if DEVICE == 'cpu' and isinstance(forward_kernel, triton.JITFunction):
    pytest.skip('volo.ops.fused was imported for a GPU', allow_module_level=True)


@pytest.fixture(autouse=True)
def interpreter(monkeypatch):
    """Work around two limits of Triton's interpreter."""
    if DEVICE == 'cuda':
        return
    from triton.runtime.interpreter import InterpretedFunction, InterpreterBuilder

    # Triton's own functions are compiled for a GPU if Triton was imported without the
    # variable, as torch.compile does.
    monkeypatch.setenv('TRITON_INTERPRET', '1')
    for name in ('sum', 'max'):
        function = getattr(triton.language, name)
        if isinstance(function, triton.JITFunction):
            interpreted = InterpretedFunction(function.fn)
            monkeypatch.setattr(triton.language, name, interpreted)

    # It multiplies the bits of bfloat16 as integers.
    create_dot = InterpreterBuilder.create_dot

    def widened(handle):
        if handle.dtype == triton.language.bfloat16:
            data = (handle.data.astype(np.uint32) << 16).view(np.float32)
            return type(handle)(data, triton.language.float32)
        return handle

    monkeypatch.setattr(
        InterpreterBuilder,
        'create_dot',
        lambda self, a, b, *rest: create_dot(self, widened(a), widened(b), *rest),
    )


def example(size, heads, head_dim, window, dtypes=(torch.float32, torch.float32)):
    """Return random values, logits and gradients of the output; batch size first."""
    torch.manual_seed(0)
    grid = [
        (side + 2 * window['padding'] - window['kernel_size']) // window['stride'] + 1
        for side in size[1:]
    ]
    value = torch.randn(*size, heads * head_dim, device=DEVICE).to(dtypes[0])
    logits = torch.randn(
        size[0], *grid, heads * window['kernel_size'] ** 4, device=DEVICE
    )
    # Weights of all sizes: the reference scales the logits down.
    logits = (3 * head_dim**0.5 * logits).to(dtypes[1])
    return value, logits, torch.randn_like(value)


def run(function, value, logits, grad_output):
    """Return the output and both gradients."""
    value = value.detach().requires_grad_()
    logits = logits.detach().requires_grad_()
    output = function(value, logits)
    return output, *torch.autograd.grad(output, (value, logits), grad_output)


def both(value, logits, grad_output, heads, window):
    """Run the fused backend, and the reference in float32."""
    scale = (value.shape[-1] // heads) ** -0.5
    options = dict(window, num_heads=heads, scale=scale)
    fused = run(
        lambda v, a: fused_outlook_attention(v, a, **options),
        value,
        logits,
        grad_output,
    )
    plain = run(
        lambda v, a: reference_outlook_attention(v, a, **options),
        *(tensor.float() for tensor in (value, logits, grad_output)),
    )
    return fused, plain


def window_of(kernel_size, stride, padding):
    return dict(kernel_size=kernel_size, stride=stride, padding=padding)


@pytest.mark.parametrize(
    'size, heads, head_dim, window',
    [
        # More than one program, and a program over two images.
        ((2, 5, 6), 2, 32, (3, 2, 1)),
        ((1, 4, 5), 1, 6, (3, 1, 1)),
        ((1, 5, 3), 1, 16, (5, 2, 2)),
        ((1, 3, 4), 1, 16, (5, 1, 2)),
        # The last row and column are in no window.
        ((1, 6, 4), 1, 20, (3, 2, 0)),
        # Pixels between the windows.
        ((1, 7, 5), 1, 16, (2, 3, 0)),
    ],
)
def test_is_the_reference(size, heads, head_dim, window):
    window = window_of(*window)
    fused, plain = both(*example(size, heads, head_dim, window), heads, window)
    torch.testing.assert_close(fused, plain, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    'dtypes, rtol',
    [
        ((torch.bfloat16, torch.bfloat16), 2**-7),
        ((torch.bfloat16, torch.float32), 2**-7),
        ((torch.float16, torch.float16), 2**-10),
    ],
    ids=str,
)
def test_rounds_its_results_only(dtypes, rtol):
    window = window_of(3, 2, 1)
    inputs = example((1, 4, 3), 1, 32, window, dtypes)
    fused, plain = both(*inputs, 1, window)
    assert [tensor.dtype for tensor in fused] == [dtypes[0], *dtypes]
    for ours, expected in zip(fused, plain, strict=True):
        torch.testing.assert_close(ours.float(), expected, atol=1e-4, rtol=rtol)


def test_takes_views():
    window = window_of(3, 2, 1)
    value, logits, _ = example((2, 4, 4), 1, 16, window)
    value = torch.cat([value, value], dim=-1)[..., :16]
    logits = logits.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)
    grad_output = torch.randn(4, 4, 1, 1, device=DEVICE).expand(4, 4, 2, 16)
    grad_output = grad_output.permute(2, 1, 0, 3)
    assert not any(t.is_contiguous() for t in (value, logits, grad_output))
    fused, plain = both(value, logits, grad_output, 1, window)
    torch.testing.assert_close(fused, plain, atol=1e-5, rtol=1e-5)


def test_is_a_proper_operator():
    window = window_of(2, 2, 0)
    value, logits, _ = example((1, 4, 2), 1, 16, window)
    torch.library.opcheck(
        torch.ops.volo.fused_outlook_attention.default,
        (value.requires_grad_(), logits.requires_grad_(), 1, *window.values(), 0.25),
    )


def test_stays_in_one_graph():
    window = window_of(2, 2, 0)
    value, logits, grad_output = example((1, 4, 2), 1, 16, window)

    def double(value, logits):
        return 2 * fused_outlook_attention(value, 2 * logits, 1, 2, 2, 0, 0.25)

    compiled = torch.compile(double, fullgraph=True, backend='aot_eager')
    torch.testing.assert_close(
        run(compiled, value, logits, grad_output),
        run(double, value, logits, grad_output),
    )


COMPILE = """
import subprocess
from pathlib import Path

import torch
import triton
from triton.backends.compiler import GPUTarget

from volo.ops import fused_kernels
from volo.ops.fused import _launch_parameters

value = torch.empty(1, 1, 1, 192, dtype=torch.bfloat16)
cells, windows = _launch_parameters(value, 6, 3)
types = dict.fromkeys(['value', 'logits', 'output'], '*bf16')
types |= {f'grad_{name}': kind for name, kind in types.items()}
types |= dict(log_sums='*fp32', scale='fp32')
for name in 'forward', 'grad_logits', 'grad_value':
    kernel = getattr(fused_kernels, f'{name}_kernel')
    blocks = windows if 'WINDOWS' in kernel.arg_names else cells
    constants = dict(blocks, K=3, STRIDE=2, PADDING=1, D=32)
    warps = constants.pop('num_warps')
    signature = {
        argument: 'constexpr' if argument in constants else types.get(argument, 'i32')
        for argument in kernel.arg_names
    }
    # Tensors begin at 16 bytes, which Triton sees at a launch.
    aligned = {
        (place,): [['tt.divisibility', 16]]
        for place, argument in enumerate(signature)
        if signature[argument].startswith('*')
    }
    source = triton.compiler.ASTSource(kernel, signature, constants, aligned)
    compiled = triton.compile(
        source, target=GPUTarget('cuda', 90, 32), options=dict(num_warps=warps)
    )
    cubin = Path(f'{name}.cubin')
    cubin.write_bytes(compiled.asm['cubin'])
    tool = triton.knobs.nvidia.cuobjdump.path
    print(subprocess.check_output([tool, '-res-usage', cubin], text=True))
"""


@pytest.mark.slow
def test_compiles_for_a_gpu_without_spilling(tmp_path):
    environment = dict(os.environ, TRITON_CACHE_DIR=str(tmp_path / 'cache'))
    environment['PYTHONPATH'] = os.getcwd()
    environment.pop('TRITON_INTERPRET', None)
    done = subprocess.run(
        [sys.executable, '-c', COMPILE],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    # Registers that do not fit go to the stack.
    assert re.findall(r'STACK:(\d+)', done.stdout) == ['0', '0', '0']
