# Token labels where the dataset has them, smoothed labels where not, and MixToken.
_base_ = ['volo_classifier.py']

model = dict(
    type='TokenLabelClassifier',
    mix_token_alpha=1.0,
    label_smooth_val=0.1,
    head=dict(loss=None, dense_weight=0.5),
)
