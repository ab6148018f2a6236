# This project's: 52 epochs of CamVid's 367 images at batch size 8. A small model from
# random weights takes a higher learning rate than a pretrained one.
_base_ = ['camvid_6k.py']

optim_wrapper = dict(optimizer=dict(lr=1e-3, weight_decay=0.05))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=100),
    dict(type='PolyLR', eta_min=0.0, power=1.0, by_epoch=False, begin=100, end=2400),
]
train_cfg = dict(max_iters=2400, val_interval=400)
