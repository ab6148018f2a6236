# Fine-tune VOLO-D1 on your own images, one folder per class; docs/own_data.md is the
# guide. Copy this file within configs/ and change the lines marked CHANGE.
#
#   data_root/{train,val}/CLASS/*.jpg (or jpeg, png, bmp, ppm, pgm, tif)
_base_ = [
    '_base_/models/volo_classifier.py',  # on a CPU: volo_tiny_classifier.py
    '_base_/datasets/classification_loaders.py',
    '_base_/schedules/adamw.py',
    '_base_/classification_runtime.py',
]

# CHANGE: the folder of the images, or --cfg-options data_root=FOLDER.
data_root = 'data/my_images/'
# CHANGE: the names of the folders. Everything else follows from them. They are sorted,
# because labels are numbered in the order of the sorted folders.
classes = tuple(sorted(('bird', 'cat', 'dog')))
# CHANGE if some classes are rare: the weight of each class in the loss, in the order of
# `classes`, for instance [1.0, 1.0, 5.0].
class_weight = None
# CHANGE if 224 is too small or too large for the images: side of the square in pixels.
img_size = 224
# CHANGE to your weights: the authors', timm's or your own, or --cfg-options
# load_from=FILE, or None for random weights. Their number of classes may differ.
load_from = 'd1_224_84.2.pth.tar'

# ImageClassifier with smoothed labels, not TokenLabelClassifier: MixToken needs long
# training and does not support class weights. docs/token_labels.md describes the other.
model = dict(
    backbone=dict(
        img_size=img_size,
        # CHANGE if there are few images: 0 to 4, see VOLO. The stem and that many
        # stages keep their weights.
        frozen_stages=-1,
    ),
    head=dict(num_classes=len(classes), loss=dict(class_weight=class_weight)),
)

# CHANGE: remove what changes the class of your images, for instance flips of digits.
train_pipeline = [
    dict(type='LoadImageFromFile', imdecode_backend='pillow'),
    dict(
        type='RandomResizedCrop',
        scale=img_size,
        crop_ratio_range=(0.35, 1.0),
        backend='pillow',
        interpolation='bicubic',
    ),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='ColorJitter', brightness=0.3, contrast=0.3, saturation=0.3),
    dict(type='PackInputs'),
]
# Crop ratio 0.96, as for ImageNet.
test_pipeline = [
    dict(type='LoadImageFromFile', imdecode_backend='pillow'),
    dict(
        type='ResizeEdge',
        scale=round(img_size / 0.96),
        edge='short',
        backend='pillow',
        interpolation='bicubic',
    ),
    dict(type='CenterCrop', crop_size=img_size),
    dict(type='PackInputs'),
]
dataset = dict(type='ImageFolder', data_root=data_root, metainfo=dict(classes=classes))
train_dataloader = dict(
    batch_size=64,  # CHANGE if memory runs out, and train with --auto-scale-lr.
    num_workers=4,
    dataset=dict(data_prefix='train', pipeline=train_pipeline, **dataset),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=4,
    dataset=dict(data_prefix='val', pipeline=test_pipeline, **dataset),
)
test_dataloader = val_dataloader
# The second averages over classes: rare classes count as much as frequent ones.
val_evaluator = [
    dict(type='TopKAccuracy', topk=(1, 5)),
    dict(type='SingleLabelMetric', items=('precision', 'recall', 'f1-score')),
]
test_evaluator = val_evaluator

# CHANGE max_epochs, and the schedule follows. 30 is the length of the published
# fine-tuning, enough for pretrained weights.
train_cfg = dict(by_epoch=True, max_epochs=30, val_interval=1)
# This project's values, a starting point: the learning rate of the heads is lr, of the
# stem lr * 0.8^19 = lr / 70.
optim_wrapper = dict(
    constructor='VOLOLayerDecayOptimWrapperConstructor',
    optimizer=dict(lr=2e-4, weight_decay=0.05),
    clip_grad=dict(max_norm=1.0),
    paramwise_cfg=dict(layer_decay_rate=0.8),
)
# Their factors multiply. The cosine ends with the training.
param_scheduler = [
    dict(
        type='LinearLR', start_factor=1e-2, begin=0, end=2, convert_to_iter_based=True
    ),
    dict(type='CosineAnnealingLR', eta_min=0.0, convert_to_iter_based=True),
]
# The learning rate is for 64 images per step, on one GPU or several.
auto_scale_lr = dict(base_batch_size=64, enable=False)
default_hooks = dict(
    logger=dict(interval=10), checkpoint=dict(save_best='accuracy/top1')
)
