"""Transforms of our own."""

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS

from volo.errors import DataError

from .masks import label_finding, shape_finding


@TRANSFORMS.register_module()
class CheckSegmentationSample(BaseTransform):
    """Refuse a mask that does not belong to its image, right after both are loaded.

    Otherwise a label out of range ends in an assertion of a GPU kernel that names
    nothing, and a mask of another size is accepted silently. Samples without a mask
    (inference) pass.
    """

    def transform(self, results: dict) -> dict:
        """Check ``gt_seg_map`` (H, W) against ``ori_shape`` and the classes.

        Raises:
            DataError: Another size than the image's, or a label out of range.
        """
        mask = results.get('gt_seg_map')
        if mask is None:
            return results
        path = results['seg_map_path']
        finding = shape_finding(
            path, mask, results['img_path'], tuple(results['ori_shape'])
        )
        num_classes = results.get('num_classes')
        if finding is None and num_classes is not None:
            # Counting takes ten times as long: only for what is out of range.
            bad = mask[(mask >= num_classes) & (mask != results['ignore_index'])]
            if bad.size:
                counts = np.bincount(bad, minlength=256)
                finding = label_finding(path, counts, results)
        if finding:
            raise DataError(str(finding))
        return results
