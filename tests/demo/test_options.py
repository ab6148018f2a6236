import pytest

from demo.options import DemoOptions
from volo.errors import ConfigError


def test_lengths_below_one_are_refused():
    with pytest.raises(ConfigError, match='epochs must be at least 1'):
        DemoOptions(epochs=0)
