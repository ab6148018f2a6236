# This project's, for a small dataset: a short schedule on one GPU or CPU.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.01),
    paramwise_cfg=dict(
        norm_decay_mult=0.0, custom_keys=dict(pos_embed=dict(decay_mult=0.0))
    ),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=200),
    dict(type='PolyLR', eta_min=0.0, power=1.0, by_epoch=False, begin=200, end=6000),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=6000, val_interval=500)
auto_scale_lr = dict(base_batch_size=8, enable=False)
