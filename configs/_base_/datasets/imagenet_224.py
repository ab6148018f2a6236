# ImageNet at 224: data_root/{train,val}/WNID/*.JPEG, or a flat val with meta/val.txt.
_base_ = ['classification_loaders.py']

dataset_type = 'ImageNetFolder'
data_root = 'data/imagenet/'
# Mean and standard deviation of the images as they are loaded, BGR.
bgr_mean = [103.53, 116.28, 123.675]
bgr_std = [57.375, 57.12, 58.395]

# Published: the crop and every augmentation choose bilinear or bicubic at random.
interpolations = ('bilinear', 'bicubic')
resized_crop = dict(type='RandomResizedCrop', scale=224, backend='pillow')
random_resized_crop = dict(
    type='RandomChoice',
    transforms=[[dict(resized_crop, interpolation=i)] for i in interpolations],
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
load_image = dict(type='LoadImageFromFile', imdecode_backend='pillow')
pack_inputs = dict(type='PackInputs')
after_random_crop = [
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
    pack_inputs,
]
train_pipeline = [load_image, random_resized_crop, *after_random_crop]
# Evaluation with Pillow and torchvision, which gives the authors' and timm's pixels
# exactly. Crop ratio 0.96: the short side is resized to 224 / 0.96 = 233.
before_resize = [load_image, dict(type='NumpyToPIL', to_rgb=True)]
resize = dict(type='torchvision/Resize', size=233, interpolation='bicubic')
center_crop = dict(type='torchvision/CenterCrop', size=224)
after_center_crop = [dict(type='PILToNumpy', to_bgr=True), pack_inputs]
test_pipeline = [*before_resize, resize, center_crop, *after_center_crop]
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
