# VOLO-tiny classifies synthetic shapes with token labels. The label maps, in
# data_root/token_labels, come from a model that volo_tiny_shapes.py trained.
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
