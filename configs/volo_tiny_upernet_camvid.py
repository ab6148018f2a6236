# UPerNet with VOLO-tiny on CamVid, from scratch on a CPU: about 50 minutes of one
# core's time, so the crops are small.
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
)
train_pipeline = [
    dict(type='LoadImageFromFile', imdecode_backend='pillow'),
    dict(type='LoadAnnotations'),
    dict(type='CheckSegmentationSample'),
    dict(
        type='RandomResize', scale=(480, 360), ratio_range=(0.75, 1.5), keep_ratio=True
    ),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
default_hooks = dict(checkpoint=dict(interval=400))
