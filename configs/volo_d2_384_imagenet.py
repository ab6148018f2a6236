# Fine-tune VOLO-D2 at 384 with token labels on 24x24 tokens and the ground-truth
# variant of the class loss, as published: 8 GPUs x 48 = 384 images per step. It starts
# from the weights trained at 224; set your file with --cfg-options load_from=FILE.
_base_ = ['volo_d1_384_imagenet.py']

model = dict(backbone=dict(arch='d2', drop_path_rate=0.2))
train_dataloader = dict(batch_size=48)
load_from = 'd2_224_85.2.pth.tar'
auto_scale_lr = dict(base_batch_size=384)
