# UPerNet with VOLO-tiny segments synthetic shapes. To start from a classifier:
# --cfg-options model.backbone.init_cfg.type=Pretrained
#     model.backbone.init_cfg.checkpoint=work_dirs/volo_tiny_shapes/epoch_16.pth
_base_ = [
    '_base_/models/upernet_volo_tiny.py',
    '_base_/datasets/shapes_seg.py',
    '_base_/segmentation_runtime.py',
]

crop_size = (64, 64)
norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(img_size=crop_size, norm_cfg=norm_cfg),
    decode_head=dict(num_classes=8, norm_cfg=norm_cfg),
    auxiliary_head=dict(num_classes=8, norm_cfg=norm_cfg),
)
# The backbone has a lower learning rate than the heads because it may be pretrained.
# Such a short training needs no weight decay.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-3, betas=(0.9, 0.98), weight_decay=0.0),
    clip_grad=dict(max_norm=1.0),
    paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.2))),
)
# Their factors multiply. The decay ends with the training.
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, by_epoch=False, begin=0, end=50),
    dict(type='PolyLR', eta_min=0.0, power=1.0, by_epoch=False),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=300, val_interval=50)
auto_scale_lr = dict(base_batch_size=16, enable=False)
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=300))
