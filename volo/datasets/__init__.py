"""Datasets and transforms that name the file at fault."""

from .checked import ChecksFiles
from .classification import ImageFolder, ImageNetFolder
from .segmentation import ADE20K, Cityscapes, SegmentationDataset
from .streams import InfiniteStreamSampler, StreamDataset, StreamSampler
from .transforms import CheckSegmentationSample

__all__ = [
    'ADE20K',
    'CheckSegmentationSample',
    'ChecksFiles',
    'Cityscapes',
    'ImageFolder',
    'ImageNetFolder',
    'InfiniteStreamSampler',
    'SegmentationDataset',
    'StreamDataset',
    'StreamSampler',
]
