# Fine-tune VOLO-D5 at 448 with token labels on 28x28 tokens and the ground-truth
# variant of the class loss. The recipe was not published; this is d3's: 8 GPUs x 30 =
# 240 images a step. It starts from the weights trained at 224: name yours with
# --cfg-options load_from=FILE.
_base_ = ['volo_d4_448_imagenet.py']

model = dict(
    backbone=dict(arch='d5', drop_path_rate=0.75),
    head=dict(arch='d5'),
)
load_from = 'd5_224_86.10.pth.tar'
