# Samplers and metrics of segmentation; the config of a dataset adds the rest.
train_dataloader = dict(
    persistent_workers=True, sampler=dict(type='InfiniteStreamSampler', shuffle=True)
)
val_dataloader = dict(
    batch_size=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
