# UPerNet with VOLO-D2 on Cityscapes, 1024x1024 crops, 80k iterations. The authors
# report no result.
_base_ = ['volo_d1_upernet_cityscapes.py']

model = dict(
    backbone=dict(arch='d2', drop_path_rate=0.2),
    decode_head=dict(in_channels=[256, 512, 512, 512]),
    auxiliary_head=dict(in_channels=512),
)
