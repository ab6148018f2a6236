import pytest

from volo.errors import ConfigError
from volo.models import ARCHS, VOLO, VOLOHead, resolve_arch

PARAMETERS = dict(d1=26632040, d2=58678336, d3=86325072, d4=192961520, d5=295455584)


@pytest.mark.parametrize('arch', PARAMETERS)
def test_parameter_counts_are_the_published_ones(arch):
    parts = (VOLO(arch=arch), VOLOHead(arch=arch, num_classes=1000))
    count = sum(p.numel() for part in parts for p in part.parameters())
    assert count == PARAMETERS[arch]


def test_an_arch_is_a_name_or_a_mapping():
    assert resolve_arch('d1') is ARCHS['d1']
    ours = resolve_arch(
        dict(depths=[1, 1, 1, 1], embed_dims=[32, 64], num_heads=[1, 2])
    )
    assert ours.depths == (1, 1, 1, 1) and ours.stem_channels == 64


@pytest.mark.parametrize(
    'arch, message',
    [
        ('d6', 'unknown arch .d6.: VOLO has d1, d2'),
        ('tinny', 'Did you mean tiny'),
        (dict(depth=(1, 1, 1, 1)), 'unknown arch key depth'),
        (dict(embed_dims=(100, 384)), '100 cannot be split into num_heads 6'),
        (dict(depths=(1, 1)), 'depths needs four numbers'),
    ],
)
def test_a_wrong_arch_is_refused(arch, message):
    with pytest.raises(ConfigError, match=message):
        VOLO(arch=arch)
