# Ours: 52 epochs of CamVid's 367 pictures at batch 8. From scratch, a small model
# takes a higher rate than a pretrained one.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
    paramwise_cfg=dict(
        norm_decay_mult=0.0, custom_keys=dict(pos_embed=dict(decay_mult=0.0))
    ),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=100),
    dict(type='PolyLR', eta_min=0.0, power=1.0, by_epoch=False, begin=100, end=2400),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=2400, val_interval=400)
auto_scale_lr = dict(base_batch_size=8, enable=False)
