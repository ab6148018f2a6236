# Training with MixToken, and with token labels if the dataset has label maps; else with
# smoothed labels.
_base_ = ['volo_classifier.py']

model = dict(
    type='TokenLabelClassifier',
    mix_token_alpha=1.0,
    label_smooth_val=0.1,
    head=dict(loss=None, dense_weight=0.5),
)
