"""Transforms of our own."""

from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS

from volo.errors import DataError


@TRANSFORMS.register_module()
class CheckSegmentationSample(BaseTransform):
    """Refuse a mask that does not belong to its picture, right after both are loaded.

    Otherwise a label out of range ends in an assertion of a GPU kernel that names
    nothing, and a mask of another size is accepted silently. Samples without a mask
    (inference) pass.
    """

    def transform(self, results: dict) -> dict:
        """Check ``gt_seg_map`` (H, W) against ``ori_shape`` and the classes.

        Raises:
            DataError: Another size than the picture's, or a label out of range.
        """
        mask = results.get('gt_seg_map')
        if mask is None:
            return results
        path = results['seg_map_path']
        height, width = results['ori_shape']
        if mask.shape != (height, width):
            raise DataError(
                f'{path}: the mask has shape {mask.shape} (height, width), its picture '
                f'{results["img_path"]} is {height}x{width}. A mask has one channel '
                'and the size of its picture'
            )
        num_classes = results.get('num_classes')
        if num_classes is None:
            return results
        bad = mask[(mask >= num_classes) & (mask != results['ignore_index'])]
        if bad.size:
            raise DataError(
                f'{path}: label {bad.max()} on {bad.size} pixels, but there are '
                f'{num_classes} classes (0 to {num_classes - 1}) and '
                f'{results["ignore_index"]} means ignored. Mend the mask, or list the '
                "value in the data set's void_labels"
            )
        return results
