"""Measure our classifier, timm's VOLO, DeiT III, Swin and a matrix product.

Compares images/s, peak memory and GMAC/s, eager and compiled:

    python -m benchmarks models [--mode training] [--device cuda --dtype bf16]
"""

import argparse
import dataclasses
from collections.abc import Callable, Sequence

import timm
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from volo.errors import ConfigError
from volo.models import VOLO, VOLOHead

from .arguments import add_network, add_out, add_steps
from .report import Report
from .steps import (
    DTYPES,
    StepOptions,
    compare,
    compile_forward,
    inference_step,
    training_step,
)

#: Image sides are multiples of this, in pixels: Swin has patches of 4 x 4 and halves
#: their grid three times.
SIZE_STEP = 32
NUM_CLASSES = 1000
#: Multiply-adds of a training step, in forward passes.
TRAINING_PASSES = 3

COLUMNS = {
    'model': '{name}',
    'images/s': '{images_per_second:.2f}',
    'ratio (range)': '{ratio:.2f} ({ratio_low:.2f}-{ratio_high:.2f})',
    'peak MB': '{peak_mb:.1f}',
    'GMAC': '{gmac:.2f}',
    'GMAC/s': '{gmac_per_second:.1f}',
}


class Classifier(nn.Module):
    """VOLO's backbone and head, without mmpretrain's classifier around them.

    Args:
        arch: Arch of VOLO.
        img_size: Height and width of the images in pixels.
    """

    def __init__(self, arch: str, img_size: int) -> None:
        super().__init__()
        self.backbone = VOLO(arch, img_size)
        self.head = VOLOHead(arch, NUM_CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits (B, num_classes) of images (B, 3, H, W)."""
        return self.head(self.backbone(x))


class Product(nn.Module):
    """One large matrix product per image: the rate that the machine can reach.

    Args:
        side: Rows and columns of both matrices.
    """

    def __init__(self, side: int = 2048) -> None:
        super().__init__()
        self.left = nn.Parameter(torch.randn(side, side))
        self.right = nn.Parameter(torch.randn(side, side))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return numbers (B, num_classes) for images (B, 3, H, W)."""
        products = [self.left @ self.right for _ in x]
        return torch.stack([product[0, :NUM_CLASSES] for product in products])


def timm_volo_name(arch: str) -> str:
    """Return timm's name for an arch of VOLO.

    Raises:
        ConfigError: timm does not have the arch.
    """
    name = f'volo_{arch}_224'
    if not timm.is_model(name):
        raise ConfigError(
            f'timm has no VOLO {arch!r} to compare with: leave timm out of the models'
        )
    return name


def _build_timm(name: str, img_size: int) -> nn.Module:
    return timm.create_model(
        name, pretrained=False, img_size=img_size, num_classes=NUM_CLASSES
    )


#: Functions that take an arch of VOLO and the side of an image in pixels and return a
#: classifier. DeiT III and Swin are of the size of VOLO-D1, for any arch. The product
#: is no classifier: its GMAC/s are the limit of the others.
BUILDERS: dict[str, Callable[[str, int], nn.Module]] = {
    'ours': Classifier,
    'timm': lambda arch, img_size: _build_timm(timm_volo_name(arch), img_size),
    'deit3': lambda arch, img_size: _build_timm('deit3_small_patch16_224', img_size),
    'swin': lambda arch, img_size: _build_timm(
        'swin_tiny_patch4_window7_224', img_size
    ),
    'product': lambda arch, img_size: Product(),
}


def count_gmac(name: str, arch: str, img_size: int) -> float:
    """Count the multiply-adds of one image in matrix products and convolutions.

    Args:
        name: A key of :data:`BUILDERS`.
        arch: Arch of VOLO.
        img_size: Side of the image in pixels.

    Returns:
        The count in 10^9.
    """
    with torch.device('meta'):
        model = BUILDERS[name](arch, img_size).eval()
        images = torch.empty(1, 3, img_size, img_size)
    # With gradients: the counter needs gradient functions to know the modules. With
    # plain attention: the counter does not know the fused kernels of every device.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model(images)
    return counter.get_total_flops() / 2e9


def make_step(
    name: str, how: str, arch: str, img_size: int, options: StepOptions
) -> Callable[[], None]:
    """Return the step to time for one model, on random images.

    Inference ends with the logits. A training step is the cross-entropy of the same
    logits, its gradient and an update. VOLO's logits, ours and timm's, are the class
    logits plus half the maximum of the token logits. VOLO is not trained that way, but
    both do the same work.

    Args:
        name: A key of :data:`BUILDERS`.
        how: One of :data:`.steps.COMPILE`.
        arch: Arch of VOLO.
        img_size: Side of the images in pixels.
        options: How to measure.
    """
    torch.manual_seed(0)
    model = BUILDERS[name](arch, img_size).to(options.device)
    model.train(options.mode == 'training')
    compile_forward(model, how)
    shape = (options.batch_size, 3, img_size, img_size)
    images = torch.randn(shape, device=options.device)
    labels = torch.randint(NUM_CLASSES, shape[:1], device=options.device)
    if options.mode == 'inference':
        return inference_step(lambda: model(images), options)
    return training_step(
        lambda: F.cross_entropy(model(images), labels), model.parameters(), options
    )


def measure_models(
    models: Sequence[str],
    arch: str,
    img_size: int,
    options: StepOptions,
    dtypes: Sequence[str] = (),
) -> Report:
    """Measure classifiers in turns, with random weights and images.

    Args:
        models: Keys of :data:`BUILDERS`.
        arch: Arch of VOLO.
        img_size: Side of the images in pixels.
        options: How to measure.
        dtypes: Keys of :data:`.steps.DTYPES` to compare, instead of ``options.dtype``.

    Returns:
        A row for each model, dtype and way to compile. The reference of the ratios is
        timm's VOLO, eager, in the first dtype; without it, the first row.

    Raises:
        ConfigError: A model does not exist with this arch or image size.
    """
    if img_size % SIZE_STEP:
        raise ConfigError(f'--img-size {img_size}: must be a multiple of {SIZE_STEP}')
    if 'timm' in models:
        timm_volo_name(arch)
    gmac = {name: count_gmac(name, arch, img_size) for name in models}
    dtypes = dtypes or (options.dtype,)
    candidates = {
        f'{name} {how}' + f' {dtype}' * (len(dtypes) > 1): (name, how, dtype)
        for name in models
        for dtype in dtypes
        for how in options.compile
    }
    steps = {
        key: make_step(
            name, how, arch, img_size, dataclasses.replace(options, dtype=dtype)
        )
        for key, (name, how, dtype) in candidates.items()
    }
    reference = next((key for key in steps if key.startswith('timm eager')), '')
    found = compare(steps, reference, options)
    passes = TRAINING_PASSES if options.mode == 'training' else 1
    rows = [
        dict(
            name=key,
            model=name,
            compile=how,
            gmac=gmac[name],
            gmac_per_second=passes * gmac[name] * found[key]['images_per_second'],
            **found[key],
        )
        for key, (name, how, _) in candidates.items()
    ]
    return Report(
        name=f'models_{arch}_{options.mode}',
        title=(
            f'VOLO-{arch}, {options.mode} at {img_size} x {img_size}, '
            f'{options.batch_size} images per step, {", ".join(dtypes)}; '
            f'the reference is {rows[0]["reference"]}'
        ),
        options=dict(arch=arch, img_size=img_size, **dataclasses.asdict(options)),
        columns=COLUMNS,
        rows=rows,
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        '--models',
        nargs='+',
        choices=BUILDERS,
        default=[*BUILDERS],
        help='what to compare (default: all)',
    )
    add_network(parser)
    add_steps(parser)
    parser.add_argument(
        '--dtypes',
        nargs='+',
        choices=DTYPES,
        default=[],
        help='dtypes to compare, instead of --dtype',
    )
    add_out(parser)


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    report = measure_models(
        args.models, args.arch, args.img_size, StepOptions.of(args), args.dtypes
    )
    report.show(args.out)
