# VOLO-D1 on ImageNet at 224, the published recipe: token labels, MixToken, RandAugment
# rand-m9-mstd0.5-inc1, random erasing 0.25. 8 GPUs x 128 = 1024 images per step; for
# other numbers, --auto-scale-lr scales the learning rate.
_base_ = [
    '_base_/models/volo_token_label.py',
    '_base_/datasets/imagenet_224_token_label.py',
    '_base_/schedules/imagenet_300e.py',
    '_base_/classification_runtime.py',
]
