# ImageNet at 224: data_root/{train,val}/WNID/*.JPEG, or a flat val with meta/val.txt.
_base_ = ['classification_loaders.py']

dataset_type = 'ImageNetFolder'
data_root = 'data/imagenet/'
# Mean and standard deviation of the images as they are loaded, BGR.
bgr_mean = [103.53, 116.28, 123.675]
bgr_std = [57.375, 57.12, 58.395]

# Pixels as they are stored: like the authors and timm, do not rotate images by EXIF.
load_image = dict(
    type='LoadImageFromFile',
    imdecode_backend='pillow',
    color_type='color_ignore_orientation',
)
# Published: the crop chooses bilinear or bicubic at random, and so does RandAugment.
interpolations = ('bilinear', 'bicubic')
resized_crop = dict(type='RandomResizedCrop', scale=224, backend='pillow')
random_resized_crop = dict(
    type='RandomChoice',
    transforms=[[dict(resized_crop, interpolation=i)] for i in interpolations],
)
flip_and_augment = [
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='TimmRandAugment', policy='rand-m9-mstd0.5-inc1', fill=[124, 116, 104]),
]
erase = dict(type='NormalizedErasing', erase_prob=0.25, mean=bgr_mean, std=bgr_std)
pack_inputs = dict(type='PackInputs')
# The order of timm, without label maps.
train_pipeline = [
    load_image,
    random_resized_crop,
    *flip_and_augment,
    erase,
    pack_inputs,
]
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
    # Published: 1251 steps of 8 x 128 images an epoch.
    drop_last=True,
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
