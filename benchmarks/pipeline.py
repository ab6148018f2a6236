"""Measure a config's training pipeline with label maps and without.

Compares the images/s that one core loads:

    python -m benchmarks pipeline CONFIG --data-root FOLDER
"""

import argparse
import functools
import tempfile
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS, init_default_scope

from volo.datasets.streams import seed_generators
from volo.engine.launch import load_config
from volo.errors import ConfigError
from volo.token_label import TokenLabelDataset, label_key

from .arguments import add_number, add_repeats
from .label_maps import pack, write_random_maps
from .measure import median_seconds
from .report import print_table


def measure_pipeline(cfg: Config, count: int, repeats: int) -> dict[str, float]:
    """Load images in this process, with random label maps and without.

    Args:
        cfg: Config with a ``TokenLabelDataset`` in ``train_dataloader``.
        count: Images per turn. Every turn loads the same images with the same
            augmentations.
        repeats: Number of timed turns.

    Returns:
        Median images per second of ``'images alone'``, ``'label maps, .pt'`` and
        ``'label maps, packed'``.

    Raises:
        ConfigError: The config has no token labels.
        DataError: There are no images.
    """
    init_default_scope(cfg.default_scope)
    options = cfg.train_dataloader.dataset
    if options.type != 'TokenLabelDataset':
        raise ConfigError(
            f'{cfg.filename}: no TokenLabelDataset in train_dataloader: name a config '
            'with token labels'
        )
    images = DATASETS.build(options.dataset)
    prefix = images.data_prefix['img_path']
    keys = {
        label_key(images.get_data_info(i)['img_path'], prefix)
        for i in range(len(images))
    }
    with tempfile.TemporaryDirectory() as folder:
        maps = write_random_maps(Path(folder, 'maps'), sorted(keys))
        pack(maps, Path(folder, 'packed'))
        datasets = {'images alone': images}
        for name, kind in (('.pt', 'maps'), ('packed', 'packed')):
            datasets[f'label maps, {name}'] = TokenLabelDataset(
                options.dataset, str(Path(folder, kind).resolve())
            )

        def load(dataset: BaseDataset | TokenLabelDataset) -> None:
            seed_generators(0)
            for i in range(count):
                dataset[i % len(dataset)]

        seconds = median_seconds(
            {name: functools.partial(load, d) for name, d in datasets.items()},
            repeats,
        )
    return {name: count / value for name, value in seconds.items()}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument('config', help='config with token labels')
    parser.add_argument(
        '--data-root',
        metavar='FOLDER',
        help="folder of the dataset (default: the config's)",
    )
    add_number(parser, '--count', 200, 'images per turn')
    add_repeats(parser)


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    torch.set_num_threads(1)  # as in a worker of a data loader
    options = {} if args.data_root is None else dict(data_root=args.data_root)
    cfg = load_config(args.config, options)
    found = measure_pipeline(cfg, args.count, args.repeats)
    rate = found['images alone']
    print_table(
        f'{args.config}: training images on one core',
        ['', 'images/s', 'of images alone'],
        [[name, f'{r:.1f}', f'{r / rate:.3f}'] for name, r in found.items()],
    )
