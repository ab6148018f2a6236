"""Write the config of a dataset."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from volo.machine import usable_cpus
from volo.models import ARCHS
from volo.paths import package_data_root

from .found import Found
from .image_survey import ImageSurvey
from .plan import Plan


class Files(NamedTuple):
    """Where the files of a dataset are.

    Attributes:
        root: The dataset, absolute.
        lists: Path of the list of each split, relative to it.
        prefix: Folder of the images, and in segmentation of the masks.
        suffixes: Suffix of the images, and in segmentation of the masks.
    """

    root: Path
    lists: Mapping[str, str]
    prefix: tuple[str, ...] = ('',)
    suffixes: tuple[str, ...] = ('',)


def config_text(
    found: Found, survey: ImageSurvey, plan: Plan, files: Files, title: str
) -> str:
    """Return the text of the config.

    Args:
        found: The dataset.
        survey: Of its images.
        plan: The choices for the training.
        files: Where its files are.
        title: One line for its head.
    """
    write = _classification if found.task == 'classification' else _segmentation
    lines = [
        f'# {title}',
        '# docs/own_data.md explains the values. The paths are absolute, so this file',
        '# works in any folder. Write it again after the dataset or volo moved.',
        *write(found, survey, plan, files),
        f'auto_scale_lr = dict(base_batch_size={plan.batch_size}, enable=False)',
    ]
    return '\n'.join(lines) + '\n'


def _bases(names: Sequence[str]) -> list[str]:
    folder = package_data_root() / 'configs' / '_base_'
    return ['_base_ = [', *(f'    {str(folder / f"{n}.py")!r},' for n in names), ']']


def _preprocessing(survey: ImageSurvey) -> str:
    """Return ``mean`` and ``std`` as arguments, or '' for RGB."""
    if not survey.mean:
        return ''
    return f'mean={list(survey.mean)}, std={list(survey.std)}'


def _backbone(survey: ImageSurvey, plan: Plan, **options: Any) -> str:
    if survey.channels != 3:
        options['in_channels'] = survey.channels
    if plan.arch not in ('tiny', 'd1'):
        options['arch'] = plan.arch
    return f'    backbone={_dict(**options)},'


def _dict(**items: Any) -> str:
    return 'dict(' + ', '.join(f'{key}={value!r}' for key, value in items.items()) + ')'


def _loaders(files: Files, batch_size: int, eval_batch_size: int) -> list[str]:
    workers = max(1, min(4, usable_cpus()))
    lines = []
    for split in ('train', 'val', 'test'):
        if split not in files.lists:
            lines.append(f'{split}_dataloader = val_dataloader')
            continue
        kind, batch = (
            ('train', batch_size) if split == 'train' else ('test', eval_batch_size)
        )
        arguments = f'ann_file={files.lists[split]!r}, pipeline={kind}_pipeline'
        lines += [
            f'{split}_dataloader = dict(batch_size={batch}, num_workers={workers})',
            f"{split}_dataloader['dataset'] = dict({arguments}, **dataset)",
        ]
    return lines


def _optimizer(plan: Plan, lr: float, decay: float, weight_decay: float) -> list[str]:
    """Return the optimizer: for pretrained weights with layer-wise learning rates."""
    if plan.weights:
        return [
            'optim_wrapper = dict(',
            "    constructor='VOLOLayerDecayOptimWrapperConstructor',",
            f'    optimizer=dict(lr={lr}, weight_decay={weight_decay}),',
            '    clip_grad=dict(max_norm=1.0),',
            f'    paramwise_cfg=dict(layer_decay_rate={decay}),',
            ')',
        ]
    return [
        'optim_wrapper = dict(',
        '    optimizer=dict(lr=0.001, weight_decay=0.05), clip_grad=dict(max_norm=1.0)',
        ')',
    ]


def _classification(
    found: Found, survey: ImageSurvey, plan: Plan, files: Files
) -> list[str]:
    model = 'volo_tiny_classifier' if plan.arch == 'tiny' else 'volo_classifier'
    size, short = plan.size, plan.scale[1]
    # Pillow resizes 8 bits only.
    backend = 'cv2' if survey.loading.get('to_float32') else 'pillow'
    resize = f"backend={backend!r}, interpolation='bicubic'"
    jitter = 'brightness=0.3, contrast=0.3, saturation=0.3'
    preprocessing = _preprocessing(survey)
    items = "('precision', 'recall', 'f1-score')"
    return [
        *_bases(
            [
                f'models/{model}',
                'datasets/classification_loaders',
                'schedules/adamw',
                'classification_runtime',
            ]
        ),
        f'classes = {found.classes!r}',
        *([f'load_from = {plan.weights!r}'] if plan.weights else []),
        'model = dict(',
        *(
            [f'    data_preprocessor=dict({preprocessing}, to_rgb=False),']
            if preprocessing
            else []
        ),
        _backbone(survey, plan, img_size=size),
        f'    head=dict(num_classes={len(found.classes)}, '
        f'loss=dict(class_weight={plan.class_weight})),',
        ')',
        f"load = dict(type='LoadImageFromFile', {_arguments(survey.loading)})",
        '# Remove the flip if left and right differ, as in digits.',
        'train_pipeline = [',
        '    load,',
        f"    dict(type='RandomResizedCrop', scale={size}, "
        f'crop_ratio_range=(0.35, 1.0), {resize}),',
        "    dict(type='RandomFlip', prob=0.5, direction='horizontal'),",
        *([f"    dict(type='ColorJitter', {jitter}),"] if survey.kind == 'RGB' else []),
        "    dict(type='PackInputs'),",
        ']',
        'test_pipeline = [',
        '    load,',
        f"    dict(type='ResizeEdge', scale={short}, edge='short', {resize}),",
        f"    dict(type='CenterCrop', crop_size={size}),",
        "    dict(type='PackInputs'),",
        ']',
        f"dataset = dict(type='ImageFolder', data_root={str(files.root)!r}, "
        'metainfo=dict(classes=classes))',
        *_loaders(files, plan.batch_size, plan.batch_size),
        'val_evaluator = [',
        "    dict(type='TopKAccuracy', topk=(1, 5)),",
        f"    dict(type='SingleLabelMetric', items={items}),",
        ']',
        'test_evaluator = val_evaluator',
        f'train_cfg = dict(by_epoch=True, max_epochs={plan.length}, '
        f'val_interval={plan.interval})',
        *_optimizer(plan, 2e-4, 0.8, 0.05),
        'param_scheduler = [',
        "    dict(type='LinearLR', start_factor=0.01, begin=0, end=2, "
        'convert_to_iter_based=True),',
        "    dict(type='CosineAnnealingLR', eta_min=0.0, convert_to_iter_based=True),",
        ']',
        'default_hooks = dict(',
        f"    checkpoint=dict(interval={plan.interval}, save_best='accuracy/top1')",
        ')',
    ]


def _segmentation(
    found: Found, survey: ImageSurvey, plan: Plan, files: Files
) -> list[str]:
    model = 'upernet_volo_tiny' if plan.arch == 'tiny' else 'upernet_volo_d1'
    crop = (plan.size, plan.size)
    preprocessing = _preprocessing(survey)
    pack = "dict(type='PackSegInputs')"
    if survey.channels > 3:  # mmseg's preprocessor has a mean of 1 or 3 values only
        pack = f"dict(type='Normalize', {preprocessing}, to_rgb=False), {pack}"
        preprocessing = 'mean=None, std=None'
    extra = f', {preprocessing}, bgr_to_rgb=False' if preprocessing else ''
    backbone: dict[str, Any] = dict(img_size=crop)
    if plan.weights:
        backbone['init_cfg'] = dict(type='Pretrained', checkpoint=plan.weights)
    # mmseg's loss averages over labeled pixels with weights, and on request.
    loss = (
        f'dict(class_weight={plan.class_weight})'
        if plan.class_weight
        else 'dict(avg_non_ignore=True)'
    )
    palette = f', palette={found.palette}' if found.palette else ''
    label_map = f'    label_map={found.label_map!r},\n' if found.label_map else ''
    classes = len(found.classes)
    dims = _head_channels(plan.arch)
    return [
        *_bases(
            [
                f'models/{model}',
                'datasets/segmentation_loaders',
                'schedules/adamw',
                'segmentation_runtime',
            ]
        ),
        f'classes = {found.classes!r}',
        f'loss = {loss}',
        'model = dict(',
        f'    data_preprocessor=dict(size={crop}{extra}),',
        _backbone(survey, plan, **backbone),
        f'    decode_head=dict(num_classes={classes}, loss_decode=loss{dims[0]}),',
        f'    auxiliary_head=dict(num_classes={classes}, loss_decode=loss{dims[1]}),',
        ')',
        f"load = dict(type='LoadImageFromFile', {_arguments(survey.loading)})",
        "masks = [dict(type='LoadAnnotations'), dict(type='CheckSegmentationSample')]",
        f'pack = [{pack}]',
        '# Remove the flip if left and right differ.',
        'train_pipeline = [',
        '    load,',
        '    *masks,',
        f"    dict(type='RandomResize', scale={plan.scale}, ratio_range=(0.5, 2.0), "
        'keep_ratio=True),',
        f"    dict(type='RandomCrop', crop_size={crop}, cat_max_ratio=0.75),",
        "    dict(type='RandomFlip', prob=0.5),",
        *(["    dict(type='PhotoMetricDistortion'),"] if survey.kind == 'RGB' else []),
        '    *pack,',
        ']',
        f"resize = dict(type='Resize', scale={plan.scale}, keep_ratio=True)",
        'test_pipeline = [load, resize, *masks, *pack]',
        'dataset = dict(',
        "    type='SegmentationDataset',",
        f'    data_root={str(files.root)!r},',
        f'    metainfo=dict(classes=classes{palette}),',
        f'{label_map}    img_suffix={files.suffixes[0]!r},',
        f'    seg_map_suffix={files.suffixes[1]!r},',
        f'    data_prefix=dict(img_path={files.prefix[0]!r}, '
        f'seg_map_path={files.prefix[1]!r}),',
        ')',
        *_loaders(files, plan.batch_size, 1),
        f"train_cfg = dict(type='IterBasedTrainLoop', max_iters={plan.length}, "
        f'val_interval={plan.interval})',
        *_optimizer(plan, 1e-4, 0.9, 0.01),
        'param_scheduler = [',
        "    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, "
        f'end={min(200, plan.length // 10)}),',
        "    dict(type='PolyLR', eta_min=0.0, power=1.0, by_epoch=False),",
        ']',
        f'default_hooks = dict(checkpoint=dict(interval={plan.interval}))',
    ]


def _head_channels(arch: str) -> tuple[str, str]:
    """Return ``in_channels`` of both heads as arguments, where the base has others."""
    if arch in ('tiny', 'd1'):
        return '', ''
    fine, coarse = ARCHS[arch].embed_dims
    return f', in_channels={[fine, *[coarse] * 3]}', f', in_channels={coarse}'


def _arguments(items: Mapping[str, Any]) -> str:
    return ', '.join(f'{key}={value!r}' for key, value in items.items())
