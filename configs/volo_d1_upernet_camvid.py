# UPerNet with VOLO-D1 on CamVid, batch size 8. Start from ImageNet weights as described
# in volo_d1_upernet_cityscapes.py.
_base_ = [
    '_base_/models/upernet_volo_d1.py',
    '_base_/datasets/camvid.py',
    '_base_/segmentation_runtime.py',
    '_base_/schedules/camvid_6k.py',
]

crop_size = (352, 352)
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(img_size=crop_size),
    decode_head=dict(num_classes=11),
    auxiliary_head=dict(num_classes=11),
    # The images are larger than the crops that pos_embed was trained on.
    test_cfg=dict(mode='slide', crop_size=crop_size, stride=(234, 234)),
)
default_hooks = dict(checkpoint=dict(interval=500))
