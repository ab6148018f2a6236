# FSDP instead of DDP: every GPU holds a shard of the parameters, the gradients and the
# optimizer's state. Add it to any recipe:
# _base_ = ['volo_d5_imagenet.py', '_base_/fsdp.py']
runner_type = 'FlexibleRunner'
strategy = dict(type='VOLOFSDPStrategy')
