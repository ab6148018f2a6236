"""Train fake tensors as a GPU would, on a machine without one, and count their bytes.

Fake tensors have shape, dtype and device but no data. :class:`GPUFunctions` does what
autocast and the choice of attention kernels do on a GPU. :class:`FakeGPU` answers what
autograd asks a driver. :class:`LiveBytes` adds up the tensors that are alive.
"""

import functools
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.weak import WeakIdKeyDictionary

#: CUDA's allocator returns multiples of this, in bytes.
BLOCK = 512

#: The functions that autocast on a GPU computes in the low precision, those that it
#: computes in float32, and those whose result it makes float32. From torch's lists,
#: these are the ones that the models of the configs may call.
LOW_PRECISION = frozenset(
    '__matmul__ addmm baddbmm bmm conv2d conv_transpose2d linear matmul mm '
    'scaled_dot_product_attention'.split()
)
FLOAT32 = frozenset(
    '__pow__ binary_cross_entropy_with_logits cosine_similarity cross_entropy exp '
    'group_norm interpolate kl_div l1_loss layer_norm log logsumexp mse_loss nll_loss '
    'norm pow reciprocal rsqrt smooth_l1_loss softplus'.split()
)
FLOAT32_RESULT = frozenset('cumprod cumsum log_softmax prod softmax sum'.split())


class FakeGPU(TorchDispatchMode):
    """Let fake CUDA tensors train on a machine without a GPU."""

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run an operator."""
        kwargs = dict(kwargs or {})
        if func is torch.ops.prim.device.default:
            # Only C++ asks this way. Told of a GPU, autograd would use its streams.
            device = func(*args)
            return torch.device('meta') if device.type == 'cuda' else device
        if kwargs.get('device') == torch.device('meta'):
            kwargs['device'] = torch.device('cuda')  # C++ passes that answer on.
        if func is torch.ops.aten._local_scalar_dense.default:
            return 1.0  # AdamW reads the number of its step.
        if func is torch.ops.aten.index.Tensor:
            masks = [index for index in args[1] if index is not None]
            if len(masks) == 1 and masks[0].dtype == torch.bool:
                return _select(*args)
        return func(*args, **kwargs)


def _select(x: torch.Tensor, indices: Sequence[torch.Tensor | None]) -> torch.Tensor:
    """Index with a mask as if all of it were set: a fake mask has no data."""
    axis, mask = next((i, m) for i, m in enumerate(indices) if m is not None)
    # The kernel lists the positions, an int64 for each axis, before it selects.
    positions = x.new_empty((mask.numel(), mask.ndim), dtype=torch.int64)
    shape = *x.shape[:axis], mask.numel(), *x.shape[axis + mask.ndim :]
    selected = x.new_empty(shape)
    del positions
    return selected


class GPUFunctions(TorchFunctionMode):
    """Cast the arguments of functions as autocast on a GPU, and use fused attention.

    Args:
        dtype: Dtype of autocast. float32 switches it off.

    Attributes:
        weights: The weights that were cast. Autocast keeps them until the forward pass
            is over.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        self.weights: list[torch.Tensor] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call a function of torch."""
        kwargs = dict(kwargs or {})
        name = getattr(func, '__name__', '')
        if self.dtype != torch.float32 and name in LOW_PRECISION | FLOAT32:
            dtype = self.dtype if name in LOW_PRECISION else torch.float32
            args, kwargs = tree_map_only(
                torch.Tensor, functools.partial(self._cast, dtype), (args, kwargs)
            )
        elif self.dtype != torch.float32 and name in FLOAT32_RESULT:
            if args[0].is_floating_point() and args[0].dtype != torch.float64:
                kwargs['dtype'] = kwargs.get('dtype') or torch.float32
        if func is F.scaled_dot_product_attention and args[0].device.type == 'cuda':
            return _fused_attention(*args, **kwargs)
        if func is F.batch_norm and args[0].numel() == args[0].shape[1]:
            # BN refuses one value per channel. SyncBN would have those of other GPUs.
            kwargs['training'] = False
        return func(*args, **kwargs)

    def _cast(self, dtype: torch.dtype, x: torch.Tensor) -> torch.Tensor:
        if not x.is_floating_point() or x.dtype in (dtype, torch.float64):
            return x
        y = x.to(dtype)
        if x.is_leaf and x.requires_grad:
            self.weights.append(y)
        return y

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that calls ``function`` within this mode."""

        def call(*args: Any) -> Any:
            with self:
                return function(*args)

        return call


def _fused_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, dropout_p: float = 0.0
) -> torch.Tensor:
    """Run the kernel that a GPU would choose: flash attention has no float32."""
    if query.dtype == torch.float32:
        return torch.ops.aten._scaled_dot_product_efficient_attention(
            query, key, value, None, True, dropout_p
        )[0]
    return torch.ops.aten._scaled_dot_product_flash_attention(
        query, key, value, dropout_p
    )[0]


class LiveBytes(TorchDispatchMode):
    """Count the bytes of all storages that are alive on a device.

    Sizes are rounded as CUDA's allocator does. torch's own ``MemTracker`` counts the
    same, which a test checks, but it takes snapshots of every module. That makes a step
    of d5 10 to 16 times as slow, and the search for the largest batch counts dozens of
    steps.

    Args:
        device: Type of the device.

    Attributes:
        live: Bytes that are alive now.
        gradients: Bytes of the parameters' gradients among them. The caller adds them.
        peak: ``live`` and ``gradients`` when ``live`` was largest.
    """

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device = device
        self.live = self.gradients = 0
        self.peak = (0, 0)
        self._seen = WeakIdKeyDictionary()

    def add(self, tensor: torch.Tensor) -> None:
        """Count the storage of a tensor until it is freed."""
        storage = tensor.untyped_storage()
        if tensor.device.type != self.device or storage in self._seen:
            return
        size = rounded(storage.nbytes())
        self._seen[storage] = True
        self.live += size
        weakref.finalize(storage, self._drop, size)

    def _drop(self, size: int) -> None:
        self.live -= size

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run an operator and count the tensors that it returns."""
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self.add(leaf)
        self.peak = max(self.peak, (self.live, self.gradients))
        return result


def rounded(size: int) -> int:
    """Round bytes up to a multiple of :data:`BLOCK`."""
    return -(-size // BLOCK) * BLOCK
