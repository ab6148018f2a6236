# UPerNet with VOLO-D1 on Cityscapes, 1024x1024 crops, 8 GPUs x 1 image, 80k
# iterations. Start from ImageNet weights (the authors', timm's or your own):
#
#   bash tools/dist_train.sh configs/volo_d1_upernet_cityscapes.py 8 --cfg-options \
#       model.backbone.init_cfg.type=Pretrained \
#       model.backbone.init_cfg.checkpoint=d1_224_84.2.pth.tar
#
# The crop size is the paper's, and so is the reported mIoU of 83.1 (multi-scale). The
# schedule is not, see _base_/schedules/upernet_80k.py.
_base_ = [
    '_base_/models/upernet_volo_d1.py',
    '_base_/datasets/cityscapes_1024x1024.py',
    '_base_/schedules/upernet_80k.py',
    '_base_/segmentation_runtime.py',
]

crop_size = (1024, 1024)
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(img_size=crop_size),
    # Windows overlap: the stride is two thirds of their size.
    test_cfg=dict(mode='slide', crop_size=crop_size, stride=(683, 683)),
)
auto_scale_lr = dict(base_batch_size=8, enable=False)
