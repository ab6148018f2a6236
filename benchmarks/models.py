"""Our classifier against timm's VOLO, DeiT III and Swin, eager and compiled."""

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

from .report import Report
from .steps import StepOptions, compare, compile_forward, inference_step, training_step

#: Every model here takes images of a multiple of this: Swin halves the grid of its
#: 4 x 4 patches three times.
SIZE_STEP = 32
NUM_CLASSES = 1000
#: What a training step costs in forward passes.
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
    """Backbone and head as one module, without mmpretrain around them.

    Args:
        arch: As in :class:`volo.models.VOLO`.
        img_size: Height and width of the images in pixels.
    """

    def __init__(self, arch: str, img_size: int) -> None:
        super().__init__()
        self.backbone = VOLO(arch, img_size)
        self.head = VOLOHead(arch, NUM_CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images (B, 3, H, W) to logits (B, num_classes)."""
        return self.head(self.backbone(x))


class Product(nn.Module):
    """Nothing but a large matrix product an image: what the machine can do at best.

    Args:
        side: Rows and columns of both matrices.
    """

    def __init__(self, side: int = 2048) -> None:
        super().__init__()
        self.left = nn.Parameter(torch.randn(side, side))
        self.right = nn.Parameter(torch.randn(side, side))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return a number for each image (B, 3, H, W) and class."""
        products = [self.left @ self.right for _ in x]
        return torch.stack([product[0, :NUM_CLASSES] for product in products])


def timm_volo_name(arch: str) -> str:
    """Return timm's name of an arch.

    Raises:
        ConfigError: timm does not have it.
    """
    name = f'volo_{arch}_224'
    if not timm.is_model(name):
        raise ConfigError(
            f'timm has no VOLO {arch!r} to compare with: name the models without timm'
        )
    return name


def _build_timm(name: str, img_size: int) -> nn.Module:
    return timm.create_model(
        name, pretrained=False, img_size=img_size, num_classes=NUM_CLASSES
    )


#: From an arch of VOLO and the side of an image to a classifier. DeiT III and Swin
#: are of the size of VOLO-D1, whatever the arch. The product is no classifier: its
#: GMAC/s are what the others can hope for.
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
    """Return the multiply-adds of one image in 10^9: matrix products, convolutions.

    Nothing is computed: the model is built on the meta device.

    Args:
        name: A key of :data:`BUILDERS`.
        arch: Of VOLO.
        img_size: Side of the image in pixels.
    """
    with torch.device('meta'):
        model = BUILDERS[name](arch, img_size).eval()
        images = torch.empty(1, 3, img_size, img_size)
    # With gradients: the counter follows modules by their gradient functions. With
    # plain attention: fused kernels are not counted on every device.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model(images)
    return counter.get_total_flops() / 2e9


def make_step(
    name: str, how: str, arch: str, img_size: int, options: StepOptions
) -> Callable[[], None]:
    """Return what is timed of one model, on random images.

    Inference ends at the logits. Training is the cross-entropy of these same logits,
    its gradient and an update: of VOLO, ours and timm's, the class logits and half
    the maximum of the token logits. That is not how VOLO is trained, but the plain
    ``forward`` of both, so both do the same work.

    Args:
        name: A key of :data:`BUILDERS`.
        how: One of :data:`.steps.COMPILE`.
        arch: Of VOLO.
        img_size: Side of the images in pixels.
        options: The rest.
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
    """Measure classifiers in turns, on random weights and images.

    Args:
        models: Keys of :data:`BUILDERS`.
        arch: Of VOLO.
        img_size: Side of the images in pixels.
        options: The rest.
        dtypes: Keys of :data:`.steps.DTYPES`, in the place of that of the options:
            to compare one with another.

    Returns:
        A row for each model, dtype and way to compile it. Ratios are to timm's VOLO,
        eager, in the first dtype, or to the first row where that is not measured.

    Raises:
        ConfigError: A model does not exist in that arch or size.
    """
    if img_size % SIZE_STEP:
        raise ConfigError(f'--img-size is a multiple of {SIZE_STEP}, got {img_size}')
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
            f'{options.batch_size} images a step, {", ".join(dtypes)}; '
            f'the reference is {rows[0]["reference"]}'
        ),
        options=dict(arch=arch, img_size=img_size, **dataclasses.asdict(options)),
        columns=COLUMNS,
        rows=rows,
    )
