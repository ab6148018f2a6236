# volo_d1_imagenet.py with averaged weights (EMA); validation uses the averaged ones.
_base_ = ['volo_d1_imagenet.py']

custom_hooks = [dict(type='EMAHook', momentum=2e-4, priority='ABOVE_NORMAL')]
