# VOLO-D4 on ImageNet at 224, 8 GPUs x 128 images. The authors published no recipe
# for it; this is the one of d3, with drop path 0.5.
_base_ = [
    '_base_/models/volo_token_label.py',
    '_base_/datasets/imagenet_224_pad_token_label.py',
    '_base_/schedules/imagenet_300e.py',
    '_base_/classification_runtime.py',
]

model = dict(backbone=dict(arch='d4', drop_path_rate=0.5))
optim_wrapper = dict(optimizer=dict(lr=1.0e-3))
