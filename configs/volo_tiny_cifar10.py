# VOLO-tiny on CIFAR-10 with plain labels: learns something on a CPU.
_base_ = [
    '_base_/models/volo_tiny_classifier.py',
    '_base_/datasets/cifar10_64.py',
    '_base_/classification_runtime.py',
]

model = dict(backbone=dict(img_size=64), head=dict(num_classes=10))
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys=dict(
            pos_embed=dict(decay_mult=0.0), cls_token=dict(decay_mult=0.0)
        ),
    ),
)
param_scheduler = [
    dict(
        type='LinearLR', start_factor=1e-3, begin=0, end=5, convert_to_iter_based=True
    ),
    dict(type='CosineAnnealingLR', eta_min=1e-6, begin=5, end=60),
]
train_cfg = dict(by_epoch=True, max_epochs=60, val_interval=5)
auto_scale_lr = dict(base_batch_size=64, enable=False)
