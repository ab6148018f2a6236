# Crop ratio 1.15, the larger models': the short side is resized to 224 / 1.15 = 194,
# and the crop pads it with black.
_base_ = ['imagenet_224_token_label.py']

test_pipeline = _base_.test_pipeline
test_pipeline[2].size = 194
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
