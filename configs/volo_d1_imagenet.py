# VOLO-D1 on ImageNet at 224: the authors' schedule and augmentation, trained with
# plain (smoothed) labels for the class token and for every token.
_base_ = [
    '_base_/models/volo_classifier.py',
    '_base_/datasets/imagenet_224.py',
    '_base_/schedules/imagenet_300e.py',
    '_base_/classification_runtime.py',
]
