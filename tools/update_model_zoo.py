"""Write the tables of configs/README.md anew, after a change of a metafile.

python tools/update_model_zoo.py
"""

from volo.engine.cli import run_cli
from volo.model_zoo import render_readme
from volo.paths import package_data_root


def main() -> None:
    path = package_data_root() / 'configs/README.md'
    path.write_text(render_readme(path.read_text()))
    print(path)


if __name__ == '__main__':
    run_cli(main)
