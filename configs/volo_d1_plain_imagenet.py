# volo_d1_imagenet.py without label maps: smoothed labels for the class token and for
# every token, with MixToken.
_base_ = [
    '_base_/models/volo_token_label.py',
    '_base_/datasets/imagenet_224.py',
    '_base_/schedules/imagenet_300e.py',
    '_base_/classification_runtime.py',
]
