"""What fake tensors need to train as on a GPU, on a machine without one.

Fake tensors have shape, dtype and device, and no numbers. What needs a driver is
imitated: autocast for GPUs and the choice of fused attention kernels in
:class:`GPUFunctions`, and streams in :class:`FakeGPU`. :class:`LiveBytes` adds up what
lives, rounded as CUDA's allocator does.
"""

import functools
import weakref
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.weak import WeakIdKeyDictionary

#: CUDA's allocator hands out multiples of it, in bytes.
BLOCK = 512

#: What autocast for GPUs computes in the low precision, what in float32, and what it
#: only gives a float32 result: of torch's lists what the configs' models may call.
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
    """Let fake tensors of a GPU train on a machine without one."""

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        """Run an operator."""
        kwargs = dict(kwargs or {})
        if func is torch.ops.prim.device.default:
            # So asks C++ alone. Autograd would take the streams of a GPU.
            device = func(*args)
            return torch.device('meta') if device.type == 'cuda' else device
        if kwargs.get('device') == torch.device('meta'):
            kwargs['device'] = torch.device('cuda')  # The answer, handed on.
        if func is torch.ops.aten._local_scalar_dense.default:
            return 1.0  # Which step it is, for AdamW.
        if func is torch.ops.aten.index.Tensor:
            masks = [index for index in args[1] if index is not None]
            if len(masks) == 1 and masks[0].dtype == torch.bool:
                return _select(*args)
        return func(*args, **kwargs)


def _select(x: torch.Tensor, indices: Sequence[torch.Tensor | None]) -> torch.Tensor:
    """Index with a mask as if all of it were set: fake ones have no numbers."""
    axis = next(i for i, index in enumerate(indices) if index is not None)
    mask = indices[axis]
    # The kernel lists the places, an int64 for each axis, before it selects.
    places = x.new_empty((mask.numel(), mask.ndim), dtype=torch.int64)
    shape = *x.shape[:axis], mask.numel(), *x.shape[axis + mask.ndim :]
    selected = x.new_empty(shape)
    del places
    return selected


class GPUFunctions(TorchFunctionMode):
    """Do to functions what a GPU's autocast does, and take fused attention.

    Args:
        dtype: Of autocast; none for float32.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        # Autocast keeps what it made of weights until the forward pass is over.
        self.weights: list[torch.Tensor] = []

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        """Call a function of torch."""
        kwargs = dict(kwargs or {})
        name = getattr(func, '__name__', '')
        if self.dtype != torch.float32 and name in LOW_PRECISION | FLOAT32:
            dtype = self.dtype if name in LOW_PRECISION else torch.float32
            args, kwargs = tree_map_only(
                torch.Tensor, functools.partial(self._cast, dtype), (args, kwargs)
            )
        elif self.dtype != torch.float32 and name in FLOAT32_RESULT:
            if args[0].is_floating_point():
                kwargs['dtype'] = kwargs.get('dtype') or torch.float32
        if func is F.scaled_dot_product_attention and args[0].device.type == 'cuda':
            return _fused_attention(*args, **kwargs)
        if func is F.batch_norm and args[0].numel() == args[0].shape[1]:
            # BN refuses one value a channel, SyncBN has the other GPUs' as well.
            kwargs['training'] = False
        return func(*args, **kwargs)

    def _cast(self, dtype: torch.dtype, x: torch.Tensor) -> torch.Tensor:
        if not x.is_floating_point() or x.dtype in (dtype, torch.float64):
            return x
        y = x.to(dtype)
        if x.is_leaf and x.requires_grad:
            self.weights.append(y)
        return y

    def around(self, function: Callable[..., object]) -> Callable[..., object]:
        """Return the function, called with this mode."""

        def call(*args: object) -> object:
            with self:
                return function(*args)

        return call


def _fused_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, dropout_p: float = 0.0
) -> torch.Tensor:
    """Keep output and log-sums, as every fused kernel does; float32 is not flash's."""
    if query.dtype == torch.float32:
        return torch.ops.aten._scaled_dot_product_efficient_attention(
            query, key, value, None, True, dropout_p
        )[0]
    return torch.ops.aten._scaled_dot_product_flash_attention(
        query, key, value, dropout_p
    )[0]


class LiveBytes(TorchDispatchMode):
    """Count the bytes that live on a device.

    Args:
        device: Type of the device.

    Attributes:
        live: Now.
        gradients: Of the parameters, of ``live``.
        peak: ``live`` and ``gradients`` when ``live`` was largest.
    """

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device = device
        self.live = self.gradients = 0
        self.peak = (0, 0)
        self._seen = WeakIdKeyDictionary()

    def add(self, tensor: torch.Tensor) -> None:
        """Count a tensor's storage until it is freed."""
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
        func: Callable[..., object],
        types: Sequence[type],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        """Run an operator and count what it returns."""
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self.add(leaf)
        self.peak = max(self.peak, (self.live, self.gradients))
        return result


def rounded(size: int) -> int:
    """Round bytes up to :data:`BLOCK`."""
    return -(-size // BLOCK) * BLOCK
