# UPerNet with VOLO-D1 on ADE20K, 512x512 crops, 8 GPUs x 2 images, 160k iterations.
# The authors report mIoU 50.5 (multi-scale). Start from ImageNet weights as
# described in volo_d1_upernet_cityscapes.py.
_base_ = [
    '_base_/models/upernet_volo_d1.py',
    '_base_/datasets/ade20k_512x512.py',
    '_base_/schedules/upernet_160k.py',
    '_base_/segmentation_runtime.py',
]

crop_size = (512, 512)
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(img_size=crop_size),
    decode_head=dict(num_classes=150),
    auxiliary_head=dict(num_classes=150),
    # Windows overlap: the stride is two thirds of their size.
    test_cfg=dict(mode='slide', crop_size=crop_size, stride=(341, 341)),
)
default_hooks = dict(checkpoint=dict(interval=16000))
auto_scale_lr = dict(base_batch_size=16, enable=False)
