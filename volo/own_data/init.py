"""Look at a folder, and write what a training on it needs."""

import io
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from PIL import Image

from volo.errors import ConfigError, DataError, some
from volo.files import describe_write_error, write_atomically
from volo.machine import usable_cpus

from .config_text import Files, config_text
from .detect import find_dataset
from .found import OUTPUTS, Found, Sample
from .image_survey import ImageSurvey, survey_images
from .plan import Machine, Plan, choose_arch, make_plan
from .split import assign_splits


class Request(NamedTuple):
    """What the user asked for.

    Attributes:
        folder: The dataset.
        out: The config to write.
        task: ``classification`` or ``segmentation``; None takes what fits.
        masks_dir: The folder of the masks.
        val_fraction: Share of the images for validation.
        seed: Of the split.
        group: Regular expression for names of images that stay together.
        arch: Name of an arch.
        weights: Pretrained weights.
        force: Write over files of an earlier run.
    """

    folder: Path
    out: Path
    task: str | None = None
    masks_dir: Path | None = None
    val_fraction: float = 0.2
    seed: int = 0
    group: str | None = None
    arch: str | None = None
    weights: str = ''
    force: bool = False


class Result(NamedTuple):
    """What was found and chosen.

    Attributes:
        found: The dataset.
        survey: Of its images.
        plan: The choices for the training.
        split: How the images were divided.
    """

    found: Found
    survey: ImageSurvey
    plan: Plan
    split: str


def init_config(request: Request, machine: Machine | None = None) -> Result:
    """Write lists, masks and a config for the dataset of a folder.

    Lists and masks go to ``FOLDER/volo_init``. Nothing of the dataset changes.

    Args:
        request: What the user asked for.
        machine: What trains; by default this machine.

    Raises:
        ConfigError: An option is unusable, or a file exists and ``force`` is not set.
        DataError: The dataset cannot be used, or a file cannot be written.
    """
    machine = machine or Machine.here()
    _check_output(request)
    weights = _absolute(request.weights)
    arch = choose_arch(request.arch, weights, machine)
    root = request.folder.resolve()
    masks_dir = request.masks_dir and request.masks_dir.resolve()
    found = find_dataset(root, request.task, masks_dir)
    if len(found.classes) > 255 and found.task == 'segmentation':
        raise DataError(f'{root}: {len(found.classes)} classes; masks hold 255')
    if found.task == 'segmentation':
        _write_masks(root, found, request.force)
    split = assign_splits(found, request.val_fraction, request.seed, request.group)
    files = _write_lists(root, found, request)
    survey = survey_images(root, [sample.image for sample in found.samples])
    train = [sample for sample in found.samples if sample.split == 'train']
    counts = _class_counts(train, len(found.classes))
    plan = make_plan(found.task, survey, counts, len(train), machine, arch, weights)
    title = (
        f'Written by `volo init {request.folder}`: {found.format}, '
        f'{len(found.samples)} images, {len(found.classes)} classes.'
    )
    text = config_text(found, survey, plan, files, title)
    _write(request.out, text.encode())
    return Result(found, survey, plan, split)


def describe(result: Result) -> list[str]:
    """Return what was found and chosen, as lines of text."""
    found, survey, plan = result.found, result.survey, result.plan
    numbers = {
        split: sum(sample.split == split for sample in found.samples)
        for split in ('train', 'val', 'test')
    }
    parts = ', '.join(f'{number} {name}' for name, number in numbers.items() if number)
    sizes = 'all' if survey.same_size else 'median'
    weights = (
        f'pretrained weights {plan.weights}' if plan.weights else 'from random weights'
    )
    unit = 'epochs' if found.task == 'classification' else 'iterations'
    lines = [
        f'Found:    {found.task}, {found.format}',
        f'Images:   {len(found.samples)}, {survey.kind}, {sizes} '
        f'{survey.height}x{survey.width} (height x width)',
        f'Classes:  {len(found.classes)}: {some(found.classes, 10)}',
        f'Split:    {parts}; {result.split}',
        f'Training: VOLO-{plan.arch} {weights}, {plan.size}x{plan.size} crops, '
        f'{plan.batch_size} per step, {plan.length} {unit}',
    ]
    if plan.class_weight:
        named = zip(found.classes, plan.class_weight, strict=True)
        weighted = [f'{name} {weight}' for name, weight in named]
        lines.append(f'Weights:  {some(weighted, 6)} (for rare classes)')
    return [*lines, *(f'Note:     {note}' for note in found.notes)]


def _check_output(request: Request) -> None:
    if request.out.suffix != '.py':
        raise ConfigError(f'--out {request.out}: a config ends in .py')
    if not request.folder.is_dir():
        raise DataError(f'{request.folder}: no such folder')
    if request.force:
        return
    lists = request.folder / OUTPUTS
    old = [request.out, *sorted(lists.glob(f'{request.out.stem}_*.txt'))]
    old = [path for path in old if path.exists()]
    if old:
        raise ConfigError(
            f'{some(old, 2)}: exists already. Choose another name with --out, or write '
            'over it with --force'
        )


def _absolute(weights: str) -> str:
    """Return the absolute path of a local file; a URL stays."""
    if not weights or '://' in weights:
        return weights
    path = Path(weights).expanduser().resolve()
    if not path.is_file():
        raise ConfigError(f'--weights {weights}: no such file')
    return str(path)


def _write_masks(root: Path, found: Found, force: bool) -> None:
    """Draw the masks that do not exist yet, and count their labels."""

    def write(sample: Sample) -> str:
        if sample.draw is None:
            return ''
        mask = sample.draw()
        counts = np.bincount(mask.ravel(), minlength=256)[: len(found.classes)]
        sample.counts = counts
        buffer = io.BytesIO()
        Image.fromarray(mask).save(buffer, 'PNG')
        path = root / OUTPUTS / 'masks' / f'{sample.image}.png'
        if path.exists() and path.read_bytes() != buffer.getvalue() and not force:
            return str(path)
        if not path.exists() or force:
            _write(path, buffer.getvalue(), durable=False)
        return ''

    with ThreadPoolExecutor(usable_cpus()) as pool:
        changed = list(filter(None, pool.map(write, found.samples)))
    if changed:
        raise ConfigError(
            f'{some(changed, 1)}: differs from the mask that would be written. Write '
            'over it with --force'
        )


def _write_lists(root: Path, found: Found, request: Request) -> Files:
    """Write the list of every split.

    A line is a path and a label in classification, and in segmentation the part of the
    path that image and mask share.
    """
    prefix: tuple[str, ...] = ('',)
    suffixes: tuple[str, ...] = ('',)
    names = {sample.image: f'{sample.image} {sample.label}' for sample in found.samples}
    if found.task == 'segmentation':
        prefix, suffixes, names = _shared_names(root, found, request.force)
    lists = {}
    for split in ('train', 'val', 'test'):
        lines = [names[s.image] for s in found.samples if s.split == split]
        if lines:
            lists[split] = f'{OUTPUTS}/{request.out.stem}_{split}.txt'
            _write(root / lists[split], '\n'.join([*lines, '']).encode())
    return Files(root, lists, prefix, suffixes)


def _shared_names(
    root: Path, found: Found, force: bool
) -> tuple[tuple[str, ...], tuple[str, ...], dict[str, str]]:
    """Return prefixes, suffixes and the shared name of every image and its mask.

    mmseg finds a mask by replacing the folder and the suffix of its image. Where the
    masks have other names, they are copied.
    """
    samples = found.samples
    if all(sample.mask for sample in samples):
        shared = [_shared_name(sample.image, sample.mask) for sample in samples]
        if len({(ends[0], ends[1]) for _, ends in shared}) == 1:
            prefix, suffixes = shared[0][1]
            names = [name for name, _ in shared]
            return prefix, suffixes, _by_image(samples, names)
        _copy_masks(root, samples, force)
    images = [sample.image for sample in samples]
    return ('', f'{OUTPUTS}/masks'), ('', '.png'), _by_image(samples, images)


def _by_image(samples: Iterable[Sample], names: Iterable[str]) -> dict[str, str]:
    return {s.image: name for s, name in zip(samples, names, strict=True)}


def _shared_name(
    image: str, mask: str
) -> tuple[str, tuple[tuple[str, str], tuple[str, str]]]:
    """Return the shared part of two paths, and their folders and suffixes."""
    image_parts, mask_parts = image.split('/'), mask.split('/')
    folders = 0
    pairs = zip(image_parts[-2::-1], mask_parts[-2::-1], strict=False)
    for one, other in pairs:
        if one != other:
            break
        folders += 1
    start = len(image_parts) - 1 - folders
    mask_start = len(mask_parts) - 1 - folders
    stem = PurePosixPath(image).stem
    mask_name = mask_parts[-1]
    if not mask_name.startswith(stem):
        return '', ((image, mask), ('', ''))  # nothing shared
    name = '/'.join([*image_parts[start:-1], stem])
    prefix = ('/'.join(image_parts[:start]), '/'.join(mask_parts[:mask_start]))
    return name, (prefix, (image_parts[-1][len(stem) :], mask_name[len(stem) :]))


def _copy_masks(root: Path, samples: Iterable[Sample], force: bool) -> None:
    for sample in samples:
        path = root / OUTPUTS / 'masks' / f'{sample.image}.png'
        content = (root / sample.mask).read_bytes()
        if path.exists() and path.read_bytes() != content and not force:
            raise ConfigError(
                f'{path}: differs from {sample.mask}. Write over it with --force'
            )
        _write(path, content, durable=False)


def _class_counts(samples: Iterable[Sample], num_classes: int) -> np.ndarray:
    counts = np.zeros(num_classes, np.int64)
    for sample in samples:
        if sample.counts is not None:
            counts += sample.counts
        elif sample.label >= 0:
            counts[sample.label] += 1
    return counts


def _write(path: Path, content: bytes, durable: bool = True) -> None:
    try:
        write_atomically(path, content, durable=durable)
    except OSError as error:
        raise DataError(describe_write_error(path, error)) from error
