# data_root/{train,val}/WNID/*.JPEG; val may be flat with meta/val.txt instead.
_base_ = ['classification_loaders.py']

dataset_type = 'ImageNetFolder'
data_root = 'data/imagenet/'
# Of the images as they are loaded, BGR.
bgr_mean = [103.53, 116.28, 123.675]
bgr_std = [57.375, 57.12, 58.395]

# Published: bilinear or bicubic by chance, for the crop and for every augmentation.
interpolations = ('bilinear', 'bicubic')
random_resized_crop = dict(
    type='RandomChoice',
    transforms=[
        [dict(type='RandomResizedCrop', scale=224, backend='pillow', interpolation=i)]
        for i in interpolations
    ],
)
# One of the two policies of rand-m9-mstd0.5-inc1.
random_policy = dict(
    type='RandomChoice',
    transforms=[
        [
            dict(
                type='RandAugment',
                policies='timm_increasing',
                num_policies=1,
                total_level=10,
                magnitude_level=9,
                magnitude_std=0.5,
                hparams=dict(pad_val=[104, 116, 124], interpolation=i),
            )
        ]
        for i in interpolations
    ],
)
train_pipeline = [
    dict(type='LoadImageFromFile', imdecode_backend='pillow'),
    random_resized_crop,
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    random_policy,
    random_policy,
    dict(
        type='RandomErasing',
        erase_prob=0.25,
        mode='rand',
        min_area_ratio=0.02,
        max_area_ratio=1 / 3,
        fill_color=bgr_mean,
        fill_std=bgr_std,
    ),
    dict(type='PackInputs'),
]
# Pillow and torchvision, as in the authors' and timm's evaluation, to the pixel. Crop
# ratio 0.96: the short side is resized to 224 / 0.96 = 233.
test_pipeline = [
    dict(type='LoadImageFromFile', imdecode_backend='pillow'),
    dict(type='NumpyToPIL', to_rgb=True),
    dict(type='torchvision/Resize', size=233, interpolation='bicubic'),
    dict(type='torchvision/CenterCrop', size=224),
    dict(type='PILToNumpy', to_bgr=True),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    batch_size=128,
    num_workers=8,
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        split='train',
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=128,
    num_workers=8,
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        split='val',
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
