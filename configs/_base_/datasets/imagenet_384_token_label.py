# ImageNet at 384. Crop ratio 0.96: the short side is resized to 384 / 0.96 = 400.
_base_ = ['imagenet_224_token_label.py']

resized_crop = dict(_base_.resized_crop, scale=384)
random_resized_crop = dict(
    type='RandomChoice',
    transforms=[[dict(resized_crop, interpolation=i)] for i in _base_.interpolations],
)
train_pipeline = [
    *_base_.before_random_crop,
    random_resized_crop,
    *_base_.after_random_crop,
]
resize = dict(_base_.resize, size=400)
center_crop = dict(_base_.center_crop, size=384)
test_pipeline = [
    *_base_.before_resize,
    resize,
    center_crop,
    *_base_.after_center_crop,
]
train_dataloader = dict(
    batch_size=64, dataset=dict(dataset=dict(pipeline=train_pipeline))
)
val_dataloader = dict(batch_size=64, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
