import pytest

from volo import paths
from volo.errors import ConfigError


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An empty stand-in for the installed package, in a checkout of its own."""
    package = tmp_path / 'checkout' / 'volo'
    package.mkdir(parents=True)
    monkeypatch.setattr(paths, '_PACKAGE', package)
    return package


def add_configs(root, *names):
    (root / 'configs' / '_base_').mkdir(parents=True)
    (root / 'configs' / '_base_' / 'default_runtime.py').touch()
    for name in names:
        (root / 'configs' / name).touch()


def test_this_install_has_configs():
    assert (paths.package_data_root() / 'configs').is_dir()


def test_checkout_is_the_root_of_an_editable_install(package):
    add_configs(package.parent)

    assert paths.package_data_root() == package.parent


def test_wheel_wins_over_the_folder_around_it(package):
    add_configs(package.parent)
    add_configs(package / '.mim')

    assert paths.package_data_root() == package / '.mim'


def test_missing_configs_name_both_places_and_the_way_out(package):
    with pytest.raises(ConfigError) as error:
        paths.package_data_root()

    message = str(error.value)
    assert str(package / '.mim') in message
    assert str(package.parent) in message
    assert 'pip install' in message


@pytest.mark.parametrize('name', ['volo_d1_imagenet', 'volo_d1_imagenet.py'])
def test_config_path_takes_names_with_and_without_suffix(package, name):
    add_configs(package / '.mim', 'volo_d1_imagenet.py', 'volo_d2_imagenet.py')

    expected = package / '.mim' / 'configs' / 'volo_d1_imagenet.py'
    assert paths.config_path(name) == expected


def test_unknown_config_suggests_close_names(package):
    add_configs(package.parent, 'volo_d1_imagenet.py', 'upernet.py')

    with pytest.raises(ConfigError, match=r'Did you mean volo_d1_imagenet\?'):
        paths.config_path('volo_d1_imagnet.py')


@pytest.mark.parametrize(
    'name', ['', 'zzz', '_base_/default_runtime', '../volo_d1_imagenet']
)
def test_unknown_config_without_close_names_says_where_to_look(package, name):
    add_configs(package.parent, 'volo_d5_upernet_ade20k.py')

    with pytest.raises(ConfigError) as error:
        paths.config_path(name)

    assert repr(name) in str(error.value)
    assert str(package.parent / 'configs') in str(error.value)
