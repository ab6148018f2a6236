# With the label maps that the authors of Token Labeling published, unpacked in
# data_root. label_root may also be a packed store (tools/pack_token_labels.py).
_base_ = ['imagenet_224.py']

# The authors' order with label maps: augment the whole image, then crop.
before_random_crop = [_base_.load_image, *_base_.flip_and_augment]
after_random_crop = [_base_.erase, _base_.pack_inputs]
train_pipeline = [
    *before_random_crop,
    _base_.random_resized_crop,
    *after_random_crop,
]
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='TokenLabelDataset',
        label_root='label_top5_train_nfnet',
        dataset=dict(_base_.train_dataloader.dataset, pipeline=train_pipeline),
    )
)
