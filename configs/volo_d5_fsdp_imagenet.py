# volo_d5_imagenet.py with FSDP in place of DDP, and activations recomputed.
_base_ = ['volo_d5_imagenet.py', '_base_/fsdp.py']

model = dict(backbone=dict(with_cp=True))
