# VOLO-D5 on ImageNet at 224, 8 GPUs x 128 images. The authors published no recipe
# for it; this is the one of d3, with drop path 0.75.
_base_ = ['volo_d4_imagenet.py']

model = dict(backbone=dict(arch='d5', drop_path_rate=0.75))
