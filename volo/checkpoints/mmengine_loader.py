"""The safe checkpoint loader for mmengine and the libraries that build on it."""

from typing import Any

from mmengine.runner import CheckpointLoader

from volo.errors import CheckpointError

from .layouts import convert_state_dict, detect_layout
from .reading import read_checkpoint, select_weights
from .trust import is_trusted

#: All of mmengine's schemes: patterns that it matches at the start of a source.
SCHEMES = [
    '',
    'http://',
    'https://',
    'modelzoo://',
    'torchvision://',
    'open-mmlab://',
    'openmmlab://',
    'mmcls://',
    'pavi://',
    r'(\S+\:)?s3://',
    r'(\S+\:)?petrel://',
]

#: Where a checkpoint keeps the text of a config, and where it records that.
_CONFIG_PLACES = [
    ('meta', 'config'),
    ('meta', 'cfg'),
    ('message_hub', 'runtime_info', 'cfg'),
    ('message_hub', 'resumed_keys', 'cfg'),
]


def register_safe_loader() -> None:
    """Make mmengine open every checkpoint through :func:`read_checkpoint`.

    From then on ``mmengine.runner.load_checkpoint``, the Runner, mmsegmentation's
    ``init_model`` and mmpretrain's inferencers execute no code from a file, download
    nothing without its SHA-256, read ``.safetensors``, and accept files of the authors
    and of timm, which are renamed in memory. Checkpoints of other models are returned
    unchanged, except for the text of their config, which is removed.
    """
    CheckpointLoader.register_scheme(SCHEMES, loader=load_from_volo, force=True)


# mmengine logs a loader by its name, after the tenth character.
def load_from_volo(source: str, map_location: Any = None) -> dict[str, Any]:
    """Read a checkpoint for mmengine.

    Args:
        source: As in :func:`volo.checkpoints.fetching.locate`.
        map_location: As in ``torch.load``, but None means the CPU: loading into a
            model copies the weights to its device.

    Returns:
        The checkpoint. A VOLO's has ``meta`` and, in our layout, ``state_dict``.

    Raises:
        CheckpointError: As in :func:`read_checkpoint`, or a file in the authors'
            layout has names that are not those of a VOLO.
    """
    checkpoint = read_checkpoint(source, map_location or 'cpu')
    _drop_configs(checkpoint)
    if source.startswith('mmcls://'):
        return _take_backbone(checkpoint, source)
    try:
        weights = select_weights(checkpoint, source)
        layout = detect_layout(weights)
    except CheckpointError:
        return checkpoint
    if layout == 'volo' and 'state_dict' in checkpoint:
        return {'meta': {}, **checkpoint}
    weights = convert_state_dict(weights, source)
    meta = checkpoint.get('meta')
    return dict(meta=meta if isinstance(meta, dict) else {}, state_dict=weights)


def _drop_configs(checkpoint: dict[str, Any]) -> None:
    """Remove the config texts that mmengine would run as Python.

    The Runner runs one when it resumes; an inferencer without a config runs another.
    Searching them for code is not enough: a config can name any function as a type.
    Every checkpoint of a Runner has such a text, so nothing is logged.
    """
    if is_trusted():
        return
    for *names, key in _CONFIG_PLACES:
        node: Any = checkpoint
        for name in names:
            node = node.get(name) if isinstance(node, dict) else None
        if isinstance(node, dict) and key in node:
            del node[key]


def _take_backbone(checkpoint: dict[str, Any], source: str) -> dict[str, Any]:
    """Return the backbone's weights alone, as mmengine does for ``mmcls://``."""
    weights = select_weights(checkpoint, source)
    return dict(
        state_dict={
            name.removeprefix('backbone.'): value
            for name, value in weights.items()
            if name.startswith('backbone.')
        }
    )
