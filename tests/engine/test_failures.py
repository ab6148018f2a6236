import pytest
from mmengine.config import Config

from volo.engine.launch import readable_errors
from volo.errors import ConfigError, DataError


def test_an_unknown_option_of_a_class_names_its_place():
    cfg = Config(dict(model=dict(type='M', backbone=dict(type='VOLO', dropp=1))))
    with (
        pytest.raises(ConfigError, match=r"model.backbone: VOLO has no option 'dropp'"),
        readable_errors(cfg),
    ):
        from volo.models import VOLO

        VOLO(dropp=1)


def test_an_unknown_type_is_named():
    from mmengine.registry import MODELS

    with (
        pytest.raises(ConfigError, match="unknown type 'VOLLO'"),
        readable_errors(Config()),
    ):
        MODELS.build(dict(type='VOLLO'))


def test_errors_of_the_code_are_left_alone():
    for error in (TypeError('unsupported operand'), KeyError('loss')):
        with pytest.raises(type(error)), readable_errors(Config()):
            raise error
    with pytest.raises(DataError, match='gone.png'), readable_errors(Config()):
        open('gone.png')
