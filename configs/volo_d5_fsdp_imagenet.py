# volo_d5_imagenet.py with FSDP instead of DDP and with activation checkpointing.
_base_ = ['volo_d5_imagenet.py', '_base_/fsdp.py']

model = dict(backbone=dict(with_cp=True))
