"""Datasets that name the file at fault, and their transforms."""

from .augmentation import NormalizedErasing, TimmRandAugment
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
    'NormalizedErasing',
    'SegmentationDataset',
    'StreamDataset',
    'StreamSampler',
    'TimmRandAugment',
]
