"""Test the sdist, and what a user gets from `pip install volo-*.whl`."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from fnmatch import fnmatch
from pathlib import Path

import pytest

from volo.version import __version__

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.slow

FOLDERS = (
    'benchmarks',
    'configs',
    'demo',
    'docs',
    'requirements',
    'tests',
    'tools',
    'volo',
)
FILES = (
    '.pre-commit-config.yaml',
    'CHANGELOG.md',
    'CITATION.cff',
    'CONTRIBUTING.md',
    'LICENSE',
    'MANIFEST.in',
    'Makefile',
    'README.md',
    'model-index.yml',
    'pyproject.toml',
    'setup.py',
    'volo_cli.py',
)
# Must not be carried.
LITTER = (
    'configs/__pycache__/a.cpython-311.pyc',
    'docs/_build/html/index.html',
    'work_dirs/demo/last.pth',
)

# Runs where only the unpacked wheel provides `volo`. One process for all configs:
# importing the libraries takes longer than building a model.
LOAD_AND_BUILD_ALL = """
import gc
import sys
import traceback
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

import volo
from volo.paths import package_data_root

package = Path(sys.argv[1]) / 'volo'
assert Path(volo.__file__) == package / '__init__.py', volo.__file__
assert package_data_root() == package / '.mim', package_data_root()


def without_weights(node):
    if isinstance(node, dict):
        return {
            key: None if key in ('init_cfg', 'pretrained') else without_weights(value)
            for key, value in node.items()
        }
    if isinstance(node, (list, tuple)):
        return type(node)(without_weights(value) for value in node)
    return node


broken = 0
for path in sorted((package_data_root() / 'configs').glob('*.py')):
    try:
        config = Config.fromfile(path)
        init_default_scope(config.default_scope)
        with torch.device('meta'):  # d5 would take gigabytes
            model = MODELS.build(without_weights(config.model.to_dict()))
        print(path.name, type(model).__name__)
        del model
        gc.collect()
    except Exception:
        broken += 1
        print(f'{path.name} is broken:')
        traceback.print_exc(file=sys.stdout)
sys.exit(broken > 0)
"""


@pytest.fixture(scope='module')
def distributions(tmp_path_factory):
    """Build the sdist, and the wheel from it, in a copy of the checkout.

    A copy, because setuptools writes into the tree that it builds.
    """
    copy = tmp_path_factory.mktemp('source')
    for name in FOLDERS:
        shutil.copytree(ROOT / name, copy / name)
    for name in FILES:
        shutil.copy2(ROOT / name, copy)
    for litter in LITTER:
        (copy / litter).parent.mkdir(parents=True, exist_ok=True)
        (copy / litter).touch()

    folder = tmp_path_factory.mktemp('dist')
    # Without isolation: no network.
    command = [sys.executable, '-m', 'build', '--no-isolation', '--outdir', folder]
    result = subprocess.run(
        [*command, copy], capture_output=True, text=True, cwd=folder
    )
    assert result.returncode == 0, result.stdout + result.stderr
    (sdist,) = folder.glob('*.tar.gz')
    (wheel,) = folder.glob('*.whl')
    return sdist, wheel


def files_below(folder):
    return {
        str(path.relative_to(ROOT))
        for path in (ROOT / folder).rglob('*')
        if path.is_file() and not {'__pycache__', '_build'} & set(path.parts)
    }


def test_names_carry_the_version(distributions):
    sdist, wheel = distributions

    assert sdist.name == f'volo-{__version__}.tar.gz'
    assert wheel.name == f'volo-{__version__}-py3-none-any.whl'


def test_wheel_carries_package_configs_and_tools_and_nothing_else(distributions):
    with zipfile.ZipFile(distributions[1]) as wheel:
        names = {n for n in wheel.namelist() if not n.endswith('/')}

    assert any(fnmatch(n, 'volo/.mim/configs/*.py') for n in names)
    assert any(fnmatch(n, 'volo/.mim/tools/*.py') for n in names)
    carried = {f'volo/.mim/{n}' for n in files_below('configs') | files_below('tools')}
    carried.add('volo/.mim/model-index.yml')
    package = {n for n in files_below('volo') if not n.startswith('volo/.mim/')}
    metadata = {n for n in names if n.startswith(f'volo-{__version__}.dist-info/')}
    assert names - metadata == carried | package | {'volo_cli.py'}


def test_sdist_carries_the_repository_but_no_litter(distributions):
    with tarfile.open(distributions[0]) as sdist:
        names = {
            member.name.partition('/')[2]
            for member in sdist.getmembers()
            if member.isfile()
        }

    needed = {name for folder in FOLDERS for name in files_below(folder)}
    assert needed | set(FILES) <= names
    litter = (*LITTER, '*.pyc', '.venv/*', '.git/*')
    assert not [n for n in names if any(fnmatch(n, pattern) for pattern in litter)]


def test_the_command_of_the_wheel_runs_its_own_tools(distributions, tmp_path):
    with zipfile.ZipFile(distributions[1]) as wheel:
        wheel.extractall(tmp_path / 'unpacked')
    (entry,) = (tmp_path / 'unpacked').glob('*.dist-info/entry_points.txt')
    assert 'volo = volo_cli:main' in entry.read_text()

    def volo(*arguments):
        return subprocess.run(
            [sys.executable, '-c', 'import volo_cli; volo_cli.main()', *arguments],
            cwd=tmp_path,
            env={**os.environ, 'PYTHONPATH': str(tmp_path / 'unpacked')},
            capture_output=True,
            text=True,
        )

    shown = volo('--help').stdout
    assert '\n  train ' in shown and '\n  demo ' not in shown
    done = volo('check', 'volo_tiny_upernet_camvid', '--workers', '0')
    assert done.returncode == 1, done.stderr
    assert 'data/camvid' in done.stdout
    done = volo('train', 'volo_tiny_upernet_camvit')
    hint = 'Did you mean volo_tiny_upernet_camvid?'
    assert done.returncode == 2 and done.stderr.endswith(f'{hint}\n')


def test_every_config_in_the_wheel_builds_its_model(distributions, tmp_path):
    unpacked = tmp_path / 'unpacked'
    with zipfile.ZipFile(distributions[1]) as wheel:
        wheel.extractall(unpacked)
    elsewhere = tmp_path / 'elsewhere'
    elsewhere.mkdir()

    # PYTHONPATH comes before site-packages and so before an editable install.
    result = subprocess.run(
        [sys.executable, '-c', LOAD_AND_BUILD_ALL, unpacked],
        cwd=elsewhere,
        env={**os.environ, 'PYTHONPATH': str(unpacked)},
        capture_output=True,
        text=True,
    )

    assert result.returncode == 0, result.stdout + result.stderr
    configs = [path.name for path in (unpacked / 'volo/.mim/configs').glob('*.py')]
    assert configs
    for name in configs:
        assert name in result.stdout
