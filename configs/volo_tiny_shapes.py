# VOLO-tiny classifies synthetic shapes: a few minutes on two CPU cores.
_base_ = [
    '_base_/models/volo_tiny_classifier.py',
    '_base_/datasets/shapes.py',
    '_base_/schedules/adamw.py',
    '_base_/classification_runtime.py',
]

model = dict(backbone=dict(img_size=64), head=dict(num_classes=7))
# beta2 and the batch size are small because there are few steps.
optim_wrapper = dict(
    optimizer=dict(lr=7e-4, betas=(0.9, 0.98), weight_decay=0.05),
    clip_grad=dict(max_norm=1.0),
)
# Their factors multiply. The cosine ends with the training.
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, by_epoch=False, begin=0, end=200),
    dict(type='CosineAnnealingLR', eta_min=1e-6, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=16, val_interval=1)
auto_scale_lr = dict(base_batch_size=16, enable=False)
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=16))
