# Fine-tune VOLO-D5 at 448 with token labels on 28x28 tokens and the ground-truth
# variant of the class loss. The authors published no recipe for it; this is the one of
# d3: 8 GPUs x 30 = 240 images per step. It starts from the weights trained at 224; set
# your file with --cfg-options load_from=FILE.
_base_ = ['volo_d4_448_imagenet.py']

model = dict(backbone=dict(arch='d5', drop_path_rate=0.75))
load_from = 'd5_224_86.10.pth.tar'
