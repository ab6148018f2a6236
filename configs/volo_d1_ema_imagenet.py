# volo_d1_imagenet.py with averaged weights, which are also the ones evaluated.
_base_ = ['volo_d1_imagenet.py']

custom_hooks = [dict(type='EMAHook', momentum=2e-4, priority='ABOVE_NORMAL')]
