# AdamW; 20 epochs of warm-up, cosine to epoch 300, 10 epochs at the final rate.
_base_ = ['adamw.py']

optim_wrapper = dict(
    type='AmpOptimWrapper',
    loss_scale='dynamic',
    optimizer=dict(lr=1.6e-3, weight_decay=0.05),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6 / 1.6e-3, begin=0, end=20),
    dict(type='CosineAnnealingLR', eta_min=1e-5, begin=20, end=300),
]
train_cfg = dict(by_epoch=True, max_epochs=310, val_interval=1)
# The learning rate is for 8 GPUs x 128 pictures.
auto_scale_lr = dict(base_batch_size=1024, enable=False)
