import pytest
import torch

from benchmarks import attention
from benchmarks.attention import PASSES, make_call, make_tensors, measure_attention
from volo.errors import ConfigError
from volo.ops import outlook_attention
from volo.ops.backends import BACKENDS

SMALL = dict(
    arch='tiny',
    img_size=32,
    batch_size=2,
    dtype='float32',
    device='cpu',
    repeats=1,
    calls=1,
)


def test_tensors_have_the_shapes_of_the_first_stage():
    tensors = make_tensors('d1', 224, 2, 'bf16', 'cpu')
    assert tensors.value.shape == tensors.grad.shape == (2, 28, 28, 192)
    assert tensors.logits.shape == (2, 14, 14, 6 * 81)
    assert tensors.value.dtype == tensors.logits.dtype == torch.bfloat16
    output = outlook_attention(tensors.value, tensors.logits, **tensors.window)
    assert output.shape == tensors.value.shape


def test_moved_bytes():
    tensors = make_tensors('d1', 224, 2, 'bf16', 'cpu')
    value, logits = 2 * (2 * 28 * 28 * 192), 2 * (2 * 14 * 14 * 486)
    # Forward reads value and logits and writes the output.
    assert tensors.moved_bytes('forward') == 2 * value + logits
    # Backward reads value, logits, gradient and writes two gradients.
    both = (2 * value + logits) + (2 * value + logits) + (value + logits)
    assert tensors.moved_bytes('forward+backward') == both


@pytest.mark.parametrize('what', attention.PASSES)
def test_inputs_require_gradients_in_the_backward_pass_alone(what):
    seen = []

    def backend(value, logits, **window):
        seen.append((value.requires_grad, torch.is_inference_mode_enabled()))
        return outlook_attention(value, logits, **window)

    tensors = make_tensors('tiny', 32, 1, 'float32', 'cpu')
    make_call(backend, what, tensors, 'float32', 'cpu')()
    backward = what != 'forward'
    assert seen == [(backward, not backward)]


def test_all_backends_and_the_copy_take_turns(monkeypatch):
    functions = []

    def turns(steps, repeats, calls):
        functions.extend(steps)
        times = dict.fromkeys(steps, [4.0, 8.0])
        # A copy of 48 bytes reads and writes 96 bytes, in 1 s and in 2 s.
        return {**times, ('windows', 'forward'): [2.0, 2.0], 'copy': [1.0, 2.0]}

    monkeypatch.setattr(attention, 'COPY_BYTES', dict(cpu=48))
    monkeypatch.setattr(attention, 'turn_seconds', turns)
    report = measure_attention([], **SMALL)
    rows = {row['name']: row for row in report.rows}
    on_cpu = [name for name in BACKENDS if name != 'fused']
    assert on_cpu[:2] == ['reference', 'windows']
    assert functions == [*((name, what) for what in PASSES for name in on_cpu), 'copy']
    new = rows['windows forward']
    assert [new[key] for key in ('ratio', 'ratio_low', 'ratio_high')] == [3, 2, 4]
    moved = make_tensors('tiny', 32, 2, 'float32', 'cpu').moved_bytes('forward')
    assert new['moved_mb'] == moved / 1e6
    assert new['copy_milliseconds'] == pytest.approx(1e3 * moved * 1.5 / 96)
    # 2 s, against moved / 96 s and 2 * moved / 96 s.
    assert new['times_copy'] == pytest.approx((2 + 1) / 2 * 96 / moved)
    assert rows['reference forward+backward']['milliseconds'] == 6000
    assert rows['windows forward+backward']['ratio'] == 1


def test_report_of_a_real_run(monkeypatch):
    monkeypatch.setattr(attention, 'COPY_BYTES', dict(cpu=2**20))
    report = measure_attention(['reference'], **{**SMALL, 'dtype': 'bf16'})
    assert [row['passes'] for row in report.rows] == list(attention.PASSES)
    assert all(row['times_copy'] > 0 and row['peak_mb'] > 0 for row in report.rows)
    assert len(report.cells()) == 2


def test_impossible_options_are_refused():
    with pytest.raises(ConfigError, match='multiple of 16'):
        measure_attention(['reference'], **{**SMALL, 'img_size': 40})
    with pytest.raises(ConfigError, match='fused runs on GPUs'):
        measure_attention(['fused'], **SMALL)
    with pytest.raises(ConfigError, match='fp16'):
        measure_attention(['reference'], **{**SMALL, 'dtype': 'fp16'})
