"""Packaging of VOLO on OpenMMLab; tool settings live in ``pyproject.toml``."""

import runpy
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
README = ROOT / 'README.md'


class BuildWithConfigs(build_py):
    """Carry configs and tools inside the package, as OpenMMLab's wheels do.

    They are copied into the build folder only, so that the checkout keeps a
    single copy. An editable install has no build folder: there
    ``volo.paths`` finds them at the root of the checkout.
    """

    def run(self):
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib) / 'volo' / '.mim'
        # A build folder outlives the build: what has been renamed since must
        # not travel along.
        shutil.rmtree(target, ignore_errors=True)
        for folder in ('configs', 'tools'):
            shutil.copytree(
                ROOT / folder,
                target / folder,
                ignore=shutil.ignore_patterns('__pycache__', '*.py[cod]', '.*'),
            )
        model_index = ROOT / 'model-index.yml'
        if model_index.exists():
            shutil.copy2(model_index, target)


setup(
    name='volo',
    version=runpy.run_path(str(ROOT / 'volo' / 'version.py'))['__version__'],
    description='The VOLO image backbone for mmpretrain and mmsegmentation: '
    'token-labeling pretraining and UPerNet segmentation',
    long_description=README.read_text('utf-8') if README.exists() else '',
    long_description_content_type='text/markdown',
    author='The VOLO on OpenMMLab authors',
    license='Apache-2.0',
    license_files=['LICENSE'],
    keywords='computer vision, VOLO, OpenMMLab, semantic segmentation, '
    'image classification, token labeling',
    classifiers=[
        'Development Status :: 4 - Beta',
        'Intended Audience :: Science/Research',
        'Operating System :: OS Independent',
        'Programming Language :: Python :: 3',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
    packages=find_packages(include=['volo', 'volo.*']),
    cmdclass={'build_py': BuildWithConfigs},
    zip_safe=False,
    python_requires='>=3.10',
    # Wide on purpose: the versions that were tested together are pinned in
    # requirements/constraints.txt.
    install_requires=[
        'torch>=2.6',
        'torchvision>=0.19',
        'timm>=1.0',
        'onedl-mmengine>=0.10.12',
        'onedl-mmcv>=2.3.6',
        'onedl-mmsegmentation>=1.4.2',
        'onedl-mmpretrain>=1.3.6',
        'matplotlib',
        'numpy',
        'pillow',
        'rich',
        'safetensors',
    ],
    extras_require={
        # What `tools/train.py --track` takes.
        'mlflow': ['mlflow'],
        'tensorboard': ['tensorboard'],
        'wandb': ['wandb'],
        'dev': [
            'build',
            'pre-commit',
            'pytest>=8',
            'pytest-xdist',
            'ruff>=0.9',
            # The packaging test builds offline, hence without isolation.
            'setuptools>=64',
            'wheel',
        ],
    },
)
