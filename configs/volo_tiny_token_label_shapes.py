# VOLO-tiny learns to name drawn shapes with token labels, from maps that a VOLO-tiny
# trained by volo_tiny_shapes.py has made: data_root/token_labels.
_base_ = ['volo_tiny_shapes.py']

model = dict(
    type='TokenLabelClassifier',
    mix_token_alpha=0,
    label_smooth_val=0.1,
    head=dict(loss=None),
)
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='TokenLabelDataset',
        label_root='token_labels',
        dataset=_base_.train_dataloader.dataset,
    )
)
