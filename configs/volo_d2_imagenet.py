# VOLO-D2 on ImageNet at 224, 8 GPUs x 128 images. Published: learning rate 1.0e-3,
# drop path 0.2.
_base_ = ['volo_d1_imagenet.py']

model = dict(backbone=dict(arch='d2', drop_path_rate=0.2))
optim_wrapper = dict(optimizer=dict(lr=1.0e-3))
