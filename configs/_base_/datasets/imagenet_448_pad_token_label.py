# Crop ratio 1.15: 448 / 1.15 = 389, and the crop pads with black.
_base_ = ['imagenet_448_token_label.py']

test_pipeline = _base_.test_pipeline
test_pipeline[2].size = 389
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
