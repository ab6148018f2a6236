# Published: 30 epochs, the learning rate from 8e-6 to 4e-6, the first 5 epochs warm-up
# from 1e-6, then 10 epochs at 4e-6; almost no weight decay.
_base_ = ['imagenet_300e.py']

optim_wrapper = dict(optimizer=dict(lr=8e-6, weight_decay=1e-8))
param_scheduler = dict(T_max=30, warmup=5, eta_min=4e-6)
train_cfg = dict(max_epochs=40)
# The learning rate is for 8 GPUs x 64 images.
auto_scale_lr = dict(base_batch_size=512)
