"""Read checkpoint files safely, and convert the layouts of their weights."""

from .layouts import convert_state_dict, detect_layout, to_official_layout
from .reading import read_checkpoint, read_weights

__all__ = [
    'convert_state_dict',
    'detect_layout',
    'read_checkpoint',
    'read_weights',
    'to_official_layout',
]
