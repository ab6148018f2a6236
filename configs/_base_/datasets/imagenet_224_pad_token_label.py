# Crop ratio 1.15, for d4 and d5: the short side is resized to 224 / 1.15 = 194, and the
# center crop pads with black.
_base_ = ['imagenet_224_token_label.py']

test_pipeline = [
    *_base_.before_resize,
    dict(_base_.resize, size=194),
    _base_.center_crop,
    *_base_.after_center_crop,
]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
