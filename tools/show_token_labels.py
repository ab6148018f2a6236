"""Draw training images, their label maps and the targets of their tokens.

volo show volo_d1_imagenet OUT [--count 8]

Each drawing shows an image, its label map and an augmented crop with its targets, so
that you see whether they agree.
"""

import argparse
from pathlib import Path

from volo_cli import add_cfg_options, positive, run_tool, tool_parser


def make_parser() -> argparse.ArgumentParser:
    parser = tool_parser(__doc__)
    parser.add_argument('config', help='config with a TokenLabelDataset')
    parser.add_argument('out', type=Path, help='folder for the drawings')
    parser.add_argument(
        '--count',
        type=positive,
        default=8,
        help='number of images; default: %(default)s',
    )
    parser.add_argument(
        '--seed', type=int, default=0, help='seed of the choice and the augmentation'
    )
    add_cfg_options(parser)
    return parser


def main(args: argparse.Namespace) -> None:
    import numpy as np
    from mmengine.registry import DATASETS, init_default_scope

    from volo.annotators.images import read_image
    from volo.datasets.checks import Loading
    from volo.datasets.streams import seed_generators
    from volo.engine.launch import load_config, readable_errors
    from volo.errors import ConfigError, DataError
    from volo.models.archs import PATCH_SIZE
    from volo.token_label import TokenLabelDataset
    from volo.token_label.dataset import TOKEN_LABEL_KEY
    from volo.visualization.token_labels import draw_token_label

    cfg = load_config(args.config, args.cfg_options)
    init_default_scope(cfg.default_scope)
    with readable_errors(cfg):
        dataset = DATASETS.build(cfg.train_dataloader.dataset)
    if not isinstance(dataset, TokenLabelDataset):
        raise ConfigError(
            f'{args.config}: no TokenLabelDataset in train_dataloader. Use a config '
            'with token labels'
        )
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f'{args.out} cannot be created: {error}') from error
    upright = Loading.of(dataset.dataset).rotates('JPEG')
    seed_generators(args.seed)
    for index in np.random.permutation(len(dataset))[: args.count]:
        packed = dataset[int(index)]
        sample = packed['data_samples']
        # From BGR; erased images are floating point and exceed 0 to 255.
        crop = packed['inputs'].clamp(0, 255).byte().permute(1, 2, 0).numpy()[..., ::-1]
        path = args.out / f'{index}_{Path(sample.img_path).stem}.png'
        if TOKEN_LABEL_KEY not in sample:
            print(f'{sample.img_path}: no label map')
            continue
        draw_token_label(
            read_image(sample.img_path, upright),
            crop,
            sample.token_label,
            tuple(dataset.metainfo.get('classes', ())),
            tuple(-(-side // PATCH_SIZE) for side in crop.shape[:2]),
            path,
        )
        print(path)


if __name__ == '__main__':
    run_tool(make_parser(), main)
