"""The models that come with configs: mmpretrain's hub, and the table of them."""

import yaml
from mmpretrain.apis.model import ModelHub

from .paths import package_data_root

METAFILES = ('metafile_imagenet.yml', 'metafile_segmentation.yml')


def register_models() -> None:
    """Let ``mmpretrain.get_model`` and ``list_models`` find the classifiers."""
    root = package_data_root()
    if not ModelHub.has('volo-d1_imagenet'):
        ModelHub.register_model_index(
            root / 'configs' / METAFILES[0], config_prefix=root
        )


def read_models(metafile: str) -> list[dict]:
    """Return the models of one of :data:`METAFILES`, in OpenMMLab's format."""
    path = package_data_root() / 'configs' / metafile
    return yaml.safe_load(path.read_text())['Models']


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
    """Return ``configs/README.md`` with its tables made anew.

    Args:
        text: What it has, with a pair of comments around the table of each metafile.
    """
    for metafile in METAFILES:
        start, end = f'<!-- {metafile} -->', f'<!-- end of {metafile} -->'
        before, _, rest = text.partition(start)
        _, _, after = rest.partition(end)
        text = f'{before}{start}\n{render_table(metafile)}\n{end}{after}'
    return text
