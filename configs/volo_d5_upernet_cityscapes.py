# UPerNet with VOLO-D5 on Cityscapes, 1024x1024 crops, 80k iterations. The authors
# report no result.
_base_ = ['volo_d1_upernet_cityscapes.py']

model = dict(
    backbone=dict(arch='d5', drop_path_rate=0.75),
    decode_head=dict(in_channels=[384, 768, 768, 768]),
    auxiliary_head=dict(in_channels=768),
)
