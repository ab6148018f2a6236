_base_ = ['upernet_volo_d1.py']

model = dict(
    backbone=dict(arch='tiny', drop_path_rate=0.0),
    decode_head=dict(in_channels=[64, 160, 160, 160], channels=64),
    auxiliary_head=dict(in_channels=160, channels=64),
)
