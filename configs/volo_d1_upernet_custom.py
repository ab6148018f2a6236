# UPerNet with VOLO-D1 on your own images and masks; docs/own_data.md is the guide. Copy
# this file within configs/ and change the lines marked CHANGE.
#
#   data_root/images/{train,val}/NAME.jpg
#   data_root/masks/{train,val}/NAME.png    one channel, 8 bits: the index of the class
_base_ = [
    '_base_/models/upernet_volo_d1.py',  # on a CPU: upernet_volo_tiny.py
    '_base_/datasets/segmentation_loaders.py',
    '_base_/schedules/adamw.py',
    '_base_/segmentation_runtime.py',
]

# CHANGE: the folder of images and masks, or --cfg-options data_root=FOLDER.
data_root = 'data/my_masks/'
# CHANGE: names of the mask values 0, 1, 2, ..., and the color (RGB) to draw each in.
# The number of classes of both heads follows.
classes = ('background', 'road', 'car')
palette = [[40, 40, 40], [128, 64, 128], [0, 0, 142]]
# CHANGE if the masks have other values than 0, 1, 2, ...: {255: 1} for masks of 0 and
# 255. Without it, 255 means "unlabeled", and nothing is learned.
label_map = {}
# CHANGE: mask values that mean "unlabeled". 255 always does, unless label_map has it.
void_labels = ()
# CHANGE if your files have other suffixes.
img_suffix, seg_map_suffix = '.jpg', '.png'
# CHANGE if some classes are rare: the weight of each class in the loss, in the order of
# `classes`, for instance [0.5, 1.0, 5.0].
class_weight = None
# CHANGE to suit the images: the size of training crops (height, width), and the size
# that images are resized to fit into beforehand. Here their short side becomes 512.
crop_size = (512, 512)
scale = (2048, 512)

# The mean over the labeled pixels. With class weights, mmseg's loss computes it anyway,
# and fails with avg_non_ignore.
loss = dict(class_weight=class_weight, avg_non_ignore=class_weight is None)
# Start from ImageNet weights (the authors', timm's or your own classifier's) with
# --cfg-options model.backbone.init_cfg.type=Pretrained
#     model.backbone.init_cfg.checkpoint=d1_224_84.2.pth.tar
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(
        img_size=crop_size,
        # CHANGE if there are few images: 0 to 4, see VOLO. The stem and that many
        # stages keep their weights.
        frozen_stages=-1,
    ),
    decode_head=dict(num_classes=len(classes), loss_decode=loss),
    auxiliary_head=dict(num_classes=len(classes), loss_decode=loss),
)

train_pipeline = [
    dict(type='LoadImageFromFile', imdecode_backend='pillow'),
    dict(type='LoadAnnotations'),
    dict(type='CheckSegmentationSample'),
    dict(type='RandomResize', scale=scale, ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    # CHANGE: remove it if left and right differ.
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile', imdecode_backend='pillow'),
    dict(type='Resize', scale=scale, keep_ratio=True),
    # After Resize, so that the ground truth keeps its size.
    dict(type='LoadAnnotations'),
    dict(type='CheckSegmentationSample'),
    dict(type='PackSegInputs'),
]
tta_pipeline = [
    dict(type='LoadImageFromFile', imdecode_backend='pillow'),
    dict(
        type='TestTimeAug',
        transforms=[
            [
                dict(
                    type='Resize',
                    scale=tuple(int(side * ratio) for side in scale),
                    keep_ratio=True,
                )
                for ratio in (0.75, 1.0, 1.25)
            ],
            [
                dict(type='RandomFlip', prob=0.0, direction='horizontal'),
                dict(type='RandomFlip', prob=1.0, direction='horizontal'),
            ],
            [dict(type='LoadAnnotations')],
            [dict(type='PackSegInputs')],
        ],
    ),
]
dataset = dict(
    type='SegmentationDataset',
    data_root=data_root,
    metainfo=dict(classes=classes, palette=palette),
    label_map=label_map,
    void_labels=void_labels,
    img_suffix=img_suffix,
    seg_map_suffix=seg_map_suffix,
)
train_dataloader = dict(
    batch_size=8,  # CHANGE if memory runs out, and train with --auto-scale-lr.
    num_workers=4,
    dataset=dict(
        data_prefix=dict(img_path='images/train', seg_map_path='masks/train'),
        pipeline=train_pipeline,
        **dataset,
    ),
)
val_dataloader = dict(
    num_workers=4,
    dataset=dict(
        data_prefix=dict(img_path='images/val', seg_map_path='masks/val'),
        pipeline=test_pipeline,
        **dataset,
    ),
)
test_dataloader = val_dataloader

# CHANGE max_iters, and the schedule follows. A good value is 50 to 150 epochs of your
# images.
train_cfg = dict(type='IterBasedTrainLoop', max_iters=6000, val_interval=500)
# This project's values, a starting point: the learning rate of the heads is lr, of the
# stem lr * 0.9^19 = lr / 7.
optim_wrapper = dict(
    constructor='VOLOLayerDecayOptimWrapperConstructor',
    optimizer=dict(lr=1e-4, weight_decay=0.01),
    clip_grad=dict(max_norm=1.0),
    paramwise_cfg=dict(layer_decay_rate=0.9),
)
# Their factors multiply. The decay ends with the training.
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=200),
    dict(type='PolyLR', eta_min=0.0, power=1.0, by_epoch=False),
]
# The learning rate is for 8 images per step, on one GPU or several.
auto_scale_lr = dict(base_batch_size=8, enable=False)
default_hooks = dict(checkpoint=dict(interval=500))
