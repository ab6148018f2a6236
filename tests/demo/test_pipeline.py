import pytest

from demo.pipeline import DemoOptions, DemoResults
from volo.errors import ConfigError


@pytest.mark.parametrize(
    'metrics, missed',
    [
        ((90, 70, 40), []),
        ((80, 70, 40), ['top-1 80.0']),
        ((90, 50, 40), ['mIoU 50.0']),
        ((90, 70, 69), ['pretraining gains 1.0']),
        ((80, 50, 49), ['top-1', 'mIoU', 'pretraining gains']),
    ],
)
def test_missed_bars_are_named(metrics, missed):
    found = DemoResults(*metrics).shortcomings()
    assert len(found) == len(missed)
    assert all(
        text.startswith(start) for text, start in zip(found, missed, strict=True)
    )


def test_lengths_below_one_are_refused():
    with pytest.raises(ConfigError, match='epochs must be at least 1'):
        DemoOptions(epochs=0)
