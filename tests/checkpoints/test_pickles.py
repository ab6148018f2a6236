import io
import pickle

import pytest

from volo.checkpoints import pickles
from volo.checkpoints.pickles import Call, Node, parse
from volo.checkpoints.stand_ins import UnsafePickleError


def test_calls_are_parsed_and_not_made():
    class Evil:
        def __reduce__(self):
            return exec, ('raise SystemExit',)

    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        parsed = parse(io.BytesIO(pickle.dumps([Evil()], protocol)))

        (call,) = parsed.root.items
        assert isinstance(call, Call)
        assert (call.name, call.items) == ('builtins.exec', ['raise SystemExit'])


def test_several_pickles_in_a_stream():
    stream = io.BytesIO(pickle.dumps(1) + pickle.dumps([2], 2) + b'rest')

    first, second = parse(stream), parse(stream)

    assert first.root == 1 and second.root.items == [2] and second.protocol == 2
    assert stream.read() == b'rest'


@pytest.mark.parametrize(
    'data',
    [
        *(b'', b'N', b'.', b'0.', b'R.', b')R.', b'K\x01)R.', b'h\x05.', b't.', b'(t'),
        *(b']K\x01u.', b'}K\x01a.', b'K\x01N b.', b'X\xff\xff\xff\xffab.', b'\x81.'),
        *(b'N\x86.', b'K\x01s.', b'\x82\x01.', b'\x97.', b'NN\x93.', b'NQ.', b'\xff.'),
    ],
)
def test_damaged_pickles(data):
    with pytest.raises(Exception):  # noqa: B017, PT011 - of any type
        parse(io.BytesIO(data))


def test_number_of_instructions_is_limited(monkeypatch):
    monkeypatch.setattr(pickles, 'MAX_INSTRUCTIONS', 100)
    parse(io.BytesIO(b'N0' * 49 + b'N.'))

    with pytest.raises(UnsafePickleError, match='over 100 instructions'):
        parse(io.BytesIO(b'N0' * 51 + b'N.'))


def test_states_and_entries_belong_to_calls():
    data = b'\x80\x02ccollections\nOrderedDict\n)RK\x01K\x02s}X\x01\x00\x00\x00aNsb.'

    call = parse(io.BytesIO(data)).root

    assert call.entries == [1, 2]
    (state,) = call.states
    assert isinstance(state, Node) and state.items == ['a', None]
