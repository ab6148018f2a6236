"""What an exported file says about itself."""

import hashlib
import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from volo.version import __version__

from .graph import Graph
from .loading import class_names
from .preprocessing import read_rule

_PACKAGES = ('torch', 'onnx', 'onnxscript', 'onnxruntime', 'openvino')


def describe(
    cfg: Config,
    model: Any,
    graph: Graph,
    dataset_meta: Mapping[str, Any],
    size: tuple[int, int] | None,
) -> dict[str, Any]:
    """Describe an exported model, in JSON types.

    Args:
        cfg: Its config.
        model: The model.
        graph: What is exported of it.
        dataset_meta: From :func:`volo.deploy.loading.load_model`.
        size: Height and width in pixels that the file takes; None: any.
    """
    head = model.head if graph.task == 'classification' else model.decode_head
    classes, palette = class_names(cfg, dataset_meta, head.num_classes)
    test_cfg = getattr(model, 'test_cfg', None) or {}
    return dict(
        task=graph.task,
        config=Path(cfg.filename).name,
        classes=classes,
        palette=palette,
        input=dict(
            name='images',
            layout='batch, height, width, channel',
            dtype='uint8',
            colors='RGB',
            size=list(size) if size else None,
        ),
        outputs=list(graph.output_names),
        mean=graph.preprocessing.mean.flatten().tolist(),
        std=graph.preprocessing.std.flatten().tolist(),
        mean_and_std_are='RGB' if graph.preprocessing.takes_rgb else 'BGR',
        pad_to_multiples_of=graph.preprocessing.divisor,
        upright=loads_upright(cfg),
        resize=test_rule(cfg),
        inference={
            key: list(value) if isinstance(value, tuple) else value
            for key, value in test_cfg.items()
            if key in ('mode', 'crop_size', 'stride')
        },
        # Of the probability of the second class, where the network has one output.
        threshold=getattr(head, 'threshold', None),
        align_corners=bool(getattr(model, 'align_corners', False)),
        weights_sha256=hash_weights(model.state_dict()),
        versions=_versions(),
    )


def test_rule(cfg: Config) -> dict[str, Any]:
    """Read how the test pipeline of a config resizes and crops.

    Returns:
        From :func:`volo.deploy.preprocessing.read_rule`.
    """
    loader = cfg.get('test_dataloader') or cfg.get('val_dataloader') or {}
    return read_rule((loader.get('dataset') or {}).get('pipeline') or ())


def loads_upright(cfg: Config) -> bool:
    """Return whether the test pipeline of a config rotates images as EXIF says."""
    loader = cfg.get('test_dataloader') or cfg.get('val_dataloader') or {}
    pipeline: Any = (loader.get('dataset') or {}).get('pipeline') or [{}]
    return pipeline[0].get('color_type', 'color') == 'color'


def hash_weights(weights: Mapping[str, torch.Tensor]) -> str:
    """Compute the SHA-256 of names, dtypes, shapes and values, sorted by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(f'{name} {tensor.dtype} {tuple(tensor.shape)}\n'.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _versions() -> dict[str, str]:
    versions = dict(volo=__version__)
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
