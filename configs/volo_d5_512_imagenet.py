# Fine-tune VOLO-D5 at 512 with token labels on 32x32 tokens and the ground-truth
# variant of the class loss. The authors published no recipe for it; this is the one of
# d3: 8 GPUs x 30 = 240 images per step. It starts from the weights trained at 224; set
# your file with --cfg-options load_from=FILE.
_base_ = [
    '_base_/models/volo_token_label.py',
    '_base_/datasets/imagenet_512_pad_token_label.py',
    '_base_/schedules/imagenet_finetune_30e.py',
    '_base_/classification_runtime.py',
]

model = dict(
    backbone=dict(arch='d5', img_size=512, drop_path_rate=0.75),
    ground_truth=True,
)
load_from = 'd5_224_86.10.pth.tar'
auto_scale_lr = dict(base_batch_size=240)
