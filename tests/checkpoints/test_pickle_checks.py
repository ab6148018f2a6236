import io

import pytest
import torch

from volo.checkpoints import pickle_checks
from volo.checkpoints.pickle_checks import check
from volo.checkpoints.pickles import MAX_DEPTH, parse
from volo.checkpoints.stand_ins import UnsafePickleError


def assert_refused(data, reason):
    with pytest.raises(UnsafePickleError, match=reason):
        check(parse(io.BytesIO(b'\x80\x02' + data + b'.')))


def call(name, *arguments, state=b''):
    """Return instructions that call a name, such as 'builtins set'."""
    name = b'c' + name.replace(' ', '\n').encode() + b'\n'
    return name + b'(' + b''.join(arguments) + b'tR' + (state and state + b'b')


def text(value):
    return b'X' + len(value).to_bytes(4, 'little') + value.encode()


def doubled(times, instruction=b'\x86'):
    """Return instructions for a tuple or list that contains the last one twice."""
    if instruction == b'\x86':
        return b'Nq\x000' + b'h\x00h\x00\x86q\x000' * times + b'h\x00'
    return b']q\x000' + b'](h\x00h\x00eq\x000' * times + b'h\x00'


SLOW_KEY = doubled(60)


@pytest.mark.parametrize(
    'data',
    [
        b'}' + SLOW_KEY + b'Ns',
        b'}(' + SLOW_KEY + b'Nu',
        call('builtins set', b'](' + SLOW_KEY + b'e'),
        call('builtins frozenset', b'(' + SLOW_KEY + b't'),
        call('collections Counter', b'](' + SLOW_KEY + b'e'),
        call('collections OrderedDict', b'](](' + SLOW_KEY + b'Nee'),
        call('collections OrderedDict') + SLOW_KEY + b'Ns',
        # All multiples of this number have the same hash.
        b'}\x8a\x20' + (5 * (2**61 - 1) ** 3).to_bytes(32, 'little') + b'Ns',
        # Not part of the result.
        b'}' + SLOW_KEY + b'Ns(N',
    ],
)
def test_keys_that_take_long_to_hash(data):
    assert_refused(data, 'a key that is too large')


def test_keys_of_a_few_elements_are_fine():
    check(parse(io.BytesIO(b'}' + doubled(4) + b'Ns.')))


@pytest.mark.parametrize('instruction', [b'\x86', b']'])
def test_shared_containers_count_each_time(instruction):
    assert_refused(doubled(60, instruction), r'elements, nested 60|nested 61')


@pytest.mark.parametrize(
    'data',
    [
        b')' + b'\x85' * 200_000,
        b']' * 200_000 + b'a' * 199_999,
        b']q\x00'
        + b']q\x01ah\x01' * 200_000
        + b'h\x00',  # each is appended when it is empty
        b'}' + b'K\x01}' * 200_000 + b's' * 200_000,
        b']q\x00h\x00a',  # contains itself
        b']q\x00h\x00\x85a',
        b'N' + b'q\x000cbuiltins\nslice\nh\x00\x85R' * 200,
    ],
)
def test_depth_is_limited(data):
    assert_refused(data, 'nested more than 100 times')


@pytest.mark.parametrize(
    'name',
    [
        *('posix system', 'builtins eval', 'builtins type', 'builtins object'),
        *(
            'torch load',
            'torch hub',
            'torch.hub load',
            'torch.storage _load_from_bytes',
        ),
        *(
            'torch._utils _rebuild_wrapper_subclass',
            'torch._utils _rebuild_nested_tensor',
        ),
        *('numpy.core.multiarray fromfile', 'absent_library function', '__main__ Evil'),
    ],
)
def test_unknown_names_are_refused(name):
    full = name.replace(' ', r'\.')
    assert_refused(f'c{name}\n'.replace(' ', '\n').encode(), f'run or import {full},')
    assert_refused(call(name, b'K\x01', b'K\x01'), f'run or import {full},')
    assert_refused(call(name, state=b'}'), f'run or import {full},')


def test_all_unknown_names_are_listed():
    assert_refused(b'ca\nb\ncc\nd\n\x86', r'import a\.b, c\.d, which')


@pytest.mark.parametrize(
    'data',
    [
        call('torch FloatStorage', b'K\x01'),
        call('torch float32'),
        call('torch Tensor', b'K\x01'),
        call('builtins list'),
        call('builtins bytearray', b'K\x01'),
        call('builtins bytearray', text('a'), text('punycode')),
        call('_codecs encode', text('a'), text('punycode')),
        call('_codecs encode', b'K\x01', text('latin1')),
        call('collections OrderedDict', state=b'}' + text('__array__') + b'Ns'),
        call('collections OrderedDict', state=b'}' + text('a') + b'\x85Ns'),
        call('collections OrderedDict', state=b'](' + text('__class__') + b'N\x86e'),
        call('collections OrderedDict', state=b'N}' + text('__class__') + b'Ns\x86'),
        call('collections OrderedDict', state=call('collections OrderedDict')),
        call('argparse Namespace', state=b'}' + text('__class__') + b'Ns'),
        call('torch._utils _rebuild_tensor', state=b'K\x01\x85'),
        call('torch._utils _rebuild_tensor') + b'K\x01K\x01s',
        call('torch._utils _rebuild_parameter_with_state', b'NNN', b'](NNe'),
        call(
            'torch._tensor _rebuild_from_type_v2',
            b'ctorch\nSize\nctorch\nTensor\n)N',
        ),
    ],
)
def test_known_calls_with_other_arguments_are_refused(data):
    assert_refused(data, r'passes something to [\w.]+ that is not plain data')


@pytest.mark.parametrize(
    'pid',
    [
        b'K\x01\x85',
        b'(' + text('module') + b'ctorch\nFloatStorage\n' + text('0') * 2 + b'K\x01t',
        b'(' + text('storage') + b'ctorch\nTensor\n' + text('0') * 2 + b'K\x01t',
        b'('
        + text('storage')
        + b'ctorch\nFloatStorage\n'
        + text('0') * 2
        + b'J\xff\xff\xff\xfft',
    ],
)
def test_references_to_something_else_are_refused(pid):
    assert_refused(pid + b'Q', 'refers to something that is not a storage')


def test_limits_are_far_from_real_checkpoints(tmp_path):
    model = torch.nn.Sequential(*(torch.nn.Linear(2, 2) for _ in range(100)))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    content = dict(state_dict=model.state_dict(), optimizer=optimizer.state_dict())
    torch.save(content, tmp_path / 'x.pth')
    data = torch._C.PyTorchFileReader(str(tmp_path / 'x.pth')).get_record('data.pkl')

    parsed = parse(io.BytesIO(data))
    check(parsed)

    depth, elements = pickle_checks._measure(parsed.root, 0, {})
    assert depth < MAX_DEPTH / 5
    assert elements < pickle_checks.MAX_ELEMENTS / 500
