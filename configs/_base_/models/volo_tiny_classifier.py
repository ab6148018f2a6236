_base_ = ['volo_classifier.py']

model = dict(backbone=dict(arch='tiny', img_size=128, drop_path_rate=0.0))
