# UPerNet with VOLO-tiny on CamVid, from random weights. Crops are small so that a CPU
# trains it: about 50 minutes on one core.
_base_ = [
    '_base_/models/upernet_volo_tiny.py',
    '_base_/datasets/camvid.py',
    '_base_/segmentation_runtime.py',
    '_base_/schedules/camvid_2400.py',
]

crop_size = (256, 256)
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(img_size=crop_size),
    decode_head=dict(num_classes=11),
    auxiliary_head=dict(num_classes=11),
    # The images are larger than the crops that pos_embed was trained on.
    test_cfg=dict(mode='slide', crop_size=crop_size, stride=(170, 170)),
)
train_pipeline = [
    _base_.load_image,
    *_base_.load_masks,
    dict(_base_.random_resize, ratio_range=(0.75, 1.5)),
    dict(_base_.random_crop, crop_size=crop_size),
    *_base_.after_random_crop,
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
default_hooks = dict(checkpoint=dict(interval=400))
