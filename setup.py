"""Carry configs and tools into the wheel; ``pyproject.toml`` has everything else."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent


class BuildWithConfigs(build_py):
    """Carry configs and tools inside the package, as OpenMMLab's wheels do.

    They are copied into the build folder only, so the checkout keeps a single copy.
    An editable install has no build folder: ``volo.paths`` finds the files at the root
    of the checkout.
    """

    def run(self):
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib) / 'volo' / '.mim'
        # A build folder outlives the build: drop files that were renamed since.
        shutil.rmtree(target, ignore_errors=True)
        for folder in ('configs', 'tools'):
            shutil.copytree(
                ROOT / folder,
                target / folder,
                ignore=shutil.ignore_patterns('__pycache__', '*.py[cod]', '.*'),
            )
        shutil.copy2(ROOT / 'model-index.yml', target)


setup(license='Apache-2.0', cmdclass={'build_py': BuildWithConfigs})
