"""Update the tables in configs/README.md after a change of a metafile.

python tools/update_model_zoo.py
"""

import argparse
from pathlib import Path

import yaml

from volo_cli import run_tool, tool_parser

ROOT = Path(__file__).resolve().parents[1]


def read_models(metafile: str) -> list[dict]:
    """Return the models of one of :data:`METAFILES`, in OpenMMLab's format."""
    text = (ROOT / 'configs' / metafile).read_text()
    return yaml.safe_load(text)['Models']


def render_table(metafile: str) -> str:
    """Return the models of a metafile as a Markdown table."""
    lines = [
        '| config | parameters | multiply-adds | reported by the authors | weights |',
        '|---|---|---|---|---|',
    ]
    for model in read_models(metafile):
        config = model['Config'].removeprefix('configs/')
        metadata = model['Metadata']
        results = '; '.join(
            f'{name} {value}'
            for result in model.get('Results', ())
            for name, value in result['Metrics'].items()
        )
        url = model.get('Weights')
        weights = f'[{url.rpartition("/")[2]}]({url})' if url else ''
        lines.append(
            f'| [{config}]({config}) | {metadata["Parameters"] / 1e6:.1f} M '
            f'| {metadata["FLOPs"] / 1e9:.1f} G | {results} | {weights} |'
        )
    return '\n'.join(lines)


def render_readme(text: str) -> str:
    """Return ``configs/README.md`` with the tables of the metafiles.

    Args:
        text: Its present text, with a pair of comments around each table.
    """
    from volo.model_zoo import METAFILES

    for metafile in METAFILES:
        start, end = f'<!-- {metafile} -->', f'<!-- end of {metafile} -->'
        before, _, rest = text.partition(start)
        _, _, after = rest.partition(end)
        text = f'{before}{start}\n{render_table(metafile)}\n{end}{after}'
    return text


def make_parser() -> argparse.ArgumentParser:
    return tool_parser(__doc__)


def main(args: argparse.Namespace) -> None:
    path = ROOT / 'configs/README.md'
    path.write_text(render_readme(path.read_text()))
    print(path)


if __name__ == '__main__':
    run_tool(make_parser(), main)
