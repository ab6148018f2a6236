"""Measure a config's segmentor with our backbone and with timm's VOLO.

Compares images/s and peak memory, eager and compiled:

    python -m benchmarks segmentor [CONFIG] [--mode training --batch-size 2]

timm's backbone is built as a user of mmsegmentation would: TIMMBackbone with
features_only=True. Its maps come after the same four stages as ours (strides 8, 16,
16 and 16, without norm), and it has neither class attention nor heads (timm 1.0.31).

timm does not resample its position embedding, so its network takes images of one size.
It is built here for the windows that are measured: the crop in training; in slide
inference the crop, cut to the image where that is smaller. A crop of 1024 x 1024 on an
image of 512 x 1024 gives windows of 512 x 1024. A trained network could not take both.
Ours is always built for the crop. It resamples its embedding for smaller windows, and
the time for that is included.

SyncBN is replaced by BN, since there is one process. --compile applies to backbone and
heads; losses, resizing and the loop over windows stay eager.
"""

import argparse
import copy
import dataclasses
from collections.abc import Callable

import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import PixelData
from mmseg.models import BaseSegmentor
from mmseg.structures import SegDataSample
from torch import nn

from volo.engine.launch import load_config
from volo.errors import ConfigError
from volo.models.archs import PATCH_SIZE
from volo.paths import config_path

from .arguments import add_number, add_out, add_steps
from .models import timm_volo_name
from .report import Report
from .steps import StepOptions, compare, compile_forward, inference_step, training_step

BACKBONES = ('ours', 'timm')

COLUMNS = {
    'backbone': '{name}',
    'images/s': '{images_per_second:.3f}',
    'ratio (range)': '{ratio:.2f} ({ratio_low:.2f}-{ratio_high:.2f})',
    'peak MB': '{peak_mb:.1f}',
}


def set_crop(cfg: Config, crop: int | None) -> tuple[int, int]:
    """Set the size of training images and slide windows in a config.

    Args:
        cfg: Config of a segmentor, changed in place.
        crop: Side in pixels. The stride of slide inference becomes two thirds of it.
            None keeps the config's crop.

    Returns:
        Height and width of the crop in pixels.
    """
    model = cfg.model
    if crop is not None:
        model.data_preprocessor.size = (crop, crop)
        model.backbone.img_size = (crop, crop)
        if model.test_cfg.mode == 'slide':
            model.test_cfg.crop_size = (crop, crop)
            model.test_cfg.stride = (round(crop * 2 / 3),) * 2
    return tuple(model.data_preprocessor.size)


def window_size(
    cfg: Config, crop: tuple[int, int], mode: str, image: tuple[int, int]
) -> tuple[int, int]:
    """Return height and width of the backbone's input in pixels.

    Args:
        cfg: Config of a segmentor, after :func:`set_crop`.
        crop: Height and width of training images in pixels.
        mode: One of :data:`.steps.MODES`.
        image: Height and width of an image in inference, in pixels.

    Raises:
        ConfigError: A side is no multiple of the patch size: timm would drop a border
            and do less work than ours.
    """
    window = crop
    if mode == 'inference':
        window = image
        if cfg.model.test_cfg.mode == 'slide':
            window = tuple(map(min, cfg.model.test_cfg.crop_size, image))
    if any(side % PATCH_SIZE for side in window):
        raise ConfigError(
            f'windows of {window[0]} x {window[1]}: both sides must be multiples of '
            f'{PATCH_SIZE}, since timm does not pad'
        )
    return window


def timm_backbone(backbone: dict, window: tuple[int, int]) -> dict:
    """Return the config of timm's VOLO that replaces ours.

    Args:
        backbone: Config of :class:`volo.models.VOLO`.
        window: Height and width of its images in pixels.

    Raises:
        ConfigError: timm does not have the arch.
    """
    return dict(
        type='TIMMBackbone',
        model_name=timm_volo_name(backbone.get('arch', 'd1')),
        features_only=True,
        pretrained=False,
        img_size=window,
        out_indices=backbone['out_indices'],
        drop_path_rate=backbone.get('drop_path_rate', 0.0),
    )


def build_segmentor(
    cfg: Config, backbone: str, window: tuple[int, int]
) -> BaseSegmentor:
    """Build the model of a config with random weights, for one process.

    Args:
        cfg: Config of a segmentor, after :func:`set_crop`.
        backbone: One of :data:`BACKBONES`.
        window: From :func:`window_size`.
    """
    init_default_scope(cfg.default_scope)
    options = copy.deepcopy(cfg.model)
    options.backbone.pop('init_cfg', None)
    if backbone == 'timm':
        options.backbone = timm_backbone(options.backbone, window)
    return revert_sync_batchnorm(MODELS.build(options))


def make_step(
    model: BaseSegmentor, how: str, size: tuple[int, int], options: StepOptions
) -> Callable[[], None]:
    """Return the step to time for a segmentor, on random images.

    Inference is mmseg's ``predict``: logits of all windows, their mean and the class of
    each pixel. A training step is the sum of the losses, its gradient and an update.

    Args:
        model: From :func:`build_segmentor`.
        how: One of :data:`.steps.COMPILE`.
        size: Height and width of the images in pixels.
        options: How to measure.
    """
    model.to(options.device).train(options.mode == 'training')
    for part in ('backbone', 'decode_head', 'auxiliary_head'):
        if isinstance(getattr(model, part, None), nn.Module):
            compile_forward(getattr(model, part), how)
    images = torch.randn(options.batch_size, 3, *size, device=options.device)
    if options.mode == 'inference':
        return inference_step(lambda: model.predict(images), options)
    samples = []
    for _ in range(options.batch_size):
        labels = torch.randint(model.num_classes, (1, *size), device=options.device)
        samples.append(SegDataSample(gt_sem_seg=PixelData(data=labels)))
    return training_step(
        lambda: model.parse_losses(model.loss(images, samples))[0],
        model.parameters(),
        options,
    )


def measure_segmentor(
    cfg: Config, crop: int | None, image: tuple[int, int], options: StepOptions
) -> Report:
    """Measure a config's segmentor with both backbones in turns.

    Args:
        cfg: Config of a segmentor with the backbone :class:`volo.models.VOLO`; changed
            in place.
        crop: Side of training images and windows in pixels. None: the config's.
        image: Height and width of an image in inference, in pixels.
        options: How to measure.

    Returns:
        A row for each backbone and way to compile. The reference of the ratios is
        timm's backbone, eager; without it, the first row.

    Raises:
        ConfigError: The config is of another kind, or a size or the batch size does not
            suit it.
    """
    if cfg.get('default_scope') != 'mmseg' or cfg.model.backbone.type != 'VOLO':
        raise ConfigError(
            f'{cfg.filename}: no segmentor with the backbone VOLO: name another config'
        )
    if options.mode == 'training' and options.batch_size < 2:
        raise ConfigError(
            '--batch-size 1: the batch norms of UPerNet need two images in training: '
            'take 2 or more'
        )
    crop_size = set_crop(cfg, crop)
    window = window_size(cfg, crop_size, options.mode, image)
    size = crop_size if options.mode == 'training' else image
    candidates = {
        f'{backbone} {how}': (backbone, how)
        for backbone in BACKBONES
        for how in options.compile
    }
    steps = {}
    for key, (backbone, how) in candidates.items():
        torch.manual_seed(0)
        model = build_segmentor(cfg, backbone, window)
        steps[key] = make_step(model, how, size, options)
    found = compare(steps, 'timm eager', options)
    rows = [
        dict(name=key, backbone=backbone, compile=how, **found[key])
        for key, (backbone, how) in candidates.items()
    ]
    return Report(
        name=f'segmentor_{options.mode}',
        title=(
            f'{cfg.filename}, {options.mode}: {options.batch_size} images of '
            f'{size[0]} x {size[1]}, windows of {window[0]} x {window[1]}, '
            f'{options.dtype}; the reference is {rows[0]["reference"]}'
        ),
        options=dict(
            config=str(cfg.filename),
            image=list(size),
            window=list(window),
            **dataclasses.asdict(options),
        ),
        columns=COLUMNS,
        rows=rows,
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        'config',
        nargs='?',
        default=config_path('volo_d1_upernet_cityscapes'),
        help='config of a segmentor (default: configs/volo_d1_upernet_cityscapes.py)',
    )
    add_number(
        parser, '--batch-size', None, 'images per step (default: 1, in training 2)'
    )
    add_number(
        parser,
        '--crop',
        None,
        "side of training images and slide windows in pixels (default: the config's)",
    )
    add_number(parser, '--height', 512, 'height of images in inference, in pixels')
    add_number(parser, '--width', 1024, 'width of images in inference, in pixels')
    add_steps(parser)
    add_out(parser)


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    if args.batch_size is None:
        args.batch_size = 2 if args.mode == 'training' else 1
    report = measure_segmentor(
        load_config(args.config),
        args.crop,
        (args.height, args.width),
        StepOptions.of(args),
    )
    report.show(args.out)
