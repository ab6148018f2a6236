# Only the sizes differ; 512 / 1.15 = 445, and the crop pads with black.
_base_ = ['imagenet_224_token_label.py']

train_pipeline = _base_.train_pipeline
train_pipeline[1].transforms[0][0].scale = 512
train_pipeline[1].transforms[1][0].scale = 512
test_pipeline = _base_.test_pipeline
test_pipeline[2].size = 445
test_pipeline[3].size = 512
train_dataloader = dict(
    batch_size=30, dataset=dict(dataset=dict(pipeline=train_pipeline))
)
val_dataloader = dict(batch_size=30, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
