# Samplers and metrics of classification; the config of a dataset adds the rest.
train_dataloader = dict(
    persistent_workers=True, sampler=dict(type='StreamSampler', shuffle=True)
)
val_dataloader = dict(
    persistent_workers=True, sampler=dict(type='DefaultSampler', shuffle=False)
)
test_dataloader = val_dataloader
val_evaluator = dict(type='TopKAccuracy', topk=(1, 5))
test_evaluator = val_evaluator
