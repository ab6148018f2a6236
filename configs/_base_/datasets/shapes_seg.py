# The synthetic shapes of `make demo` (demo/shapes.py) at two thirds of their size:
# data_root/{images,masks}/{train,val}/CLASS/*.{jpg,png}.
_base_ = ['segmentation_loaders.py']

dataset_type = 'SegmentationDataset'
data_root = 'data/shapes/'
metainfo = dict(
    classes=(
        'background',
        'circle',
        'crescent',
        'cross',
        'ring',
        'square',
        'star',
        'triangle',
    ),
    palette=[
        [40, 40, 40],
        [230, 75, 60],
        [250, 200, 50],
        [60, 180, 100],
        [70, 130, 240],
        [170, 90, 210],
        [250, 130, 190],
        [80, 210, 220],
    ],
)
resize = dict(type='Resize', scale=(64, 64), backend='pillow', interpolation='bicubic')
train_pipeline = [
    dict(type='LoadImageFromFile', imdecode_backend='pillow'),
    dict(type='LoadAnnotations'),
    dict(type='CheckSegmentationSample'),
    resize,
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='RandomFlip', prob=0.5, direction='vertical'),
    dict(type='PackSegInputs'),
]
# Masks are loaded after resizing, so that the evaluation is at full size.
test_pipeline = [
    dict(type='LoadImageFromFile', imdecode_backend='pillow'),
    resize,
    dict(type='LoadAnnotations'),
    dict(type='CheckSegmentationSample'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    batch_size=16,
    num_workers=1,
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        metainfo=metainfo,
        data_prefix=dict(img_path='images/train', seg_map_path='masks/train'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=40,
    num_workers=1,
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        metainfo=metainfo,
        data_prefix=dict(img_path='images/val', seg_map_path='masks/val'),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
