"""Token labeling: an annotator's scores of every part of an image are its targets."""

from .dataset import TokenLabel, TokenLabelDataset
from .folder_writer import FolderWriter
from .maps import LabelMap, LabelMapFolder, label_key, read_label_map, write_label_map
from .packed import PackedLabelMaps, open_label_maps
from .packed_writer import PackedWriter
from .targets import SoftTargets, label_map_targets, label_targets

__all__ = [
    'FolderWriter',
    'LabelMap',
    'LabelMapFolder',
    'PackedLabelMaps',
    'PackedWriter',
    'SoftTargets',
    'TokenLabel',
    'TokenLabelDataset',
    'label_key',
    'label_map_targets',
    'label_targets',
    'open_label_maps',
    'read_label_map',
    'write_label_map',
]
