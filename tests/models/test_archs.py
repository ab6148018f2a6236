import math

import pytest
import torch

from tests.synth_weights import DATA, manifest
from volo.errors import ConfigError
from volo.models import ARCHS, VOLO, VOLOHead, resolve_arch

PUBLISHED = [path.stem.removeprefix('volo_') for path in sorted(DATA.glob('*.json'))]


def test_the_table_has_every_published_arch():
    assert PUBLISHED == ['d1', 'd2', 'd3', 'd4', 'd5']
    assert set(PUBLISHED) < ARCHS.keys()


@pytest.mark.parametrize('arch', PUBLISHED)
def test_parameter_counts_are_the_published_ones(arch):
    with torch.device('meta'):
        parts = (VOLO(arch=arch), VOLOHead(arch=arch, num_classes=1000))
    expected = sum(
        math.prod(shape)
        for name, shape in manifest(arch).items()
        if not name.endswith(('running_mean', 'running_var', 'num_batches_tracked'))
    )
    assert sum(p.numel() for part in parts for p in part.parameters()) == expected


def test_an_arch_is_a_name_or_a_mapping():
    assert resolve_arch('d1') is ARCHS['d1']
    ours = resolve_arch(
        dict(depths=[1, 1, 1, 1], embed_dims=[32, 64], num_heads=[1, 2])
    )
    assert ours.depths == (1, 1, 1, 1) and ours.stem_channels == 64


@pytest.mark.parametrize(
    'arch, message',
    [
        ('d0', 'unknown arch .d0.: VOLO has d1, d2'),
        ('tinny', 'Did you mean tiny'),
        (dict(depth=(1, 1, 1, 1)), 'unknown arch key depth'),
        (dict(embed_dims=(100, 384)), '100 cannot be split into num_heads 6'),
        (dict(depths=(1, 1)), 'depths needs four numbers'),
        (dict(num_heads=(1, 1, 1)), 'num_heads need two numbers'),
    ],
)
def test_a_wrong_arch_is_refused(arch, message):
    with pytest.raises(ConfigError, match=message):
        VOLO(arch=arch)
