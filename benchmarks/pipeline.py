"""Measure a config's training pipeline with label maps and without.

Compares the images/s that one core loads:

    python -m benchmarks pipeline CONFIG --data-root FOLDER
"""

import functools
import tempfile
from pathlib import Path

import numpy as np
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS, init_default_scope

from volo.errors import ConfigError
from volo.token_label import TokenLabelDataset, label_key

from .label_maps import pack, write_random_maps
from .measure import median_seconds


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
            np.random.seed(0)
            for i in range(count):
                dataset[i % len(dataset)]

        seconds = median_seconds(
            {name: functools.partial(load, d) for name, d in datasets.items()},
            repeats,
        )
    return {name: count / value for name, value in seconds.items()}
