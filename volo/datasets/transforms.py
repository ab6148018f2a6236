"""Transforms that check a loaded sample."""

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS

from volo.errors import DataError

from .checks import LoadedSize
from .masks import label_finding, shape_finding


@TRANSFORMS.register_module()
class CheckSegmentationSample(BaseTransform):
    """Check that a mask fits its image and the classes, right after loading.

    Without it, a label out of range ends in an assertion of a GPU kernel that names no
    file, and a mask of another size is accepted silently. Samples without a mask
    (inference) pass.
    """

    def transform(self, results: dict) -> dict:
        """Check ``gt_seg_map`` (H, W) against ``ori_shape`` and the classes.

        Raises:
            DataError: The mask has another size than the image, or a label is out of
                range.
        """
        mask = results.get('gt_seg_map')
        if mask is None:
            return results
        path = results['seg_map_path']
        size = LoadedSize(*results['ori_shape'][:2])
        finding = shape_finding(path, mask, results['img_path'], size)
        num_classes = results.get('num_classes')
        if finding is None and num_classes is not None:
            # Counting all pixels would take ten times as long.
            bad = mask[(mask >= num_classes) & (mask != results['ignore_index'])]
            if bad.size:
                counts = np.bincount(bad, minlength=256)
                finding = label_finding(path, counts, results)
        if finding:
            raise DataError(str(finding))
        return results
