"""Clear errors for missing and broken files, for any OpenMMLab dataset."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log

from volo.errors import DataError

from .checks import Loading, decoding_finding, header_finding, read_file
from .findings import Finding
from .masks import decode_mask, mask_depth_finding, read_mask
from .streams import SeededByPosition


class ChecksFiles(SeededByPosition, BaseDataset):
    """Mixin in front of an mmengine dataset whose errors name the file at fault.

    Args:
        skip_broken: Replace a training sample whose files are broken by a random other
            one. Skip number 1, 10, 100 ... is logged. For ``train_dataloader`` only: a
            dataset in ``test_mode`` never skips, but one that is evaluated without
            that mode would.
        args: As in the dataset behind.
        kwargs: As in the dataset behind.
    """

    def __init__(self, *args: Any, skip_broken: bool = False, **kwargs: Any) -> None:
        self.skip_broken = skip_broken
        # Shared memory, so that all workers count together.
        self._skipped = torch.zeros((), dtype=torch.int64)
        if skip_broken:
            self._skipped.share_memory_()
        super().__init__(*args, **kwargs)

    @property
    def skipped(self) -> int:
        """Number of broken samples that all workers skipped so far."""
        return int(self._skipped)

    def load_data_list(self) -> list[dict]:
        """List the samples.

        Raises:
            DataError: A folder is missing or holds no samples.
        """
        folders = [self.data_root, *self.data_prefix.values()]
        for folder in filter(None, folders):
            if '://' not in folder and not Path(folder).is_dir():
                raise DataError(
                    f'{folder}: no such folder ({type(self).__name__}). Put the data '
                    'there, or set its location with --cfg-options data_root=FOLDER'
                )
        try:
            samples = super().load_data_list()
        except (OSError, RuntimeError, AssertionError) as error:
            raise DataError(f'{self._image_folder()}: {error}') from error
        if not samples:
            raise DataError(
                f'{self._image_folder()}: no images found. Check the suffix and the '
                'folder'
            )
        return samples

    def prepare_data(self, idx: int) -> dict | None:
        """Load a sample and run the pipeline on it.

        Returns:
            The sample. None if it is broken and ``skip_broken`` is set: mmengine then
            takes another one.

        Raises:
            DataError: A file of the sample is missing or broken.
        """
        try:
            return self._prepare_checked(idx)
        except DataError as error:
            if self.test_mode or not self.skip_broken:
                raise
            self._skipped += 1
            count = self.skipped
            if str(count).strip('0') == '1':
                print_log(
                    f'skip_broken: {count} skipped so far, now because of {error}',
                    logger='current',
                    level=logging.WARNING,
                )
            return None

    def _prepare_checked(self, idx: int) -> dict:
        info = self.get_data_info(idx)
        loading = Loading.of(self)
        finding = _refused_file(info, loading)
        if finding:
            raise DataError(str(finding))
        try:
            return super().prepare_data(idx)
        except DataError:
            raise
        # Given broken bytes, decoders raise whatever their parsers run into.
        except Exception as error:
            finding = _broken_file(info, loading)
            if finding:
                raise DataError(str(finding)) from error
            raise

    def _image_folder(self) -> str:
        return next(filter(None, self.data_prefix.values()), self.data_root)


def _refused_file(info: Mapping, loading: Loading) -> Finding | None:
    """Find a file that must not be loaded, or not without losing values.

    Args:
        info: What the dataset knows of the sample.
        loading: How the dataset reads its files.
    """
    image, mask = info.get('img_path'), info.get('seg_map_path')
    finding = header_finding(image) if image else None
    if finding and (finding.kind != 'image-depth' or loading.eight_bits):
        return finding
    if not mask:
        return None
    finding = header_finding(mask)
    if finding and finding.kind == 'image-depth':
        array = decode_mask(mask, Path(mask).read_bytes(), loading)
        return array if isinstance(array, Finding) else mask_depth_finding(mask, array)
    return finding


def _broken_file(info: Mapping, loading: Loading) -> Finding | None:
    """Find the file of a sample that cannot be decoded.

    Args:
        info: What the dataset knows of the sample.
        loading: How the dataset reads its files.
    """
    image, mask = info.get('img_path') or '', info.get('seg_map_path')
    for path, backend in (image, loading.image_backend), (mask, loading.mask_backend):
        if not path:
            continue
        content = read_file(path) if path == image else read_mask(path, image)
        if isinstance(content, Finding):
            return content
        finding = decoding_finding(path, content, backend)
        if finding:
            return finding
    return None
