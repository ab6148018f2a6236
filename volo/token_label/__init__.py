"""Token labeling: an annotator's scores for every part of a picture as targets."""

from .maps import LabelMap, LabelMapFolder, label_key, read_label_map, write_label_map

__all__ = [
    'LabelMap',
    'LabelMapFolder',
    'label_key',
    'read_label_map',
    'write_label_map',
]
