# The synthetic shapes of `make demo` (demo/shapes.py) at two thirds of their size:
# data_root/images/{train,val}/CLASS/*.jpg.
_base_ = ['classification_loaders.py']

dataset_type = 'ImageFolder'
data_root = 'data/shapes/'
resize = dict(type='Resize', scale=64, backend='pillow', interpolation='bicubic')
train_pipeline = [
    dict(type='LoadImageFromFile', imdecode_backend='pillow'),
    resize,
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='RandomFlip', prob=0.5, direction='vertical'),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile', imdecode_backend='pillow'),
    resize,
    dict(type='PackInputs'),
]
train_dataloader = dict(
    batch_size=16,
    num_workers=1,
    drop_last=True,
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix='images/train',
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=40,
    num_workers=1,
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix='images/val',
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='TopKAccuracy', topk=(1,))
test_evaluator = val_evaluator
