"""Copy the buffers of a model, and restore them after a bad step."""

import torch
from torch import nn

from .skipped_steps import any_non_finite


class Buffers:
    """The buffers of a model and a copy of them from before a forward pass.

    Buffers that are not finite to begin with, such as some masks, are not checked.
    """

    def __init__(self, model: nn.Module) -> None:
        self._buffers = list(model.buffers())
        self._saved = [buffer.clone() for buffer in self._buffers]
        self._checked = [
            buffer
            for buffer in self._buffers
            if buffer.is_floating_point() and not any_non_finite([buffer])
        ]
        self._spoilt: list[torch.Tensor] = []

    def checked(self) -> list[torch.Tensor]:
        """Return the buffers that must be finite, and what was undone since saving."""
        return self._checked + self._spoilt

    def save(self) -> None:
        """Copy the buffers."""
        self._spoilt = []
        for saved, buffer in zip(self._saved, self._buffers, strict=True):
            saved.copy_(buffer)

    def restore(self) -> None:
        """Restore the buffers from the copy."""
        self._spoilt += [b.clone() for b in self._checked if any_non_finite([b])]
        for saved, buffer in zip(self._saved, self._buffers, strict=True):
            buffer.copy_(saved)
