# The label maps that the Token Labeling authors published, unpacked below data_root; a
# packed store (tools/pack_token_labels.py) goes by the same key.
_base_ = ['imagenet_224.py']

train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='TokenLabelDataset',
        label_root='label_top5_train_nfnet',
        dataset=_base_.train_dataloader.dataset,
    )
)
