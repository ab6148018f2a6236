# volo_d1_imagenet.py with averaged weights (EMA), which validation uses. As in the
# authors' code, the decay is 0.99992, and the statistics of batch norms are averaged.
_base_ = ['volo_d1_imagenet.py']

custom_hooks = [
    dict(type='EMAHook', momentum=8e-5, update_buffers=True, priority='ABOVE_NORMAL')
]
