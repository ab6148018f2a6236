"""Say why a training step is skipped, and which files were in its batches."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch

from volo.errors import some


class Findings(NamedTuple):
    """Where NaN or infinity was found, on any rank."""

    loss: bool
    gradients: bool
    buffers: bool


class Report(NamedTuple):
    """What a rank reports about a skipped step.

    Attributes:
        losses: The losses of its batches that are not finite.
        parameters: Names of the parameters whose gradients are not finite.
        files: The files of its batches; only the bad ones if they are known.
        broken: Whether the images in these files hold NaN or infinity.
    """

    losses: list[float]
    parameters: list[str]
    files: list[str]
    broken: bool


def any_non_finite(tensors: Iterable[torch.Tensor]) -> bool:
    """Tell whether a tensor holds NaN or infinity."""
    return any(not torch.isfinite(tensor).all() for tensor in tensors)


def sample_files(data_batch: Any) -> list[str]:
    """Return the files of a batch, as far as its samples have an ``img_path``."""
    samples = data_batch.get('data_samples') if isinstance(data_batch, dict) else None
    if not isinstance(samples, list | tuple):
        return []
    names = [s.get('img_path') for s in samples if hasattr(s, 'get')]
    return [str(name) for name in names if name is not None]


def broken_files(data_batch: Any) -> list[str]:
    """Return the files of a batch whose images hold NaN or infinity."""
    names = sample_files(data_batch)
    images = data_batch.get('inputs') if names else None
    if images is None or len(images) != len(names):
        return []
    return [
        name
        for name, image in zip(names, images, strict=True)
        if isinstance(image, torch.Tensor) and any_non_finite([image])
    ]


def describe_reason(
    found: Findings, reports: Sequence[Report], loss_scale: float | None = None
) -> str:
    """Say why a step is skipped.

    Args:
        found: Where NaN or infinity is.
        reports: One per rank.
        loss_scale: The scale at which the gradients overflowed, if there is one.
    """
    if found.loss:
        losses = [loss for report in reports for loss in report.losses]
        return f'the loss is {losses[0]}'
    names = sorted({name for report in reports for name in report.parameters})
    if names:
        listed = some(names, most=3)
        return f'the gradients of {len(names)} parameters are not finite ({listed})'
    if found.buffers:
        return 'the statistics of a norm, or other buffers, are not finite'
    scale = f' at a loss scale of {loss_scale:g}' if loss_scale is not None else ''
    return f'the gradients are not finite{scale}'


def describe_files(reports: Sequence[Report], most: int | None = None) -> str:
    """Name the files in the batches of a step; only the bad ones if they are known.

    Args:
        reports: One per rank.
        most: Files to name per rank. Default: all.
    """
    ranks = list(range(len(reports)))
    for is_at_fault in (lambda r: reports[r].losses, lambda r: reports[r].broken):
        ranks = list(filter(is_at_fault, ranks)) or ranks
    parts = []
    for rank in ranks:
        files, broken = reports[rank].files, reports[rank].broken
        what = 'Files with values that are not finite' if broken else 'Files'
        where = f', rank {rank}' if len(reports) > 1 else ''
        names = 'unknown, no sample has an img_path'
        if files:
            names = some(files, most or len(files))
        parts.append(f'{what}{where}: {names}')
    return '. '.join(parts)
