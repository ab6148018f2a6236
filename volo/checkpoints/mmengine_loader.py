"""What mmengine, and all that loads through it, gets to see of a checkpoint."""

from typing import Any

from mmengine.logging import print_log
from mmengine.runner import CheckpointLoader

from volo.errors import CheckpointError

from .layouts import convert_state_dict, detect_layout
from .reading import read_checkpoint, select_weights
from .trust import TRUST_VARIABLE, is_trusted

#: All of mmengine's schemes: patterns that it matches with the beginning of a source.
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

#: Where a checkpoint has the text of a config, and where it says that it has it.
_CONFIG_PLACES = [
    ('meta', 'config'),
    ('meta', 'cfg'),
    ('message_hub', 'runtime_info', 'cfg'),
    ('message_hub', 'resumed_keys', 'cfg'),
]


def register_safe_loader() -> None:
    """Make mmengine open every checkpoint through :func:`read_checkpoint`.

    From then on ``mmengine.runner.load_checkpoint``, the Runner, mmsegmentation's
    ``init_model`` and mmpretrain's inferencers run nothing that a file holds, fetch
    nothing without its SHA-256, read ``.safetensors``, and take files of the authors
    and of timm, which are renamed in memory. Other models' files are handed on as
    they are, but without the text of their config.
    """
    CheckpointLoader.register_scheme(SCHEMES, loader=load_from_volo, force=True)


# mmengine logs a loader by its name, after the tenth character.
def load_from_volo(source: str, map_location: Any = None) -> dict[str, Any]:
    """Open a checkpoint for mmengine.

    Args:
        source: As in :func:`volo.checkpoints.fetching.locate`.
        map_location: As in ``torch.load``, but None means the CPU: a model's
            weights are copied to where the model is.

    Returns:
        The checkpoint; a VOLO's has ``meta`` and, in our layout, ``state_dict``.

    Raises:
        CheckpointError: As in :func:`read_checkpoint`, or an official file has
            names that are not a VOLO's.
    """
    checkpoint = read_checkpoint(source, map_location or 'cpu')
    _drop_configs(checkpoint, source)
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
    return dict(meta=checkpoint.get('meta') or {}, state_dict=weights)


def _drop_configs(checkpoint: dict[str, Any], source: str) -> None:
    """Take away the texts that mmengine would run as Python.

    The Runner runs one when it resumes, and an inferencer without a config another.
    To look for code in them would not do: a config can name any function as a type.
    """
    if is_trusted():
        return
    dropped = False
    for *names, key in _CONFIG_PLACES:
        node: Any = checkpoint
        for name in names:
            node = node.get(name) if isinstance(node, dict) else None
        if isinstance(node, dict) and key in node:
            del node[key]
            dropped = True
    if dropped:
        print_log(
            f'{source}: the config in it is left out, since mmengine would run it '
            f'({TRUST_VARIABLE}=1 keeps it)',
            logger='current',
        )


def _take_backbone(checkpoint: dict[str, Any], source: str) -> dict[str, Any]:
    """Name the weights as mmengine does for ``mmcls://``: a bare backbone's."""
    weights = select_weights(checkpoint, source)
    return dict(
        state_dict={
            name.removeprefix('backbone.'): value
            for name, value in weights.items()
            if name.startswith('backbone.')
        }
    )
