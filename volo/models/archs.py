"""The arch table: every published VOLO, and a tiny one for CPUs."""

import dataclasses
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Any

from volo.errors import ConfigError, did_you_mean

#: Pixels per token of the transformer stages, the coarsest grid.
PATCH_SIZE = 16

_NUM_STAGES = 4


@dataclasses.dataclass(frozen=True)
class Arch:
    """The numbers in which the published models differ (paper, table 2).

    Attributes:
        depths: Number of blocks of the outlooker stage and of the three transformer
            stages.
        embed_dims: Channels of the outlooker stage (stride 8), and of everything
            after it (stride 16).
        num_heads: Attention heads of the same two.
        mlp_ratio: Hidden width of the MLPs, as a multiple of their input width.
        stem_channels: Channels of the stem's three convolutions.
    """

    depths: tuple[int, int, int, int] = (4, 4, 8, 2)
    embed_dims: tuple[int, int] = (192, 384)
    num_heads: tuple[int, int] = (6, 12)
    mlp_ratio: float = 3.0
    stem_channels: int = 64

    def __post_init__(self) -> None:
        if len(self.depths) != _NUM_STAGES:
            raise ConfigError(f'depths needs four numbers, got {self.depths}')
        if len(self.embed_dims) != 2 or len(self.num_heads) != 2:
            raise ConfigError(
                'embed_dims and num_heads need two numbers each, got '
                f'{self.embed_dims} and {self.num_heads}'
            )
        for dim, heads in zip(self.embed_dims, self.num_heads, strict=True):
            if dim % heads:
                raise ConfigError(
                    f'embed_dims {dim} cannot be split into num_heads {heads}'
                )

    def __str__(self) -> str:
        return next((name for name, arch in ARCHS.items() if arch == self), repr(self))

    def channels(self, out_indices: Sequence[int]) -> list[int]:
        """Return the channels of the maps of ``out_indices``, stages 0 to 3."""
        return [self.embed_dims[index % _NUM_STAGES > 0] for index in out_indices]


D1 = Arch()
D2 = Arch(depths=(6, 4, 10, 4), embed_dims=(256, 512), num_heads=(8, 16))
D3 = dataclasses.replace(D2, depths=(8, 8, 16, 4))
D4 = dataclasses.replace(D3, embed_dims=(384, 768), num_heads=(12, 16))
D5 = dataclasses.replace(D4, depths=(12, 12, 20, 4), mlp_ratio=4.0, stem_channels=128)
# Not published. With a head it has 2.9 M parameters, so that a CPU can train it.
TINY = Arch(
    depths=(2, 2, 4, 2), embed_dims=(64, 160), num_heads=(2, 5), stem_channels=32
)

ARCHS: dict[str, Arch] = dict(d1=D1, d2=D2, d3=D3, d4=D4, d5=D5, tiny=TINY)

#: The arch of the backbone that was built last in this thread. mmpretrain builds a
#: classifier's backbone, then its head, and shows neither to the other.
backbone_arch: ContextVar[Arch] = ContextVar('backbone_arch', default=D1)


def resolve_arch(arch: str | Mapping[str, Any]) -> Arch:
    """Return the arch of a name, or of a mapping of :class:`Arch`'s fields.

    Raises:
        ConfigError: The name or a field is unknown, or a value is impossible.
    """
    fields = Arch.__dataclass_fields__
    if isinstance(arch, str):
        if arch not in ARCHS:
            raise ConfigError(
                f'unknown arch {arch!r}: VOLO has {", ".join(ARCHS)}, or takes a '
                f'dict of {", ".join(fields)}.{did_you_mean(arch, ARCHS)}'
            )
        return ARCHS[arch]
    unknown = sorted(set(arch) - set(fields))
    if unknown:
        raise ConfigError(
            f'unknown arch key {", ".join(unknown)}: an arch has {", ".join(fields)}'
        )
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in arch.items()
    }
    return Arch(**values)


def check_out_indices(out_indices: int | Sequence[int]) -> tuple[int, ...]:
    """Return the stages of ``out_indices``, each from 0 to 3.

    Args:
        out_indices: One stage or several; -1 is the last.

    Raises:
        ConfigError: There is no such stage, or no stage is given.
    """
    indices = (out_indices,) if isinstance(out_indices, int) else tuple(out_indices)
    if not indices or any(not -_NUM_STAGES <= i < _NUM_STAGES for i in indices):
        raise ConfigError(
            f'out_indices names stages 0 to {_NUM_STAGES - 1}, got {indices}'
        )
    return tuple(index % _NUM_STAGES for index in indices)
