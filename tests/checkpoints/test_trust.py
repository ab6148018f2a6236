import pytest

from volo.checkpoints.trust import TRUST_VARIABLE, is_trusted


def test_nobody_is_trusted_unasked(monkeypatch):
    monkeypatch.delenv(TRUST_VARIABLE, raising=False)
    assert not is_trusted()


@pytest.mark.parametrize('value', ['1', '0', '', 'true', 'yes', '01', ' 1', '11'])
def test_only_1_is_trust(monkeypatch, value):
    monkeypatch.setenv('VOLO_TRUST_CHECKPOINTS', value)
    assert is_trusted() is (value == '1')
