# UPerNet with VOLO-D3 on ADE20K, 512x512 crops, 160k iterations. The authors
# report mIoU 52.9 (multi-scale).
_base_ = ['volo_d1_upernet_ade20k.py']

model = dict(
    backbone=dict(arch='d3', drop_path_rate=0.5),
    decode_head=dict(in_channels=[256, 512, 512, 512]),
    auxiliary_head=dict(in_channels=512),
)
