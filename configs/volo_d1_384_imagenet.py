# Fine-tune VOLO-D1 at 384 with token labels on 24x24 tokens and the ground-truth
# variant of the class loss, as published: 8 GPUs x 64 = 512 images per step. It starts
# from the weights trained at 224; set your file with --cfg-options load_from=FILE.
_base_ = [
    '_base_/models/volo_token_label.py',
    '_base_/datasets/imagenet_384_token_label.py',
    '_base_/schedules/imagenet_finetune_30e.py',
    '_base_/classification_runtime.py',
]

model = dict(
    backbone=dict(arch='d1', img_size=384, drop_path_rate=0.1),
    ground_truth=True,
)
load_from = 'd1_224_84.2.pth.tar'
