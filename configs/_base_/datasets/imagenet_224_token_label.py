# With the label maps that the authors of Token Labeling published, unpacked in
# data_root. label_root may also be a packed store (tools/pack_token_labels.py).
_base_ = ['imagenet_224.py']

train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='TokenLabelDataset',
        label_root='label_top5_train_nfnet',
        dataset=_base_.train_dataloader.dataset,
    )
)
