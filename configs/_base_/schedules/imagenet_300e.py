# AdamW with a cosine schedule: 300 epochs, the first 20 of them warm-up from 1e-6, then
# 10 epochs at 1e-5. Published learning rate: 1.6e-3 for d1, 1.0e-3 for d2 and d3.
_base_ = ['adamw.py']

optim_wrapper = dict(
    type='AmpOptimWrapper',
    loss_scale='dynamic',
    optimizer=dict(lr=1.6e-3, weight_decay=0.05),
)
param_scheduler = dict(
    type='WarmupCosineLR', T_max=300, warmup=20, warmup_lr=1e-6, eta_min=1e-5
)
train_cfg = dict(by_epoch=True, max_epochs=310, val_interval=1)
# The learning rate is for 8 GPUs x 128 images.
auto_scale_lr = dict(base_batch_size=1024, enable=False)
