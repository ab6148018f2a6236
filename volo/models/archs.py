"""The arch table: every published VOLO, and a tiny one for CPUs."""

import dataclasses
from collections.abc import Mapping

from volo.errors import ConfigError, did_you_mean

#: Pixels per token of the transformer stages, the coarsest grid.
PATCH_SIZE = 16


@dataclasses.dataclass(frozen=True)
class Arch:
    """What tells one VOLO from another (paper, table 2).

    Attributes:
        depths: Number of blocks of the outlooker stage and the three transformer
            stages.
        embed_dims: Channels of the outlooker stage (stride 8) and of everything
            after it (stride 16).
        num_heads: Attention heads of the same two.
        mlp_ratio: Hidden over input width of the MLPs.
        stem_channels: Channels of the stem's three convolutions.
    """

    depths: tuple[int, int, int, int] = (4, 4, 8, 2)
    embed_dims: tuple[int, int] = (192, 384)
    num_heads: tuple[int, int] = (6, 12)
    mlp_ratio: float = 3.0
    stem_channels: int = 64

    def __post_init__(self) -> None:
        """Check what would otherwise fail deep inside a layer."""
        for dim, heads in zip(self.embed_dims, self.num_heads, strict=True):
            if dim % heads:
                raise ConfigError(
                    f'embed_dims {dim} cannot be split into num_heads {heads}'
                )
        if len(self.depths) != 4:
            raise ConfigError(f'depths needs four numbers, got {self.depths}')


D1 = Arch()
D2 = Arch(depths=(6, 4, 10, 4), embed_dims=(256, 512), num_heads=(8, 16))
D3 = dataclasses.replace(D2, depths=(8, 8, 16, 4))
D4 = dataclasses.replace(D3, embed_dims=(384, 768), num_heads=(12, 16))
D5 = dataclasses.replace(D4, depths=(12, 12, 20, 4), mlp_ratio=4.0, stem_channels=128)
# Not published: 2.9 M parameters with a head, to learn something on a CPU.
TINY = Arch(
    depths=(2, 2, 4, 2), embed_dims=(64, 160), num_heads=(2, 5), stem_channels=32
)

ARCHS: dict[str, Arch] = dict(d1=D1, d2=D2, d3=D3, d4=D4, d5=D5, tiny=TINY)


def resolve_arch(arch: str | Mapping) -> Arch:
    """Look an arch up by name, or make one of a mapping of :class:`Arch`'s fields.

    Raises:
        ConfigError: Unknown name or field.
    """
    if isinstance(arch, str):
        if arch not in ARCHS:
            raise ConfigError(
                f'unknown arch {arch!r}: VOLO has {", ".join(ARCHS)}, or takes a '
                f'dict of {", ".join(Arch.__dataclass_fields__)}.'
                f'{did_you_mean(arch, ARCHS)}'
            )
        return ARCHS[arch]
    unknown = set(arch) - set(Arch.__dataclass_fields__)
    if unknown:
        raise ConfigError(
            f'unknown arch key {", ".join(sorted(unknown))}: an arch has '
            f'{", ".join(Arch.__dataclass_fields__)}'
        )
    return Arch(**{k: tuple(v) if isinstance(v, list) else v for k, v in arch.items()})
