# CamVid at 480x360, 11 classes; mask value 11 is unlabeled:
# data_root/images/{train,val}/*.jpg, data_root/masks/{train,val}/*.png.
_base_ = ['segmentation_loaders.py']

dataset_type = 'SegmentationDataset'
data_root = 'data/camvid/'
metainfo = dict(
    classes=(
        'sky',
        'building',
        'pole',
        'road',
        'pavement',
        'tree',
        'sign symbol',
        'fence',
        'car',
        'pedestrian',
        'bicyclist',
    ),
    palette=[
        [128, 128, 128],
        [128, 0, 0],
        [192, 192, 128],
        [128, 64, 128],
        [60, 40, 222],
        [128, 128, 0],
        [192, 128, 128],
        [64, 64, 128],
        [64, 0, 128],
        [64, 64, 0],
        [0, 128, 192],
    ],
)
crop_size = (352, 352)
load_image = dict(type='LoadImageFromFile', imdecode_backend='pillow')
load_masks = [dict(type='LoadAnnotations'), dict(type='CheckSegmentationSample')]
pack_inputs = dict(type='PackSegInputs')
random_resize = dict(
    type='RandomResize', scale=(480, 360), ratio_range=(0.75, 1.75), keep_ratio=True
)
random_crop = dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75)
after_random_crop = [
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    pack_inputs,
]
train_pipeline = [
    load_image,
    *load_masks,
    random_resize,
    random_crop,
    *after_random_crop,
]
test_pipeline = [load_image, *load_masks, pack_inputs]
tta_pipeline = [
    load_image,
    dict(
        type='TestTimeAug',
        transforms=[
            [
                dict(type='Resize', scale_factor=ratio, keep_ratio=True)
                for ratio in (0.75, 1.0, 1.25)
            ],
            [
                dict(type='RandomFlip', prob=0.0, direction='horizontal'),
                dict(type='RandomFlip', prob=1.0, direction='horizontal'),
            ],
            [dict(type='LoadAnnotations')],
            [pack_inputs],
        ],
    ),
]
train_dataloader = dict(
    batch_size=8,
    num_workers=2,
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        metainfo=metainfo,
        void_labels=(11,),
        data_prefix=dict(img_path='images/train', seg_map_path='masks/train'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    num_workers=2,
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        metainfo=metainfo,
        void_labels=(11,),
        data_prefix=dict(img_path='images/val', seg_map_path='masks/val'),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
