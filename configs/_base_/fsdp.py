# FSDP in place of DDP: parameters, gradients and the optimizer's state are shared out
# among the GPUs. Behind any recipe:
# _base_ = ['volo_d5_imagenet.py', '_base_/fsdp.py']
runner_type = 'FlexibleRunner'
strategy = dict(type='VOLOFSDPStrategy')
