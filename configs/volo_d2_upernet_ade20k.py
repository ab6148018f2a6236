# UPerNet with VOLO-D2 on ADE20K, 512x512 crops, 160k iterations. The authors
# report no result.
_base_ = ['volo_d1_upernet_ade20k.py']

model = dict(
    backbone=dict(arch='d2', drop_path_rate=0.2),
    decode_head=dict(in_channels=[256, 512, 512, 512]),
    auxiliary_head=dict(in_channels=512),
)
