# UPerNet with VOLO-D5 on ADE20K, 512x512 crops, 160k iterations. The authors
# report mIoU 54.3 (multi-scale).
_base_ = ['volo_d1_upernet_ade20k.py']

model = dict(
    backbone=dict(arch='d5', drop_path_rate=0.75),
    decode_head=dict(in_channels=[384, 768, 768, 768]),
    auxiliary_head=dict(in_channels=768),
)
