# VOLO-tiny on CIFAR-10 with plain labels, small enough to train on a CPU.
_base_ = [
    '_base_/models/volo_tiny_classifier.py',
    '_base_/datasets/cifar10_64.py',
    '_base_/schedules/adamw.py',
    '_base_/classification_runtime.py',
]

model = dict(backbone=dict(img_size=64), head=dict(num_classes=10))
optim_wrapper = dict(optimizer=dict(lr=1e-3, weight_decay=0.05))
param_scheduler = [
    dict(
        type='LinearLR', start_factor=1e-3, begin=0, end=5, convert_to_iter_based=True
    ),
    dict(type='CosineAnnealingLR', eta_min=1e-6, begin=5, end=60),
]
train_cfg = dict(by_epoch=True, max_epochs=60, val_interval=5)
auto_scale_lr = dict(base_batch_size=64, enable=False)
