# volo_d1_imagenet.py without label maps: the smoothed label is the target of the class
# token and of every token. With MixToken.
_base_ = [
    '_base_/models/volo_token_label.py',
    '_base_/datasets/imagenet_224.py',
    '_base_/schedules/imagenet_300e.py',
    '_base_/classification_runtime.py',
]
