"""What is timed of a network: an image to its result, or a step of training."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import nn
from torch._inductor import config as inductor_config

from volo.errors import ConfigError

from .measure import Spread, peak_bytes, speed_ratios, turn_seconds

MODES = ('inference', 'training')
DTYPES = {
    'float32': torch.float32,
    'bf16': torch.bfloat16,
    'fp16': torch.float16,
}
#: ``compiled`` is ``torch.compile``. ``frozen`` also makes the weights constants:
#: inductor then folds and packs them once, also into bf16. That is for inference alone.
COMPILE = ('eager', 'compiled', 'frozen')


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepOptions:
    """How networks are measured.

    Args:
        mode: ``'inference'`` or ``'training'``.
        batch_size: Images.
        dtype: Of autocast, a key of :data:`DTYPES`. Weights are float32.
        device: ``'cpu'`` or ``'cuda'``.
        compile: Of :data:`COMPILE`; each network is measured in each way.
        repeats: Timed turns.
        calls: Calls a turn.

    Raises:
        ConfigError: The options do not go together.
    """

    mode: str = 'inference'
    batch_size: int = 1
    dtype: str = 'float32'
    device: str = 'cpu'
    compile: Sequence[str] = ('eager', 'compiled')
    repeats: int = 5
    calls: int = 1

    def __post_init__(self) -> None:
        """Check what goes together."""
        check_dtype(self.dtype, self.device)
        if self.mode == 'training' and 'frozen' in self.compile:
            raise ConfigError(
                '--compile frozen makes constants of the weights: it is for '
                '--mode inference'
            )


def check_dtype(dtype: str, device: str) -> None:
    """Refuse a dtype that the device cannot train and predict in.

    Raises:
        ConfigError: It is fp16 on a CPU.
    """
    if dtype == 'fp16' and device == 'cpu':
        raise ConfigError('--dtype fp16 needs --device cuda; on a CPU take bf16')


def autocast(dtype: str, device: str) -> contextlib.AbstractContextManager:
    """Return the context of a key of :data:`DTYPES`: none for float32."""
    return torch.autocast(device, DTYPES[dtype], enabled=dtype != 'float32')


def compile_forward(module: nn.Module, how: str) -> None:
    """Replace the ``forward`` of a module, as one of :data:`COMPILE` says.

    ``forward`` rather than the module: mmseg calls ``forward`` of its heads.
    """
    if how == 'eager':
        return
    compiled = torch.compile(module.forward, dynamic=False)

    def frozen(*args: object) -> object:
        # In every call, for the compiler runs in the first. As an argument of
        # torch.compile it does nothing: dynamo looks at the global setting.
        with inductor_config.patch(freezing=True):
            return compiled(*args)

    module.forward = frozen if how == 'frozen' else compiled


def inference_step(
    predict: Callable[[], object], options: StepOptions
) -> Callable[[], None]:
    """Return a function that calls ``predict`` without gradients."""

    def step() -> None:
        with torch.inference_mode(), autocast(options.dtype, options.device):
            predict()

    return step


def training_step(
    loss: Callable[[], torch.Tensor],
    parameters: Iterable[nn.Parameter],
    options: StepOptions,
) -> Callable[[], None]:
    """Return a function that makes loss, gradient and an update of fused AdamW.

    With fp16 the loss is scaled, as it has to be.
    """
    optimizer = torch.optim.AdamW(parameters, lr=1e-5, fused=True)
    scaler = torch.amp.GradScaler(options.device, enabled=options.dtype == 'fp16')

    def step() -> None:
        with autocast(options.dtype, options.device):
            value = loss()
        scaler.scale(value).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()

    return step


def compare(
    steps: Mapping[str, Callable[[], None]], reference: str, options: StepOptions
) -> dict[str, dict[str, object]]:
    """Let the steps take turns, then measure the memory of each once.

    Args:
        steps: Names, and what is timed.
        reference: What the others are compared with; the first step if it is not
            among them.
        options: Turns, calls a turn, images and device.

    Returns:
        For each name ``seconds`` of all turns, ``images_per_second`` of the median
        turn, ``reference``, ``ratio``, ``ratio_low`` and ``ratio_high`` as
        :func:`.measure.speed_ratios` has them, and ``peak_mb`` beyond weights and
        optimizer, in 10^6 bytes.
    """
    reference = reference if reference in steps else next(iter(steps))
    seconds = turn_seconds(steps, options.repeats, options.calls)
    ratios = speed_ratios(seconds, reference)
    return {
        name: dict(
            images_per_second=options.batch_size / Spread.of(seconds[name]).median,
            reference=reference,
            ratio=ratios[name].median,
            ratio_low=ratios[name].low,
            ratio_high=ratios[name].high,
            peak_mb=peak_bytes(step, options.device) / 1e6,
            seconds=seconds[name],
        )
        for name, step in steps.items()
    }
