# Fine-tune VOLO-D3 at 448 with token labels on 28x28 tokens and the ground-truth
# variant of the class loss, as published: 8 GPUs x 30 = 240 images per step. It starts
# from the weights trained at 224; set your file with --cfg-options load_from=FILE.
_base_ = [
    '_base_/models/volo_token_label.py',
    '_base_/datasets/imagenet_448_token_label.py',
    '_base_/schedules/imagenet_finetune_30e.py',
    '_base_/classification_runtime.py',
]

model = dict(
    backbone=dict(arch='d3', img_size=448, drop_path_rate=0.5),
    ground_truth=True,
)
load_from = 'd3_224_85.4.pth.tar'
auto_scale_lr = dict(base_batch_size=240)
